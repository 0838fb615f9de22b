/**
 * Rate decisions: GCRA (the generic cell rate algorithm, ITU-T I.371) in several windows at once, charged at a node and
 * each ancestor, all or nothing. Pure: given theoretical arrival times (TATs) and a clock, it answers and names the new
 * TATs; whoever asked writes them. A refusal always says when the same question would be admitted.
 *
 * Budget-aware (DESIGN.md §4): a window is full above half of the budget and falls to a tenth as the budget runs out.
 */
import type { EpochMs } from "../ids.ts";
import { err, ok, type Result } from "../result.ts";

/** `calls` in `periodMs`; a caller that was quiet may spend `burst` of them at once. */
export interface Window {
  readonly calls: number;
  readonly periodMs: number;
  readonly burst: number;
}

/** How the budget shapes a rate: the whole of it above `fullAbove` of the cap, `leastShare` of it at nothing left. */
export interface Curve {
  readonly fullAbove: number;
  readonly leastShare: number;
}

export const CURVE: Curve = { fullAbove: 0.5, leastShare: 0.1 };

/** One bucket: a window at one level of the tree, with its TAT in milliseconds (0: never used). */
export interface Bucket {
  readonly level: string;
  readonly window: Window;
  readonly tat: number;
}

export interface Throttled {
  readonly retryAfterMs: number;
  /** The bucket that binds: the strictest is the one reported. */
  readonly bucket: Bucket;
}

export interface Passed {
  /** New TATs, in the order of the buckets. */
  readonly tats: readonly number[];
  /** Of the strictest bucket: what may still be called at once, and when it is full again. */
  readonly strictest: { readonly bucket: Bucket; readonly remaining: number; readonly resetMs: number } | null;
}

/**
 * @param left what the budget still allows, as a share of its cap: 0 to 1; 1 where nothing is capped
 * @returns the share of a rate that may be used
 */
export function rateShare(left: number, { fullAbove, leastShare }: Curve = CURVE): number {
  if (left >= fullAbove) return 1;
  return leastShare + (1 - leastShare) * (Math.max(0, left) / fullAbove);
}

/**
 * Decides `calls` calls at every bucket at once.
 *
 * @param buckets of the node and each ancestor; none: nothing limits
 * @param calls how many, at least 1
 * @param share of the rate (`rateShare`): the interval between calls grows by its inverse
 * @param now a clock that may go back: time before the last decision neither refills nor drains (I17)
 * @returns the new TATs, or the wait of the strictest bucket; `calls` of more than a burst never pass
 */
export function throttle(
  buckets: readonly Bucket[],
  calls: number,
  share: number,
  now: EpochMs,
): Result<Passed, Throttled> {
  const tats: number[] = [];
  let strictest: Passed["strictest"] = null;
  let refused: Throttled | null = null;
  for (const bucket of buckets) {
    const interval = bucket.window.periodMs / bucket.window.calls / share;
    const tolerance = toleranceOf(bucket.window, share);
    const start = Math.max(bucket.tat, now);
    const tat = start + interval * calls;
    // Rounded up: at exactly `now + retryAfterMs` the same question passes, a millisecond earlier it does not.
    const wait = Math.ceil(tat - tolerance - now);
    if (wait > 0) {
      if (refused === null || wait > refused.retryAfterMs) refused = { retryAfterMs: wait, bucket };
      continue;
    }
    tats.push(tat);
    const remaining = Math.floor((tolerance - (tat - now)) / interval + 1e-9);
    if (strictest === null || remaining < strictest.remaining)
      strictest = { bucket, remaining, resetMs: Math.ceil(tat - now) };
  }
  return refused === null ? ok({ tats, strictest }) : err(refused);
}

/**
 * How far ahead of the clock a TAT may run. The burst is counted in intervals of the full rate: what was charged before the
 * budget fell was charged at those, and a tolerance that grew with the interval would admit it twice. Always one call.
 */
function toleranceOf({ calls, periodMs, burst }: Window, share: number): number {
  return (periodMs / calls) * Math.max(burst, 1 / share);
}

/** How many of `wanted` calls every bucket would pass now: 0 when not even one. */
export function mostThrottled(buckets: readonly Bucket[], wanted: number, share: number, now: EpochMs): number {
  let most = wanted;
  for (const { window, tat } of buckets) {
    const interval = window.periodMs / window.calls / share;
    const room = toleranceOf(window, share) - (Math.max(tat, now) - now);
    most = Math.min(most, Math.max(0, Math.floor(room / interval + 1e-9)));
  }
  return most;
}

/**
 * Calls that were granted and not made: the TAT moves back, by what of that grant still lies ahead of the clock. What time
 * has drained of it already was given back then, and would be given back twice.
 *
 * @param granted the TAT that the grant left behind
 * @param now the latest time that was ever seen
 */
export function refund(bucket: Bucket, calls: number, share: number, granted: number, now: EpochMs): number {
  const unused = (bucket.window.periodMs / bucket.window.calls / share) * calls;
  return bucket.tat - Math.min(unused, Math.max(0, granted - now));
}
