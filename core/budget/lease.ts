/**
 * Slices: a time-bounded right to admit calls of one node at one entry without asking (DESIGN.md §4, Leases). Two pure
 * halves: how large a slice is when the object grants it, and what an isolate may still do with one that it holds.
 *
 *   granted (a row) → held by one isolate: take … settle … take → void (used up, out of time) → reported
 *
 * The isolate holds a slice void when its clock shows the term since before it asked, when the timer that it armed then
 * has fired, or when its clock ever went back. A slice that is never reported stays spent.
 */
import type { CallId, EpochMs, LeaseId, Micros } from "../ids.ts";

/** A slice as the object grants it. */
export interface SliceGrant {
  readonly id: LeaseId;
  /** Micros that may be spent from it. */
  readonly units: Micros;
  readonly calls: number;
  /** Its life, from before the isolate asked. */
  readonly termMs: number;
}

/** What an isolate saw of the last slice of that node and entry; `calls` is 0 where there was none. */
export interface Demand {
  readonly calls: number;
  /** It was used up before its time was over. */
  readonly ranOut: boolean;
}

/** Calls of one instance, as a report tells of them. */
export interface SliceTally {
  readonly instance: string;
  readonly calls: number;
  readonly errors: number;
  readonly cost: Micros;
  readonly firstAt: EpochMs;
  readonly lastAt: EpochMs;
}

/** A call that was still running when its slice was reported: kept back as a hold. */
export interface RunningCall {
  readonly callId: CallId;
  readonly instance: string;
  readonly held: Micros;
  readonly admittedAt: EpochMs;
}

export interface SliceReport {
  readonly id: LeaseId;
  readonly settled: Micros;
  readonly calls: number;
  readonly tallies: readonly SliceTally[];
  readonly running: readonly RunningCall[];
}

/** At most this share of what is left goes into one slice, over the slices that live. */
const SHARE = 0.5;
/** More calls than any isolate makes in a term; keeps numbers sane where nothing is capped. */
export const SLICE_CALLS_MAX = 100_000;

/**
 * How many calls a slice is for: one at first, double of what was used up, what was used where time ran out first; at
 * most a share of what is left over the slices that live, and never less than one where there is room for one.
 *
 * @param left micros that the strictest cap above still has; null where nothing caps
 * @param cost the most that one call may cost
 * @param live slices granted and not reported under the binding level
 * @returns calls; 0 where not even one fits
 */
export function sliceCalls(demand: Demand, left: Micros | null, cost: Micros, live: number): number {
  const wanted = Math.min(SLICE_CALLS_MAX, Math.max(1, demand.ranOut ? demand.calls * 2 : demand.calls));
  if (left === null || cost === 0) return wanted;
  if (left < cost) return 0;
  return Math.max(1, Math.min(wanted, Math.floor((left * SHARE) / (live + 1) / cost)));
}

interface Tally {
  calls: number;
  errors: number;
  cost: number;
  firstAt: EpochMs;
  lastAt: EpochMs;
}

/** A slice in an isolate's memory. Mutable, owned by one isolate; its grant and its end are not. */
export class HeldSlice {
  readonly grant: SliceGrant;
  /** The isolate's clock before it asked. */
  readonly askedAt: EpochMs;
  #units: number;
  #calls: number;
  #used = 0;
  #settled = 0;
  #isVoid = false;
  #ranOut = false;
  #lastTakenAt: EpochMs;
  readonly #running = new Map<CallId, RunningCall>();
  readonly #tallies = new Map<string, Tally>();

  constructor(grant: SliceGrant, askedAt: EpochMs) {
    this.grant = grant;
    this.askedAt = askedAt;
    this.#units = grant.units;
    this.#calls = grant.calls;
    this.#lastTakenAt = askedAt;
  }

  /** @param now the isolate's clock, which the caller has found not to have gone back */
  isLive(now: EpochMs): boolean {
    return !this.#isVoid && now - this.askedAt < this.grant.termMs;
  }

  /** When nothing may be taken any more, by the isolate's clock. */
  get endsAt(): EpochMs {
    return (this.askedAt + this.grant.termMs) as EpochMs;
  }

  get lastTakenAt(): EpochMs {
    return this.#lastTakenAt;
  }

  get unitsLeft(): Micros {
    return this.#units as Micros;
  }

  get callsLeft(): number {
    return this.#calls;
  }

  /** Whether the next calls are worth asking for ahead: little of it is left, though much of its time is. */
  isRunningLow(): boolean {
    return this.#calls * 4 <= this.grant.calls;
  }

  voidNow(): void {
    this.#isVoid = true;
  }

  /** Admits one call: sets its most aside. @returns false where the slice has ended or has not enough */
  take(callId: CallId, instance: string, cost: Micros, now: EpochMs): boolean {
    if (!this.isLive(now)) return false;
    if (this.#calls < 1 || this.#units < cost) {
      this.#ranOut = true;
      return false;
    }
    this.#calls--;
    this.#units -= cost;
    this.#used++;
    this.#lastTakenAt = now;
    this.#running.set(callId, { callId, instance, held: cost, admittedAt: now });
    return true;
  }

  /**
   * A call of this slice ends: what it did not spend may be spent again while the slice lives.
   *
   * @param cost null charges all that was held
   * @returns false where the call is not this slice's (any more): it was reported as running, and is settled by its id
   */
  settle(callId: CallId, cost: Micros | null, failed: boolean, now: EpochMs): boolean {
    const call = this.#running.get(callId);
    if (call === undefined) return false;
    this.#running.delete(callId);
    const spent = cost === null || cost > call.held ? call.held : cost;
    this.#settled += spent;
    this.#units += call.held - spent;
    const tally = this.#tallies.get(call.instance);
    if (tally === undefined) {
      this.#tallies.set(call.instance, {
        calls: 1,
        errors: failed ? 1 : 0,
        cost: spent,
        firstAt: call.admittedAt,
        lastAt: now,
      });
    } else {
      tally.calls++;
      tally.errors += failed ? 1 : 0;
      tally.cost += spent;
      tally.lastAt = now;
    }
    return true;
  }

  /**
   * A call that was not forwarded after all: as if it had not been admitted.
   *
   * @returns false where the call is not this slice's any more, as in `settle`
   */
  giveBack(callId: CallId): boolean {
    const call = this.#running.get(callId);
    if (call === undefined) return false;
    this.#running.delete(callId);
    this.#units += call.held;
    this.#calls++;
    this.#used--;
    return true;
  }

  /** Nothing can be taken, and nothing is running that could give something back. */
  get isUsedUp(): boolean {
    return this.#calls < 1 && this.#running.size === 0;
  }

  get demand(): Demand {
    return { calls: this.#used, ranOut: this.#ranOut || this.#calls < 1 };
  }

  /** Ends the slice and tells all of it, once: nothing is taken or settled here afterwards. */
  close(): SliceReport {
    this.#isVoid = true;
    const report: SliceReport = {
      id: this.grant.id,
      settled: this.#settled as Micros,
      calls: this.#used,
      tallies: [...this.#tallies].map(([instance, tally]) => ({ instance, ...tally, cost: tally.cost as Micros })),
      running: [...this.#running.values()],
    };
    this.#running.clear();
    return report;
  }
}
