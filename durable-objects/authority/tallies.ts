/**
 * Counted calls, gathered by node, entry, instance and minute, and reported to the audit log when the minute is over, or
 * when their session ends. Calls that have a row of their own are told of one by one.
 */
import { and, eq, lte, min, sql } from "drizzle-orm";
import type { EpochMs, NodePath } from "../../core/ids.ts";
import * as t from "../../drizzle/authority/schema.ts";
import type { Alarms } from "./alarms.ts";
import type { Audit } from "./audit.ts";
import type { Context } from "./context.ts";

/** What calls of one instance did. */
export interface Counted {
  readonly path: NodePath;
  readonly session: string;
  readonly slug: string;
  readonly instance: string;
  readonly calls: number;
  readonly errors: number;
  readonly cost: number;
  readonly firstAt: EpochMs;
  readonly lastAt: EpochMs;
}

const DELAY_MS = 5_000; // after its minute: calls of the last seconds are told of by then
const MINUTE_MS = 60_000;

export class Tallies {
  readonly #context: Context;
  readonly #audit: Audit;
  readonly #alarms: Alarms;

  constructor(context: Context, audit: Audit, alarms: Alarms) {
    this.#context = context;
    this.#audit = audit;
    this.#alarms = alarms;
  }

  /** Adds to the minute in which the first of the calls was admitted. Call inside a decision. */
  add({ path, session, slug, instance, calls, errors, cost, firstAt, lastAt }: Counted, now: EpochMs): void {
    const minute = Math.floor(firstAt / MINUTE_MS);
    const table = t.tallies;
    this.#context.db
      .insert(table)
      .values({ path, slug, instance, minute, session, calls, errors, cost, firstAt, lastAt })
      .onConflictDoUpdate({
        target: [table.path, table.slug, table.instance, table.minute],
        set: {
          calls: sql`${table.calls} + ${calls}`,
          errors: sql`${table.errors} + ${errors}`,
          cost: sql`${table.cost} + ${cost}`,
          lastAt: sql`max(${table.lastAt}, ${lastAt})`,
        },
      })
      .run();
    this.#alarms.schedule("tallies", "", (Math.max(now, (minute + 1) * MINUTE_MS) + DELAY_MS) as EpochMs);
  }

  /** Reports minutes that are over, or every minute of one session when it ends. Call inside a decision. */
  report(session: string | null, now: EpochMs): void {
    const { db } = this.#context;
    const table = t.tallies;
    const over = Math.floor((now - DELAY_MS) / MINUTE_MS) - 1;
    const rows = db
      .select()
      .from(table)
      .where(session === null ? lte(table.minute, over) : eq(table.session, session))
      .limit(500)
      .all();
    for (const { path, slug, instance, minute, calls, errors, cost, firstAt, lastAt, session: id } of rows) {
      const facts = { node: path, slug, instance, minute, calls, errors, cost, firstAt, lastAt };
      this.#audit.append("calls.counted", id, facts, now);
      db.delete(table)
        .where(and(eq(table.path, path), eq(table.slug, slug), eq(table.instance, instance), eq(table.minute, minute)))
        .run();
    }
    const next =
      db
        .select({ minute: min(table.minute) })
        .from(table)
        .get()?.minute ?? null;
    if (next !== null)
      this.#alarms.schedule("tallies", "", Math.max(now + 100, (next + 1) * MINUTE_MS + DELAY_MS) as EpochMs);
  }
}
