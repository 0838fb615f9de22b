/**
 * Answers, counted by role: in memory for a second at most, then in a row, then, a minute later, in the audit log, whose
 * rows D1 adds up for operators. A warm answer costs no row of its own, and one that idles afterwards is still counted.
 */
import { eq, sql } from "drizzle-orm";
import type { EpochMs } from "../../../core/ids.ts";
import * as t from "../../../drizzle/authority/credential-tables.ts";
import type { Alarms } from "../alarms.ts";
import type { Audit } from "../audit.ts";
import type { Context } from "../context.ts";

const WRITTEN_MS = 1_000;
const TOLD_MS = 60_000;

export class Uses {
  readonly #context: Context;
  readonly #audit: Audit;
  readonly #alarms: Alarms;
  readonly #unwritten = new Map<string, number>();
  #writtenAt = 0;

  constructor(context: Context, audit: Audit, alarms: Alarms) {
    this.#context = context;
    this.#audit = audit;
    this.#alarms = alarms;
    alarms.define("uses", { where: "local", run: () => this.#tell() });
  }

  count(role: string, now: EpochMs): void {
    this.#unwritten.set(role, (this.#unwritten.get(role) ?? 0) + 1);
    if (Math.abs(now - this.#writtenAt) < WRITTEN_MS) return;
    this.#writtenAt = now;
    this.#context.commit(() => {
      this.#write();
      this.#alarms.schedule("uses", "", (now + TOLD_MS) as EpochMs);
    });
  }

  /** Call inside a decision. */
  #write(): void {
    const table = t.credentialUses;
    for (const [role, answers] of this.#unwritten) {
      this.#context.db
        .insert(table)
        .values({ role, answers })
        .onConflictDoUpdate({ target: table.role, set: { answers: sql`${table.answers} + ${answers}` } })
        .run();
    }
    this.#context.afterCommit(() => this.#unwritten.clear());
  }

  /** The alarm's work. */
  #tell(): void {
    this.#context.commit(() => {
      const now = this.#context.now();
      this.#write();
      const { db } = this.#context;
      for (const { role, answers } of db.select().from(t.credentialUses).all()) {
        this.#audit.append("credential.served", null, { role, answers }, now);
        db.delete(t.credentialUses).where(eq(t.credentialUses.role, role)).run();
      }
    });
  }
}
