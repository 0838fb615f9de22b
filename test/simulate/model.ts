/**
 * The model: lists of what was granted and how it ended, over a tree of caps. Everything is summed anew at each question;
 * there is no state that could go wrong. It is told what the object answered, says what the object should have answered,
 * and knows nothing of how the object remembers.
 */
import { dayOf } from "../../core/budget/ledger.ts";
import { isAtOrBelow, lineOf, parentOf, type CallId, type EpochMs, type NodePath } from "../../core/ids.ts";
import type { SliceReport } from "../../core/budget/lease.ts";

export interface ModelNode {
  readonly path: NodePath;
  readonly agent: string;
  cap: number | null;
  /** The largest cap that it ever had; null: none at some time. */
  capMost: number | null;
  /** Set aside for it out of its parent's cap, until it ends. */
  readonly reserved: number;
  /** Of a session or grant, by the object's clock; what was narrowed has none of its own here. */
  readonly endsAt: number;
}

export interface ModelSlice {
  readonly id: string;
  readonly path: NodePath;
  readonly agent: string;
  readonly day: number;
  readonly units: number;
  readonly calls: number;
  /** By the object's clock. */
  readonly grantedAt: number;
  /** By the true time. */
  readonly trueAt: number;
  readonly termMs: number;
  /** When it counts as lost, by the object's clock; null: the object was evicted, and begins again when it next looks. */
  endsAt: number | null;
  isLapsed: boolean;
  end: "open" | "reported" | "lost";
  settled: number;
  report: SliceReport | null;
}

export interface ModelHold {
  id: string | null;
  readonly callId: CallId;
  readonly path: NodePath;
  readonly agent: string;
  /** Granted at first, and what enlarged it. */
  readonly parts: { readonly day: number; readonly amount: number }[];
  /** Of all parts. */
  amount: number;
  charged: number;
  readonly charges: Map<string, number>;
  readonly deadline: number;
  endedAt: number | null;
  outcome: "settled" | "voided" | "expired" | null;
  cost: number;
}

/** What a hold has set aside, or was charged, by the day in which it was granted: the first one pays first. */
export function partsOf(hold: ModelHold): { day: number; held: number; settled: number }[] {
  let left = hold.cost;
  return hold.parts
    .toSorted((a, b) => a.day - b.day)
    .map(({ day, amount }) => {
      if (hold.outcome === null) return { day, held: amount, settled: 0 };
      const settled = Math.min(left, amount);
      left -= settled;
      return { day, held: 0, settled };
    });
}

function soleOf({ parts, outcome, amount, cost }: ModelHold): { day: number; held: number; settled: number } {
  const day = parts[0]?.day ?? 0;
  return outcome === null ? { day, held: amount, settled: 0 } : { day, held: 0, settled: cost };
}

export interface Sums {
  readonly settled: number;
  readonly held: number;
  readonly leased: number;
  readonly lost: number;
}

/** A cap of the tree: the user's of the day, an agent's, or a node's. */
export interface ModelLevel extends Sums {
  readonly id: string;
  readonly cap: number | null;
  /** With reservations counted at least in full. */
  readonly committed: number;
  /** The same, had the node been granted `more`. */
  readonly after: number;
}

export class Model {
  readonly user: string;
  readonly termMs: number;
  userCap: number | null;
  readonly agents = new Map<string, number>();
  /** Agents whose cap was lowered at some time. */
  readonly loweredAgents = new Set<string>();
  readonly nodes = new Map<NodePath, ModelNode>();
  readonly slices: ModelSlice[] = [];
  readonly holds: ModelHold[] = [];
  readonly stops: { readonly path: NodePath; readonly fenceTrue: number }[] = [];
  day = 0;

  constructor(user: string, userCap: number | null, termMs: number) {
    this.user = user;
    this.userCap = userCap;
    this.termMs = termMs;
  }

  capAgent(id: string, cap: number): void {
    if (cap < (this.agents.get(id) ?? 0)) this.loweredAgents.add(id);
    this.agents.set(id, cap);
  }

  capNode(node: ModelNode, cap: number | null): void {
    node.capMost = cap === null || node.capMost === null ? null : Math.max(node.capMost, cap);
    node.cap = cap;
  }

  /** The object looks at its clock: days move forward alone, and slices whose time is over count as spent. */
  look(now: number): void {
    this.day = Math.max(this.day, dayOf(now as EpochMs));
    for (const slice of this.slices) {
      if (slice.end !== "open") continue;
      slice.endsAt ??= now + this.termMs;
      if (slice.endsAt <= now) slice.isLapsed = true;
    }
  }

  /** Slices whose time begins when the object next looks. */
  get isAsleep(): boolean {
    return this.slices.some(({ end, endsAt }) => end === "open" && endsAt === null);
  }

  evicted(): void {
    for (const slice of this.slices) {
      slice.endsAt = null;
      slice.isLapsed = false;
    }
  }

  sums(counts: (item: { path: NodePath; agent: string; day: number }) => boolean): Sums {
    let settled = 0;
    let held = 0;
    let leased = 0;
    let lost = 0;
    for (const slice of this.slices) {
      if (!counts(slice)) continue;
      if (slice.end !== "open") settled += slice.settled;
      else if (slice.isLapsed) lost += slice.units;
      else leased += slice.units;
    }
    for (const hold of this.holds)
      for (const part of hold.parts.length === 1 ? [soleOf(hold)] : partsOf(hold)) {
        if (!counts({ path: hold.path, agent: hold.agent, day: part.day })) continue;
        held += part.held;
        settled += part.settled;
      }
    return { settled, held, leased, lost };
  }

  /** What each node itself has used, nothing below it. */
  #own(more: { at: NodePath; units: number } | null): Map<string, number> {
    const own = new Map<string, number>();
    const add = (path: string, units: number): void => void own.set(path, (own.get(path) ?? 0) + units);
    for (const { path, end, settled, units } of this.slices) add(path, end === "open" ? units : settled);
    for (const { path, outcome, cost, amount } of this.holds) add(path, outcome === null ? amount : cost);
    if (more !== null) add(more.at, more.units);
    return own;
  }

  /** DESIGN.md §4: own slices, holds and settled, and of each child the more of what it reserved and what it committed. */
  #committed(path: NodePath, own: ReadonlyMap<string, number>, now: number): number {
    let sum = own.get(path) ?? 0;
    for (const child of this.nodes.values())
      if (parentOf(child.path) === path)
        sum += Math.max(this.reservedOf(child, now), this.#committed(child.path, own, now));
    return sum;
  }

  reservedOf(node: ModelNode, now: number): number {
    return node.reserved > 0 && node.endsAt > now && !this.isStopped(node.path) ? node.reserved : 0;
  }

  /** Whether nothing on the way to a node has ended by a mark, or by the object's clock. */
  isLive(path: NodePath, now: number): boolean {
    return !this.isStopped(path) && lineOf(path).every((at) => (this.nodes.get(at)?.endsAt ?? Infinity) > now);
  }

  isStopped(path: NodePath): boolean {
    return this.stops.some((stop) => isAtOrBelow(path, stop.path));
  }

  /** From the user down to the node, with `units` more granted at it or not. */
  levels(path: NodePath, units: number, now: number): ModelLevel[] {
    const node = this.nodes.get(path);
    if (node === undefined) throw new Error(`the model has no node ${path}`);
    const before = this.#own(null);
    const after = this.#own({ at: path, units });
    const levels: ModelLevel[] = [];
    const today = this.sums(({ day }) => day === this.day);
    levels.push(this.#root(this.user, this.userCap, today, () => true, before, after, units, now));
    const ofAgent = (item: { agent: string }): boolean => item.agent === node.agent;
    const cap = this.agents.get(node.agent) ?? 0;
    levels.push(this.#root(node.agent, cap, this.sums(ofAgent), ofAgent, before, after, units, now));
    for (const at of lineOf(path)) {
      const sums = this.sums((item) => isAtOrBelow(item.path, at));
      const cap = this.nodes.get(at)?.cap ?? null;
      const [committed, then] = [this.#committed(at, before, now), this.#committed(at, after, now)];
      levels.push({ id: at, cap, ...sums, committed, after: then });
    }
    return levels;
  }

  /** The user and the agent are no paths: what their sessions hold back beyond what they have used comes on top. */
  #root(
    id: string,
    cap: number | null,
    sums: Sums,
    counts: (node: ModelNode) => boolean,
    before: ReadonlyMap<string, number>,
    after: ReadonlyMap<string, number>,
    units: number,
    now: number,
  ): ModelLevel {
    const heldBack = (own: ReadonlyMap<string, number>): number => {
      let back = 0;
      for (const node of this.nodes.values()) {
        if (parentOf(node.path) !== null || !counts(node)) continue;
        let plain = 0;
        for (const [path, micros] of own) if (isAtOrBelow(path as NodePath, node.path)) plain += micros;
        back += this.#committed(node.path, own, now) - plain;
      }
      return back;
    };
    const committed = used(sums) + heldBack(before);
    return { id, cap, ...sums, committed, after: used(sums) + units + heldBack(after) };
  }
}

export function used({ settled, held, leased, lost }: Sums): number {
  return settled + held + leased + lost;
}
