/**
 * The person whose object this is: tier and state. The tier here decides (D1 holds a copy); an operator is a person of
 * the tier `admin`.
 */
import { eq } from "drizzle-orm";
import type { Tier } from "../../core/config.ts";
import type { Denial } from "../../core/denial.ts";
import type { EpochMs } from "../../core/ids.ts";
import { err, ok, type Result } from "../../core/result.ts";
import type { PersonView } from "../../core/wire/answers.ts";
import type { By, Enrolment } from "../../core/wire/questions.ts";
import * as t from "../../drizzle/authority/schema.ts";
import type { Audit } from "./audit.ts";
import type { Context } from "./context.ts";
import { lockOf } from "./lock-of.ts";

export type PersonRow = typeof t.user.$inferSelect;

/** The members of an audit row that say who did it. */
export function whoOf(by: By): { by: { kind: string; id: string }; reason?: string } {
  return { by: { kind: by.kind, id: by.id }, ...(by.reason === null ? {} : { reason: by.reason }) };
}

export class People {
  readonly #context: Context;
  readonly #audit: Audit;
  readonly #row: () => { get(): PersonRow | undefined };

  constructor(context: Context, audit: Audit) {
    this.#context = context;
    this.#audit = audit;
    this.#row = context.prepared((db) => db.select().from(t.user));
  }

  row(): PersonRow | undefined {
    return this.#row().get();
  }

  /** The person, unless there is none here or they are disabled. Call inside a decision. */
  requireActive(): Result<PersonRow, Denial> {
    const row = this.row();
    if (row === undefined) return err({ reason: "token_invalid", fault: "unknown_node" });
    if (row.state !== "active") return err({ reason: "user_disabled" });
    const lock = lockOf(this.#context.db, row.id, this.#context.now());
    return lock === undefined ? ok(row) : err({ reason: "locked", what: "user", until: lock.until as EpochMs | null });
  }

  /** Creates the row where there is none; what is there already decides. Call inside a decision. */
  ensure({ username, tier, createdAt }: Enrolment, now: EpochMs): PersonRow {
    const known = this.row();
    if (known !== undefined) return known;
    const row: PersonRow = {
      id: this.#context.user,
      username,
      tier,
      state: "active",
      createdAt,
      settled: 0,
      day: 0,
      settledDay: 0,
      tats: null,
    };
    this.#context.db.insert(t.user).values(row).run();
    this.#audit.append("user.enrolled", null, { tier }, now);
    return row;
  }

  enrol(enrolment: Enrolment): Result<PersonView, Denial> {
    return this.#context.decide(() => ok(this.#view(this.ensure(enrolment, this.#context.now()))));
  }

  person(): Result<PersonView, Denial> {
    const row = this.row();
    return row === undefined ? err({ reason: "not_found" }) : ok(this.#view(row));
  }

  setTier(tier: Tier, by: By): Result<PersonView, Denial> {
    return this.#change({ tier }, (before) =>
      this.#audit.append("user.tier_changed", null, { ...whoOf(by), tier, before: before.tier }, this.#context.now()),
    );
  }

  /** The mark of a disabled user; what runs is ended by the caller in the same decision. */
  markDisabled(): void {
    this.#context.db.update(t.user).set({ state: "disabled" }).run();
  }

  enable(by: By): Result<PersonView, Denial> {
    return this.#change({ state: "active" }, () =>
      this.#audit.append("user.enabled", null, whoOf(by), this.#context.now()),
    );
  }

  #change(
    to: Partial<Pick<PersonRow, "tier" | "state">>,
    record: (before: PersonRow) => void,
  ): Result<PersonView, Denial> {
    return this.#context.decide(() => {
      const before = this.row();
      if (before === undefined) return err({ reason: "not_found" });
      this.#context.db.update(t.user).set(to).where(eq(t.user.id, before.id)).run();
      record(before);
      return ok(this.#view({ ...before, ...to }));
    });
  }

  #view({ tier, state }: PersonRow): PersonView {
    return { id: this.#context.user, tier, state };
  }
}
