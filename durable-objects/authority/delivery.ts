/**
 * The outbox: audit rows go to D1 in their user's order, each exactly once, together with the rows of lists that follow
 * from them. One D1 batch is one transaction, and its audit rows are plain inserts: a batch that had arrived before,
 * though its answer was lost, fails whole on their key, and the cursor then follows what D1 says it has.
 */
import { asc, eq, gt } from "drizzle-orm";
import { openD1 } from "../../drizzle/d1/open.ts";
import { DELIVERY_BATCH_ROWS } from "../../core/limits.ts";
import { lastDelivered, statementsOf, type D1 } from "../../drizzle/d1/outbox.ts";
import * as t from "../../drizzle/authority/schema.ts";
import type { Alarms } from "./alarms.ts";
import type { Context } from "./context.ts";

export class Delivery {
  readonly #context: Context;
  readonly #d1: D1;

  constructor(context: Context, database: D1Database) {
    this.#context = context;
    this.#d1 = openD1(database);
  }

  /** Up to where D1 has confirmed. */
  get delivered(): number {
    return (
      this.#context.db
        .select({ value: t.counters.value })
        .from(t.counters)
        .where(eq(t.counters.name, "delivered"))
        .get()?.value ?? 0
    );
  }

  /** The alarm's work: everything that is not confirmed, in batches. */
  async run(alarms: Alarms): Promise<void> {
    for (;;) {
      const from = this.delivered;
      const rows = this.#context.db
        .select()
        .from(t.audit)
        .where(gt(t.audit.seq, from))
        .orderBy(asc(t.audit.seq))
        .limit(DELIVERY_BATCH_ROWS)
        .all();
      const last = rows.at(-1);
      if (last === undefined) break;
      try {
        const [first, ...rest] = rows.flatMap((row) => statementsOf(this.#d1, this.#context.user, row));
        if (first !== undefined) await this.#d1.batch([first, ...rest]);
        this.#confirm(last.seq);
      } catch (failure) {
        const known = await lastDelivered(this.#d1, this.#context.user);
        if (known <= from) throw failure; // D1 has none of it: another try
        this.#confirm(known);
      }
    }
    this.#context.commit(() => {
      const next = this.#context.db
        .select({ seq: t.audit.seq })
        .from(t.audit)
        .where(gt(t.audit.seq, this.delivered))
        .limit(1)
        .get();
      if (next === undefined) alarms.done("deliver", "");
      else alarms.schedule("deliver", "", this.#context.now());
    });
  }

  #confirm(seq: number): void {
    this.#context.commit(() => {
      this.#context.db
        .insert(t.counters)
        .values({ name: "delivered", value: seq })
        .onConflictDoUpdate({ target: t.counters.name, set: { value: seq } })
        .run();
    });
  }
}
