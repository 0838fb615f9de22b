/**
 * The stop report: what a mark has come to, a line per plane, read from the rows as they are now. `terminal` when nothing
 * of ours is pending: calls that still run are the agents', and what was handed out lives until its own end. Whatever
 * else a session may leave behind adds a plane: what it has is dropped with the mark, and has a line here.
 */
import { and, count, eq, gt, inArray, isNotNull, isNull, max, sql, sum, type SQL } from "drizzle-orm";
import { lineOf, sessionOf, type AgentId, type EpochMs, type Micros, type NodePath } from "../../core/ids.ts";
import type { StopPlane, StopReport } from "../../core/wire/answers.ts";
import * as t from "../../drizzle/authority/schema.ts";
import type { Connections } from "./connections.ts";
import type { Context } from "./context.ts";
import type { Leases } from "./leases.ts";
import { atOrBelow } from "./line.ts";

export type StopRow = typeof t.stops.$inferSelect;

/** Another capability's part in a stop: cached credentials. */
export interface Plane {
  /** Synchronous, in the mark's own transaction; deletes before it writes. */
  drop(path: NodePath, now: EpochMs): void;
  /** Null where it never had anything of that path. */
  line(path: NodePath, now: EpochMs): StopPlane | null;
}

export class StopReports {
  readonly #context: Context;
  readonly #connections: Connections;
  readonly #leases: Leases;
  readonly #planes: Plane[] = [];

  constructor(context: Context, connections: Connections, leases: Leases) {
    this.#context = context;
    this.#connections = connections;
    this.#leases = leases;
  }

  addPlane(plane: Plane): void {
    this.#planes.push(plane);
  }

  /** What goes with a mark, goes before it is written. Call inside its decision. */
  drop(path: NodePath, now: EpochMs): void {
    for (const plane of this.#planes) plane.drop(path, now);
  }

  /** The mark that covers a path: its own, or the first one above it. */
  stopOf(path: NodePath): StopRow | undefined {
    return this.#context.db
      .select()
      .from(t.stops)
      .where(inArray(t.stops.path, lineOf(path)))
      .orderBy(sql`length(${t.stops.path})`)
      .get();
  }

  /**
   * Whether anything that has ended here is not over: a fence to come, a connection to close.
   *
   * @param agent whose grants are looked at, wherever the mark above them stands; null: everybody's
   */
  hasPending(agent: AgentId | null): boolean {
    const { db } = this.#context;
    const own = agent === null ? undefined : eq(t.grants.clientId, agent);
    const fences = db.select({ path: t.stops.path }).from(t.stops);
    const covered = atOrBelow(t.grants.path, t.stops.path);
    const open = (own === undefined ? fences : fences.innerJoin(t.grants, covered))
      .where(and(own, gt(t.stops.fenceAt, this.#context.now())))
      .limit(1)
      .get();
    if (open !== undefined) return true;
    const marked = db.select({ id: t.connections.id }).from(t.connections);
    const held = atOrBelow(t.connections.path, t.grants.path);
    const unclosed = (own === undefined ? marked : marked.innerJoin(t.grants, held))
      .where(and(own, isNotNull(t.connections.closing)))
      .limit(1)
      .get();
    return unclosed !== undefined;
  }

  report(stop: StopRow, path: NodePath): StopReport {
    const at = stop.path as NodePath;
    const now = this.#context.now();
    const objects = this.#objectsOf(stop);
    const planes = this.#planes.map((plane) => plane.line(at, now)).filter((line) => line !== null);
    const pending = [...objects, ...planes].reduce((total, line) => total + line.pending, 0);
    const isOpen = and(atOrBelow(t.holds.path, at), isNull(t.outcomes.holdId)) as SQL;
    const open = this.#context.db
      .select({ n: count(), deadline: max(t.holds.deadline), micros: sum(t.holds.amount) })
      .from(t.holds)
      .leftJoin(t.outcomes, eq(t.outcomes.holdId, t.holds.id))
      .where(isOpen)
      .get();
    // What was charged on the way has made some of them larger than they began.
    const enlarged = this.#context.db
      .select({ micros: sum(t.charges.enlarged) })
      .from(t.charges)
      .innerJoin(t.holds, eq(t.holds.id, t.charges.holdId))
      .leftJoin(t.outcomes, eq(t.outcomes.holdId, t.holds.id))
      .where(isOpen)
      .get();
    const passed = stop.fenceAt <= now;
    const running = open?.n ?? 0;
    return {
      path,
      session: sessionOf(path),
      state: passed && pending === 0 ? "terminal" : "pending",
      endedAt: stop.at as EpochMs,
      why: stop.why,
      by: { kind: stop.byKind, id: stop.byId, reason: stop.note },
      fence: { at: stop.fenceAt as EpochMs, passed },
      sockets: sumOf(objects, "socket"),
      streams: sumOf(objects, "stream"),
      objects,
      calls: { running, upTo: this.#leases.upTo(at), deadline: (open?.deadline ?? null) as EpochMs | null },
      grants: stop.grants,
      holds: { left: running, micros: (Number(open?.micros ?? 0) + Number(enlarged?.micros ?? 0)) as Micros },
      planes,
    };
  }

  #objectsOf(stop: StopRow): StopReport["objects"] {
    const pending = this.#connections.pendingBelow(stop.path as NodePath);
    return (stop.objects ?? []).map(({ slug, instance, kind, open }) => {
      const left = pending.find((of) => of.slug === slug && of.instance === instance && of.kind === kind)?.open ?? 0;
      return { slug, instance, kind, closed: Math.max(0, open - left), pending: left };
    });
  }
}

function sumOf(objects: StopReport["objects"], kind: "socket" | "stream"): { closed: number; pending: number } {
  const total = { closed: 0, pending: 0 };
  for (const object of objects) {
    if (object.kind !== kind) continue;
    total.closed += object.closed;
    total.pending += object.pending;
  }
  return total;
}
