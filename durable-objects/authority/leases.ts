/**
 * Slices: rights to admit calls without asking, handed to the edge's isolates. A slice is one row, written in the
 * transaction that grants it, also where nothing is capped; its report writes the node's row and its minute. One that
 * is never reported counts as spent, and is settled in full after a while. How large and whether: core/budget.
 */
import { eq, lte, min } from "drizzle-orm";
import { leftOf, type Level } from "../../core/budget/ledger.ts";
import { sliceCalls, type Demand, type SliceGrant, type SliceReport } from "../../core/budget/lease.ts";
import { makeLeaseId, makeOwnedId, type EpochMs, type Micros, type NodePath } from "../../core/ids.ts";
import { ENVELOPE_SLACK_MS, HOLD_LIFE_DEFAULT_MS, LOST_SLICE_MS } from "../../core/limits.ts";
import * as t from "../../drizzle/authority/schema.ts";
import type { Alarms } from "./alarms.ts";
import type { Audit } from "./audit.ts";
import type { BudgetBook } from "./budget-book.ts";
import type { Charging } from "./charging.ts";
import type { Context } from "./context.ts";
import { atOrBelow } from "./line.ts";
import type { Charge, Rates } from "./rates.ts";
import type { Tallies } from "./tallies.ts";

type SliceRow = typeof t.slices.$inferSelect;

export class Leases {
  readonly #context: Context;
  readonly #book: BudgetBook;
  readonly #charging: Charging;
  readonly #rates: Rates;
  readonly #tallies: Tallies;
  readonly #audit: Audit;
  readonly #alarms: Alarms;
  /** What each slice of this life of the object was charged, to give back what was not called. Lost with it: then nothing is. */
  readonly #charges = new Map<string, Charge>();
  /** Armed at each grant: while it runs, slices that no report has closed may still admit calls somewhere. */
  #liveTimer: ReturnType<typeof setTimeout> | null = null;

  constructor(parts: {
    context: Context;
    book: BudgetBook;
    charging: Charging;
    rates: Rates;
    tallies: Tallies;
    audit: Audit;
    alarms: Alarms;
  }) {
    this.#context = parts.context;
    this.#book = parts.book;
    this.#charging = parts.charging;
    this.#rates = parts.rates;
    this.#tallies = parts.tallies;
    this.#audit = parts.audit;
    this.#alarms = parts.alarms;
  }

  /** After a restart: every slice that was not reported counts as granted now. */
  wake(): void {
    if (this.#context.db.select({ id: t.slices.id }).from(t.slices).limit(1).get() !== undefined) this.#arm();
  }

  /** How many calls a slice would be for: by what was seen, what is left, and what the windows pass; at least one. */
  size(demand: Demand, levels: readonly Level[], cost: Micros, charge: Charge, now: EpochMs): number {
    const left = leftOf(levels);
    const live = left === null ? 0 : this.#book.liveSlices(left.level.id);
    const calls = sliceCalls(demand, left?.micros ?? null, cost, live);
    return Math.max(1, this.#rates.most(charge, calls, now));
  }

  /** Grants a slice whose calls were charged already. Call inside a decision. */
  grant(
    place: { path: NodePath; session: string; slug: string; agent: string | null; day: number },
    calls: number,
    cost: Micros,
    charge: Charge,
    now: EpochMs,
  ): SliceGrant {
    const id = makeLeaseId(this.#context.random);
    const { path, session, slug, agent, day } = place;
    const units = (calls * cost) as Micros;
    const termMs = this.#context.config.limits.leaseMs;
    this.#context.db
      .insert(t.slices)
      .values({ id, path, session, slug, units, calls, day, grantedAt: now, termMs })
      .run();
    this.#alarms.schedule("slices", "", (now + LOST_SLICE_MS) as EpochMs);
    this.#context.afterCommit(() => {
      this.#book.openSlice(id, { place: { path, agent, day }, units, endsAt: (now + termMs) as EpochMs });
      this.#charges.set(id, charge);
      this.#arm();
    });
    return { id, units, calls, termMs };
  }

  /** Takes in what isolates tell of slices that are over for them. Telling again, or too late, changes nothing. */
  report(reports: readonly SliceReport[]): void {
    if (reports.length === 0) return;
    this.#context.commit(() => {
      const now = this.#context.now();
      this.#book.today(now);
      for (const report of reports) {
        const row = this.#context.db.select().from(t.slices).where(eq(t.slices.id, report.id)).get();
        if (row !== undefined) this.#close(row, report, now);
      }
    });
  }

  #close(row: SliceRow, report: SliceReport, now: EpochMs): void {
    const held = report.running.reduce((sum, call) => sum + call.held, 0);
    const isSound = report.settled + held <= row.units && report.calls <= row.calls;
    if (!isSound) return this.#lose(row, now); // an isolate that counts wrong is not believed: all of it is spent
    const { db } = this.#context;
    const path = row.path as NodePath;
    const agent = this.#charging.agentOf(row.session);
    const envelopeEnds = row.grantedAt + row.termMs + ENVELOPE_SLACK_MS;
    for (const { callId, instance, held: amount, admittedAt } of report.running) {
      const id = makeOwnedId("hld", this.#context.user, this.#context.random, this.#context.idMac);
      const deadline = now + HOLD_LIFE_DEFAULT_MS;
      const { session, slug, day } = row;
      db.insert(t.holds)
        .values({
          id,
          path,
          session,
          callId,
          slug,
          instance,
          level: "counted",
          kind: "http",
          amount,
          day,
          admittedAt,
          envelopeEnds,
          deadline,
        })
        .onConflictDoNothing()
        .run();
      this.#alarms.schedule("holds", "", deadline as EpochMs);
    }
    this.#charging.addCost(path, report.settled, row.day);
    for (const tally of report.tallies)
      this.#tallies.add({ ...tally, path, session: row.session, slug: row.slug }, now);
    db.delete(t.slices).where(eq(t.slices.id, row.id)).run();
    const charge = this.#charges.get(row.id);
    if (charge !== undefined) this.#rates.giveBack(charge, row.calls - report.calls, now);
    this.#context.afterCommit(() => {
      this.#charges.delete(row.id);
      this.#book.closeSlice(row.id);
      this.#book.move({ path, agent, day: row.day }, { settled: report.settled, held });
    });
  }

  /** A slice that nobody will report any more: spent in full, and named in the log. */
  #lose(row: SliceRow, now: EpochMs): void {
    const path = row.path as NodePath;
    const agent = this.#charging.agentOf(row.session);
    this.#charging.addCost(path, row.units, row.day);
    this.#context.db.delete(t.slices).where(eq(t.slices.id, row.id)).run();
    this.#audit.append(
      "slice.lost",
      row.session,
      { slice: row.id, node: path, slug: row.slug, calls: row.calls, cost: row.units },
      now,
    );
    this.#context.afterCommit(() => {
      this.#charges.delete(row.id);
      this.#book.closeSlice(row.id);
      this.#book.move({ path, agent, day: row.day }, { settled: row.units });
    });
  }

  /** The alarm's work. */
  giveUpLost(): void {
    this.#context.commit(() => {
      const now = this.#context.now();
      this.#book.today(now);
      const { db } = this.#context;
      for (const row of db
        .select()
        .from(t.slices)
        .where(lte(t.slices.grantedAt, now - LOST_SLICE_MS))
        .limit(500)
        .all())
        this.#lose(row, now);
      const next =
        db
          .select({ at: min(t.slices.grantedAt) })
          .from(t.slices)
          .get()?.at ?? null;
      if (next !== null) this.#alarms.schedule("slices", "", Math.max(now + 1_000, next + LOST_SLICE_MS) as EpochMs);
    });
  }

  /** Whether a slice at or below a path is not reported. Call inside a decision. */
  hasOpen(path: NodePath): boolean {
    return (
      this.#context.db
        .select({ id: t.slices.id })
        .from(t.slices)
        .where(atOrBelow(t.slices.path, path))
        .limit(1)
        .get() !== undefined
    );
  }

  /** Calls that slices below a path could still be running: "up to n" of a stop report. */
  upTo(path: NodePath): number {
    const rows = this.#context.db
      .select({ calls: t.slices.calls })
      .from(t.slices)
      .where(atOrBelow(t.slices.path, path))
      .all();
    return rows.reduce((sum, { calls }) => sum + calls, 0);
  }

  /** When the last slice granted must be over everywhere, by this object's timer: its clock may have been set. */
  liveUntil(now: EpochMs): EpochMs | null {
    if (this.#liveTimer === null) return null;
    return (now + this.#context.config.limits.leaseMs) as EpochMs;
  }

  #arm(): void {
    const termMs = this.#context.config.limits.leaseMs;
    if (this.#liveTimer !== null) clearTimeout(this.#liveTimer);
    this.#liveTimer = setTimeout(() => (this.#liveTimer = null), termMs);
  }
}
