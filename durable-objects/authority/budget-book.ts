/**
 * What each level of the budget tree has settled and held, over its whole subtree. Sums are memory, rebuilt at wake from
 * nodes, open holds and folded totals, and moved only after the write that changes them has committed. The decision
 * itself is pure (core/budget/ledger.ts).
 */
import { and, eq, isNull, ne, sql } from "drizzle-orm";
import { dayOf, type Level } from "../../core/budget/ledger.ts";
import { lineOf, type EpochMs, type Micros, type NodePath } from "../../core/ids.ts";
import * as t from "../../drizzle/authority/schema.ts";
import type { Context } from "./context.ts";

interface Sums {
  settled: number;
  held: number;
}

/** Where an amount counts: the node, the agent whose budget the session draws on, and the day it was granted. */
export interface Place {
  readonly path: NodePath;
  readonly agent: string | null;
  readonly day: number;
}

export class BudgetBook {
  readonly #context: Context;
  #levels: Map<string, Sums> | null = null;
  #day = 0;
  #today: Sums = { settled: 0, held: 0 };

  constructor(context: Context) {
    this.#context = context;
  }

  /** The UTC day that new holds count in; it only moves forward, also when the clock does not. */
  today(now: EpochMs): number {
    this.#wake();
    const day = Math.max(this.#day, dayOf(now));
    if (day > this.#day) {
      this.#day = day;
      this.#today = { settled: 0, held: 0 };
    }
    return day;
  }

  /**
   * The levels above and at a node, from the user down.
   *
   * @param caps by path, of the nodes of the line that have one
   */
  levels(
    path: NodePath,
    agent: { id: string; cap: Micros } | null,
    caps: ReadonlyMap<string, Micros | null>,
    now: EpochMs,
  ): Level[] {
    this.today(now);
    const { userDayMicros } = this.#context.config.limits;
    const levels: Level[] = [{ id: this.#context.user, cap: userDayMicros, ...this.#micros(this.#today) }];
    if (agent !== null) levels.push({ id: agent.id, cap: agent.cap, ...this.#micros(this.#sums(agent.id)) });
    for (const at of lineOf(path)) levels.push({ id: at, cap: caps.get(at) ?? null, ...this.#micros(this.#sums(at)) });
    return levels;
  }

  of(id: string): { readonly settled: Micros; readonly held: Micros } {
    this.#wake();
    return this.#micros(this.#sums(id));
  }

  /** After the commit of a hold, or of its outcome. */
  move(place: Place, change: { held: number; settled: number }): void {
    this.#wake();
    this.#add(place, change);
  }

  /** After the commit that folded a path away: its sums stay in every level above. */
  forget(path: NodePath): void {
    this.#levels?.delete(path);
  }

  /** Throws everything away; the next question reads it from storage again. */
  drop(): void {
    this.#levels = null;
  }

  #micros({ settled, held }: Sums): { settled: Micros; held: Micros } {
    return { settled: settled as Micros, held: held as Micros };
  }

  #sums(id: string): Sums {
    return this.#levels?.get(id) ?? { settled: 0, held: 0 };
  }

  #add({ path, agent, day }: Place, { held, settled }: { held: number; settled: number }): void {
    const levels = this.#levels as Map<string, Sums>;
    for (const id of agent === null ? lineOf(path) : [agent, ...lineOf(path)]) {
      const sums = levels.get(id);
      if (sums === undefined) levels.set(id, { held, settled });
      else {
        sums.held += held;
        sums.settled += settled;
      }
    }
    if (day === this.#day) {
      this.#today.held += held;
      this.#today.settled += settled;
    }
  }

  #wake(): void {
    if (this.#levels !== null) return;
    const { db } = this.#context;
    this.#levels = new Map();
    this.#today = { settled: 0, held: 0 };
    const latest = db
      .select({
        day: sql<number>`max(coalesce((select max(day) from nodes), 0), coalesce((select max(day) from agents), 0), coalesce((select max(day) from "user"), 0), coalesce((select max(day) from holds), 0))`,
      })
      .from(sql`(select 1)`)
      .get();
    this.#day = Math.max(dayOf(this.#context.now()), latest?.day ?? 0);
    for (const folded of [...db.select().from(t.agents).all(), ...db.select().from(t.user).all()]) {
      if ("cap" in folded) this.#levels.set(folded.id, { settled: folded.settled, held: 0 });
      if (folded.day === this.#day) this.#today.settled += folded.settledDay;
    }
    const clients = new Map(
      db
        .select({ id: t.sessions.id, client: t.sessions.clientId })
        .from(t.sessions)
        .where(eq(t.sessions.folded, false))
        .all()
        .map((row) => [row.id, row.client]),
    );
    for (const node of db.select().from(t.nodes).where(ne(t.nodes.settled, 0)).all()) {
      const place = { path: node.path as NodePath, agent: clients.get(node.session) ?? null, day: -1 };
      this.#add(place, { held: 0, settled: node.settled });
      if (node.day === this.#day) this.#today.settled += node.settledDay;
    }
    const open = db
      .select({ path: t.holds.path, session: t.holds.session, amount: t.holds.amount, day: t.holds.day })
      .from(t.holds)
      .leftJoin(t.outcomes, eq(t.outcomes.holdId, t.holds.id))
      .where(and(isNull(t.outcomes.holdId), ne(t.holds.amount, 0)))
      .all();
    for (const hold of open) {
      this.#add(
        { path: hold.path as NodePath, agent: clients.get(hold.session) ?? null, day: hold.day },
        { held: hold.amount, settled: 0 },
      );
    }
  }
}
