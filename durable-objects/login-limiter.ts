/**
 * Sixteen of them, fixed, so that no name and no address ever creates an object. Each keeps how far a key has used its
 * allowance up (core/signin.ts decides, this stores), forgets keys that are whole again by alarm, and never keeps more
 * than LIMITER_ROWS_MAX. It never sees a name, an address or a password: keys are digests.
 */
import { DurableObject } from "cloudflare:workers";
import type { EpochMs } from "../core/ids.ts";
import { ALLOWANCES, countTry, giveBack, LIMITER_ROWS_MAX, type AllowanceKind } from "../core/signin.ts";
import type { LimiterRpc } from "../core/wire/limiter.ts";

const SWEEP_EVERY_MS = 600_000;
/** Swept in one go when the table is full, so that a flood pays for one sweep in a thousand tries. */
const MAKE_ROOM_ROWS = 1_000;

export class LoginLimiter extends DurableObject<Env> implements LimiterRpc {
  readonly #sql: SqlStorage;
  #rows: number;

  constructor(ctx: DurableObjectState, env: Env) {
    super(ctx, env);
    this.#sql = ctx.storage.sql;
    this.#sql.exec("create table if not exists tries (key text primary key, full_at integer not null) without rowid");
    this.#sql.exec("create index if not exists tries_full_at on tries (full_at)");
    this.#rows = this.#count();
  }

  async attempt(kind: AllowanceKind, key: string): Promise<{ readonly retryAfterMs: number } | null> {
    const now = Date.now() as EpochMs;
    const row = `${kind}:${key}`;
    const known = this.#read(row);
    const decision = countTry(known, ALLOWANCES[kind], now);
    if (!decision.isAllowed) return { retryAfterMs: decision.retryAfterMs };
    if (known === null) this.#makeRoom();
    this.#write(row, decision.fullAt);
    if (known === null) this.#rows++;
    if ((await this.ctx.storage.getAlarm()) === null) await this.ctx.storage.setAlarm(now + SWEEP_EVERY_MS);
    return null;
  }

  async refund(kind: AllowanceKind, key: string): Promise<void> {
    const row = `${kind}:${key}`;
    const known = this.#read(row);
    if (known !== null) this.#write(row, giveBack(known, ALLOWANCES[kind], Date.now() as EpochMs));
  }

  override async alarm(): Promise<void> {
    this.#sql.exec("delete from tries where full_at <= ?", Date.now());
    this.#rows = this.#count();
    if (this.#rows > 0) await this.ctx.storage.setAlarm(Date.now() + SWEEP_EVERY_MS);
  }

  #read(row: string): EpochMs | null {
    const [found] = this.#sql.exec<{ full_at: number }>("select full_at from tries where key = ?", row).toArray();
    return found === undefined ? null : (found.full_at as EpochMs);
  }

  #write(row: string, fullAt: EpochMs): void {
    this.#sql.exec(
      "insert into tries (key, full_at) values (?, ?) on conflict (key) do update set full_at = excluded.full_at",
      row,
      fullAt,
    );
  }

  /** The keys nearest to a whole allowance go first: a name under attack stays limited under a flood of others. */
  #makeRoom(): void {
    if (this.#rows < LIMITER_ROWS_MAX) return;
    this.#sql.exec("delete from tries where key in (select key from tries order by full_at limit ?)", MAKE_ROOM_ROWS);
    this.#rows = this.#count();
  }

  #count(): number {
    return this.#sql.exec<{ rows: number }>("select count(*) as rows from tries").one().rows;
  }
}
