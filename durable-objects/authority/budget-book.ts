/**
 * What each level of the budget tree has settled and held, over its whole subtree. Sums are memory, rebuilt at wake from
 * nodes, open holds and folded totals, and moved only after the write that changes them has committed. The decision
 * itself is pure (core/budget/ledger.ts).
 */
import { and, eq, isNotNull, isNull, ne, sql } from "drizzle-orm";
import { dayOf, type Level } from "../../core/budget/ledger.ts";
import { isAtOrBelow, lineOf, type EpochMs, type Micros, type NodePath } from "../../core/ids.ts";
import * as t from "../../drizzle/authority/schema.ts";
import type { Context } from "./context.ts";
import { Reservations } from "./reservations.ts";

interface Sums {
  settled: number;
  held: number;
  leased: number;
  lost: number;
}

/** A change of sums: only what moves is named. */
export type Move = Partial<Readonly<Sums>>;

const NOTHING: Readonly<Sums> = { settled: 0, held: 0, leased: 0, lost: 0 };

/** Where an amount counts: the node, the agent whose budget the session draws on, and the day it was granted. */
export interface Place {
  readonly path: NodePath;
  readonly agent: string | null;
  readonly day: number;
}

interface OpenSlice {
  readonly place: Place;
  readonly units: number;
  readonly endsAt: EpochMs;
  /** Its time is over by this object's clock, and nobody has reported it. */
  isLost: boolean;
}

export class BudgetBook {
  readonly #context: Context;
  #levels: Map<string, Sums> | null = null;
  #day = 0;
  /** Undefined until it was read. */
  #dayCap: Micros | null | undefined;
  #today: Sums = { ...NOTHING };
  /** Slices granted and not reported, in the order of their ends. */
  readonly #slices = new Map<string, OpenSlice>();
  readonly #reservations = new Reservations((path) => {
    const { settled, held, leased, lost } = this.#sums(path);
    return settled + held + leased + lost;
  });

  constructor(context: Context) {
    this.#context = context;
  }

  /** The UTC day that new holds count in; it only moves forward, also when the clock does not. */
  today(now: EpochMs): number {
    this.#wake();
    const day = Math.max(this.#day, dayOf(now));
    if (day > this.#day) {
      this.#day = day;
      this.#today = { ...NOTHING };
    }
    this.#lapse(now);
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
    const userDayMicros = this.dayCap();
    const reserved = this.#reservations;
    const level = (id: string, cap: Micros | null, sums: Readonly<Sums>, below: number, slack: number): Level => ({
      id,
      cap,
      ...this.#micros(sums),
      reserved: below as Micros,
      slack: slack as Micros,
    });
    const levels = [level(this.#context.user, userDayMicros, this.#today, reserved.ofUser(now), 0)];
    if (agent !== null)
      levels.push(level(agent.id, agent.cap, this.#sums(agent.id), reserved.ofAgent(agent.id, now), 0));
    for (const at of lineOf(path))
      levels.push(level(at, caps.get(at) ?? null, this.#sums(at), reserved.below(at, now), reserved.slack(at, now)));
    return levels;
  }

  /** What the user may spend a UTC day: as an operator set it, else as the deployment says. */
  dayCap(): Micros | null {
    if (this.#dayCap === undefined) {
      const own = this.#context.db
        .select({ value: t.counters.value })
        .from(t.counters)
        .where(eq(t.counters.name, "day_cap"))
        .get();
      this.#dayCap = own === undefined ? this.#context.config.limits.userDayMicros : (own.value as Micros);
    }
    return this.#dayCap;
  }

  /** Call inside a decision. */
  setDayCap(cap: Micros): void {
    const row = { name: "day_cap", value: cap };
    this.#context.db.insert(t.counters).values(row).onConflictDoUpdate({ target: t.counters.name, set: row }).run();
    this.#context.afterCommit(() => (this.#dayCap = cap));
  }

  of(id: string): Readonly<Record<keyof Sums, Micros>> {
    this.#wake();
    return this.#micros(this.#sums(id));
  }

  /** After the commit of a grant that reserves out of its parent's cap. */
  reserve({ path, agent }: Omit<Place, "day">, micros: Micros, endsAt: EpochMs): void {
    this.#wake();
    this.#reservations.add(path, { micros, agent, endsAt });
  }

  /** After the commit of an end: what was reserved below and not used flows back. */
  release(path: NodePath): void {
    this.#reservations.release(path);
  }

  /** After the commit of a hold, or of its outcome. */
  move(place: Place, change: Move): void {
    this.#wake();
    this.#add(place, change);
  }

  /** After the commit of a grant. Until it is reported its units count, as spent once its time is over. */
  openSlice(id: string, slice: Omit<OpenSlice, "isLost">): void {
    this.#wake();
    this.#slices.set(id, { ...slice, isLost: false });
    this.#add(slice.place, { leased: slice.units });
  }

  /** After the commit of its report, or of giving it up. */
  closeSlice(id: string): void {
    this.#wake();
    const slice = this.#slices.get(id);
    if (slice === undefined) return;
    this.#slices.delete(id);
    this.#add(slice.place, slice.isLost ? { lost: -slice.units } : { leased: -slice.units });
  }

  /** Slices whose time is not over, at or below a level. */
  liveSlices(level: string): number {
    this.#wake();
    let live = 0;
    for (const { place, isLost } of this.#slices.values()) if (!isLost && this.#countsAt(place, level)) live++;
    return live;
  }

  /** When the first live slice ends; null where there is none. */
  firstSliceEnd(): EpochMs | null {
    let first: number | null = null;
    for (const { endsAt, isLost } of this.#slices.values())
      if (!isLost && (first === null || endsAt < first)) first = endsAt;
    return first as EpochMs | null;
  }

  #countsAt({ path, agent }: Place, level: string): boolean {
    return level === this.#context.user || level === agent || isAtOrBelow(path, level as NodePath);
  }

  /** What ended by the clock counts as spent: waiting for it no longer helps. */
  #lapse(now: EpochMs): void {
    for (const slice of this.#slices.values()) {
      if (slice.isLost || slice.endsAt > now) continue;
      slice.isLost = true;
      this.#add(slice.place, { leased: -slice.units, lost: slice.units });
    }
  }

  /** After the commit that folded a path away: its sums stay in every level above. */
  forget(path: NodePath): void {
    this.#levels?.delete(path);
  }

  /** Throws everything away; the next question reads it from storage again. */
  drop(): void {
    this.#levels = null;
  }

  #micros(sums: Readonly<Sums>): Readonly<Record<keyof Sums, Micros>> {
    return { ...sums } as Record<keyof Sums, Micros>;
  }

  #sums(id: string): Readonly<Sums> {
    return this.#levels?.get(id) ?? NOTHING;
  }

  #add({ path, agent, day }: Place, change: Move): void {
    const levels = this.#levels as Map<string, Sums>;
    for (const id of agent === null ? lineOf(path) : [agent, ...lineOf(path)]) {
      let sums = levels.get(id);
      if (sums === undefined) levels.set(id, (sums = { ...NOTHING }));
      addTo(sums, change);
    }
    if (day === this.#day) addTo(this.#today, change);
  }

  #wake(): void {
    if (this.#levels !== null) return;
    try {
      this.#rebuild();
    } catch (failure) {
      this.#levels = null; // sums of half the rows would be believed by the next question
      throw failure;
    }
  }

  #rebuild(): void {
    const { db } = this.#context;
    this.#levels = new Map();
    this.#slices.clear();
    this.#reservations.clear();
    this.#today = { ...NOTHING };
    const latest = db
      .select({
        day: sql<number>`max(coalesce((select max(day) from nodes), 0), coalesce((select max(day) from agents), 0), coalesce((select max(day) from "user"), 0), coalesce((select max(day) from holds), 0), coalesce((select max(day) from slices), 0), coalesce((select max(at) / 86400000 from charges), 0))`,
      })
      .from(sql`(select 1)`)
      .get();
    this.#day = Math.max(dayOf(this.#context.now()), latest?.day ?? 0);
    for (const folded of [...db.select().from(t.agents).all(), ...db.select().from(t.user).all()]) {
      if ("cap" in folded) this.#levels.set(folded.id, { ...NOTHING, settled: folded.settled });
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
    for (const node of db.select().from(t.nodes).where(isNotNull(t.nodes.reserved)).all()) {
      const reservation = { micros: node.reserved ?? 0, agent: clients.get(node.session) ?? null };
      this.#reservations.add(node.path as NodePath, {
        ...reservation,
        endsAt: (node.liveUntilSeconds * 1000) as EpochMs,
      });
    }
    for (const node of db.select().from(t.nodes).where(ne(t.nodes.settled, 0)).all()) {
      const place = { path: node.path as NodePath, agent: clients.get(node.session) ?? null, day: -1 };
      this.#add(place, { settled: node.settled });
      if (node.day === this.#day) this.#today.settled += node.settledDay;
    }
    const { path, session, amount, day } = t.holds;
    const open = db
      .select({ path, session, amount, day })
      .from(t.holds)
      .leftJoin(t.outcomes, eq(t.outcomes.holdId, t.holds.id))
      .where(isNull(t.outcomes.holdId))
      .all();
    const enlarged = db
      .select({ path, session, amount: t.charges.enlarged, day, at: t.charges.at })
      .from(t.charges)
      .innerJoin(t.holds, eq(t.holds.id, t.charges.holdId))
      .leftJoin(t.outcomes, eq(t.outcomes.holdId, t.holds.id))
      .where(and(isNull(t.outcomes.holdId), ne(t.charges.enlarged, 0)))
      .all()
      .map((charge) => ({ ...charge, day: Math.max(charge.day, dayOf(charge.at as EpochMs)) }));
    for (const hold of [...open, ...enlarged]) {
      this.#add(
        { path: hold.path as NodePath, agent: clients.get(hold.session) ?? null, day: hold.day },
        { held: hold.amount },
      );
    }
    // Whoever holds them may have asked just before this object went away: their time begins again now.
    for (const slice of db.select().from(t.slices).all()) {
      const place = { path: slice.path as NodePath, agent: clients.get(slice.session) ?? null, day: slice.day };
      this.#slices.set(slice.id, {
        place,
        units: slice.units,
        endsAt: (this.#context.now() + slice.termMs) as EpochMs,
        isLost: false,
      });
      this.#add(place, { leased: slice.units });
    }
  }
}

function addTo(sums: Sums, { settled = 0, held = 0, leased = 0, lost = 0 }: Move): void {
  sums.settled += settled;
  sums.held += held;
  sums.leased += leased;
  sums.lost += lost;
}
