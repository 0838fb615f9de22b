/**
 * The audit log, which is the outbox too: rows with a gapless sequence, canonical bytes and a hash over the row before,
 * written in the transaction of the change they tell of. Adding a kind touches `AuditBody` and, where lists want it,
 * drizzle/d1/outbox.ts. Nothing secret goes into a body: ids, names, amounts, reasons.
 */
import { desc } from "drizzle-orm";
import { canonicalJson } from "../../core/audit/canonical.ts";
import type { EpochMs } from "../../core/ids.ts";
import { DELIVERY_DELAY_MS } from "../../core/limits.ts";
import type { AuditBody, AuditKind } from "../../core/audit/kinds.ts";
import * as t from "../../drizzle/authority/schema.ts";
import type { Alarms } from "./alarms.ts";
import type { Context } from "./context.ts";

export class Audit {
  readonly #context: Context;
  readonly #alarms: Alarms;
  readonly #last: () => { get(): { seq: number; hash: string } | undefined };

  constructor(context: Context, alarms: Alarms) {
    this.#context = context;
    this.#last = context.prepared((db) =>
      db.select({ seq: t.audit.seq, hash: t.audit.hash }).from(t.audit).orderBy(desc(t.audit.seq)).limit(1),
    );
    this.#alarms = alarms;
  }

  /** Call inside the transaction of the change. @returns the row's number, by which it can be named */
  append<K extends AuditKind>(kind: K, session: string | null, body: AuditBody[K], at: EpochMs): number {
    const { db } = this.#context;
    const last = this.#last().get();
    const seq = (last?.seq ?? 0) + 1;
    const text = canonicalJson({ ...body, user: this.#context.user, seq, at, kind, session });
    const hash = this.#context.sha256(`${last?.hash ?? this.#context.user}\n${text}`);
    db.insert(t.audit).values({ seq, at, kind, session, body: text, hash }).run();
    this.#alarms.schedule("deliver", "", (this.#context.now() + DELIVERY_DELAY_MS) as EpochMs);
    return seq;
  }
}
