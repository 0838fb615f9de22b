/**
 * What a charge to a path is decided by: its levels in the tree of caps, its rate windows, and where it counts. The
 * decisions are pure (core/budget); who charges writes.
 */
import { eq } from "drizzle-orm";
import { leftOf, type Level } from "../../core/budget/ledger.ts";
import { rateShare } from "../../core/budget/throttle.ts";
import type { EpochMs, Micros, NodePath } from "../../core/ids.ts";
import { ASK_LIFE_MS } from "../../core/limits.ts";
import type { BudgetView } from "../../core/wire/answers.ts";
import * as t from "../../drizzle/authority/schema.ts";
import type { BudgetBook, Place } from "./budget-book.ts";
import type { Context } from "./context.ts";
import { addSettled, type LiveLine } from "./line.ts";
import type { Charge, Rates } from "./rates.ts";

/** A live line that a call may be charged to. */
export interface Chargeable {
  readonly live: LiveLine;
  readonly levels: readonly Level[];
  readonly charge: Charge;
  readonly place: Place;
}

export class Charging {
  readonly #context: Context;
  readonly #book: BudgetBook;
  readonly #rates: Rates;

  constructor(context: Context, book: BudgetBook, rates: Rates) {
    this.#context = context;
    this.#book = book;
    this.#rates = rates;
  }

  /** A path with everything that a charge to it is decided by. Call inside a decision. */
  line(path: NodePath, slug: string, live: LiveLine, now: EpochMs): Chargeable {
    const day = this.#book.today(now);
    const levels = this.levels(path, live, now);
    const agent = live.agent?.id ?? null;
    const left = leftOf(levels);
    const share =
      left === null || left.level.cap === null || left.level.cap === 0
        ? 1
        : rateShare(left.micros / left.level.cap, this.#context.config.limits.curve);
    const rates = this.#rates.of(slug, live.person.tier);
    return { live, levels, charge: { path, agent, rates, share }, place: { path, agent, day } };
  }

  /** When the first that stands in the way ends by itself, or an asked call at the latest. */
  earliestEnd(now: EpochMs): EpochMs {
    return Math.min(this.#book.firstSliceEnd() ?? Infinity, now + ASK_LIFE_MS) as EpochMs;
  }

  /** The tree of caps over a live node. */
  levels(path: NodePath, live: LiveLine, now: EpochMs): Level[] {
    return this.#book.levels(path, live.agent, live.caps, now);
  }

  budgetOf(path: NodePath, live: LiveLine, now: EpochMs): BudgetView {
    const levels = this.levels(path, live, now);
    const { cap, settled, held, leased, lost } = levels.at(-1) as Level;
    return {
      cap,
      settled: (settled + lost) as Micros,
      held: (held + leased) as Micros,
      remaining: leftOf(levels)?.micros ?? null,
    };
  }

  /** A node's own settled total, in the row. Call inside a decision; memory is moved by whoever calls. */
  addCost(path: NodePath, cost: number, day: number): void {
    if (cost === 0) return;
    const { db } = this.#context;
    const node = db.select().from(t.nodes).where(eq(t.nodes.path, path)).get();
    if (node !== undefined)
      db.update(t.nodes)
        .set(addSettled(node, cost, cost, day))
        .where(eq(t.nodes.path, path))
        .run();
  }

  /** The agent whose budget a session draws on. */
  agentOf(session: string): string | null {
    const { db } = this.#context;
    return (
      db.select({ client: t.sessions.clientId }).from(t.sessions).where(eq(t.sessions.id, session)).get()?.client ??
      null
    );
  }
}
