/**
 * Reservations: what a grant was promised out of its parent's cap. Until it is used up, a level above counts it in full;
 * what the grant spends of it costs those levels nothing more, and what it leaves flows back when it ends (DESIGN.md §4).
 *
 *   committed(n) = own + Σ over children max(reserved(c), committed(c))
 */
import { isAtOrBelow, type EpochMs, type NodePath } from "../../core/ids.ts";

interface Reservation {
  readonly micros: number;
  readonly agent: string | null;
  readonly endsAt: EpochMs;
}

export class Reservations {
  readonly #byPath = new Map<NodePath, Reservation>();
  /** What a path's subtree has used, without reservations. */
  readonly #usedBy: (path: NodePath) => number;

  constructor(usedBy: (path: NodePath) => number) {
    this.#usedBy = usedBy;
  }

  clear(): void {
    this.#byPath.clear();
  }

  add(path: NodePath, reservation: Reservation): void {
    this.#byPath.set(path, reservation);
  }

  /** Everything at or below has ended: what was not used is free again. */
  release(path: NodePath): void {
    for (const at of this.#byPath.keys()) if (isAtOrBelow(at, path)) this.#byPath.delete(at);
  }

  /** What reservations below a path hold back, beyond what they have used. */
  below(path: NodePath, now: EpochMs): number {
    return this.#heldBack((at) => at !== path && isAtOrBelow(at, path), now);
  }

  ofAgent(agent: string, now: EpochMs): number {
    return this.#heldBack((_, reservation) => reservation.agent === agent, now);
  }

  ofUser(now: EpochMs): number {
    return this.#heldBack(() => true, now);
  }

  /** What a path has of its own reservation and not used. */
  slack(path: NodePath, now: EpochMs): number {
    const own = this.#live(path, now);
    return own === undefined ? 0 : Math.max(0, own.micros - this.#usedBy(path) - this.below(path, now));
  }

  #live(path: NodePath, now: EpochMs): Reservation | undefined {
    const found = this.#byPath.get(path);
    return found !== undefined && found.endsAt > now ? found : undefined;
  }

  /** Only the topmost of nested reservations count: what lies in one is counted by it. */
  #heldBack(counts: (path: NodePath, reservation: Reservation) => boolean, now: EpochMs): number {
    if (this.#byPath.size === 0) return 0;
    const found = [...this.#byPath]
      .filter(([path, each]) => each.endsAt > now && counts(path, each))
      .map(([path]) => path);
    const topmost = found.filter((path) => !found.some((other) => other !== path && isAtOrBelow(path, other)));
    let sum = 0;
    for (const path of topmost) sum += this.slack(path, now) + this.below(path, now);
    return sum;
  }
}
