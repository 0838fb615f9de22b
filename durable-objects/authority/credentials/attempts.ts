/**
 * How often an exchange may be tried: ten a minute of each role, and none while a failure is the answer. In rows, for an
 * object that is evicted, or comes back after a crash, must not have forgotten what it was told to wait for. A clock that
 * goes back frees nobody: what lies ahead of it by less than the window counts as well.
 */
import { and, asc, between, eq, lt, not, or, gt } from "drizzle-orm";
import type { Denial } from "../../../core/denial.ts";
import { FAILURE_PAUSE_MAX_MS } from "../../../core/credential/failure.ts";
import type { EpochMs } from "../../../core/ids.ts";
import { EXCHANGES_MINUTE_MAX } from "../../../core/limits.ts";
import * as t from "../../../drizzle/authority/credential-tables.ts";
import type { Context } from "../context.ts";
import type { Failed } from "./flight.ts";

const MINUTE_MS = 60_000;
/** How long after its pause a failure still counts as the one before the next. */
const REMEMBERED_MS = 600_000;

export class Attempts {
  readonly #context: Context;

  constructor(context: Context) {
    this.#context = context;
  }

  /** Counts an exchange that begins now. Call inside a decision. @returns why it must not, or null */
  begin(key: string, role: string, now: EpochMs): Denial | null {
    const failed = this.#failureOf(key);
    // Nothing is told to wait longer than the longest pause: what says so was written by a clock that has gone back since.
    if (failed !== undefined && now < failed.until && failed.until - now <= FAILURE_PAUSE_MAX_MS) {
      const { kind, code, until } = failed;
      return { reason: "exchange_failed", kind, code, retryAfterMs: until - now };
    }
    const { db } = this.#context;
    const table = t.exchangeAttempts;
    const inWindow = between(table.at, now - MINUTE_MS + 1, now + MINUTE_MS - 1);
    db.delete(table).where(not(inWindow)).run();
    const begun = db
      .select({ at: table.at })
      .from(table)
      .where(and(eq(table.role, role), inWindow))
      .orderBy(asc(table.at))
      .all();
    const [first] = begun;
    if (first !== undefined && begun.length >= EXCHANGES_MINUTE_MAX)
      return { reason: "rate_limited", retryAfterMs: Math.min(first.at, now) + MINUTE_MS - now };
    db.insert(table).values({ role, at: now }).run();
    return null;
  }

  /** How often what this key asks for has failed in a row. */
  failures(key: string): number {
    return this.#failureOf(key)?.failures ?? 0;
  }

  /** It is the answer for everyone until its pause is over. Call inside a decision. */
  failed(key: string, { denial, until, failures }: Failed, now: EpochMs): void {
    const { db } = this.#context;
    const table = t.exchangeFailures;
    const isForgotten = or(lt(table.until, now - REMEMBERED_MS), gt(table.until, now + REMEMBERED_MS));
    db.delete(table).where(isForgotten).run();
    const row = { kind: denial.kind, code: denial.code, until, failures };
    db.insert(table)
      .values({ key, ...row })
      .onConflictDoUpdate({ target: table.key, set: row })
      .run();
  }

  /** Call inside a decision. */
  succeeded(key: string): void {
    this.#context.db.delete(t.exchangeFailures).where(eq(t.exchangeFailures.key, key)).run();
  }

  #failureOf(key: string): typeof t.exchangeFailures.$inferSelect | undefined {
    return this.#context.db.select().from(t.exchangeFailures).where(eq(t.exchangeFailures.key, key)).get();
  }
}
