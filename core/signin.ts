/**
 * How often someone may try to sign in, as pure decisions (GCRA: one number a key). A try is counted before the password
 * is hashed, and given back when it was right, so only wrong ones use an allowance up. Strangers draw on the allowances
 * of the name and of their address; a device that has signed in as that name before draws on one of its own, and on no
 * other: nobody can lock a person out of their own machine (OWASP ASVS 5.0, 6.1.1 and 6.3.1).
 */
import type { EpochMs } from "./ids.ts";
import { LOGIN_LIMITERS } from "./limits.ts";

export interface Allowance {
  /** Tries at once. */
  readonly burst: number;
  /** One more comes back after this long. */
  readonly everyMs: number;
}

const MINUTE_MS = 60_000;

/** What a try is counted against. */
export const ALLOWANCES = {
  /** Ten tries, then one a minute: 1,450 guesses a day at most, and the most common passwords are refused. */
  name: { burst: 10, everyMs: MINUTE_MS },
  /** An office behind one address: fifty, then five a minute. */
  address: { burst: 50, everyMs: MINUTE_MS / 5 },
  /** A known device's own. */
  device: { burst: 10, everyMs: MINUTE_MS },
} as const satisfies Record<string, Allowance>;
export type AllowanceKind = keyof typeof ALLOWANCES;

/** Rows that one limiter keeps. A flood of invented names pushes out the least used keys, never the most tried. */
export const LIMITER_ROWS_MAX = 20_000;

export type Try =
  | { readonly isAllowed: true; readonly fullAt: EpochMs }
  | { readonly isAllowed: false; readonly retryAfterMs: number };

/** No allowance is ever further than its whole burst from being full, whatever the clock did since. */
function bounded(fullAt: number, { burst, everyMs }: Allowance, now: EpochMs): number {
  return Math.min(Math.max(fullAt, now), now + burst * everyMs);
}

/**
 * @param fullAt when the allowance of that key is whole again; null for a key without a row
 * @returns the new `fullAt`, or how long to wait; a try at `now + retryAfterMs` is allowed, one a millisecond earlier is not
 */
export function countTry(fullAt: EpochMs | null, allowance: Allowance, now: EpochMs): Try {
  const next = bounded(fullAt ?? now, allowance, now) + allowance.everyMs;
  const over = next - (now + allowance.burst * allowance.everyMs);
  return over > 0 ? { isAllowed: false, retryAfterMs: over } : { isAllowed: true, fullAt: next as EpochMs };
}

/** Gives one try back. @returns the new `fullAt`; never more than a whole allowance is left */
export function giveBack(fullAt: EpochMs, allowance: Allowance, now: EpochMs): EpochMs {
  return Math.max(now, bounded(fullAt, allowance, now) - allowance.everyMs) as EpochMs;
}

/** Which of the fixed limiters keeps a key. @param digest of the key: uniform bytes */
export function limiterOf(digest: Uint8Array): number {
  return (digest[0] ?? 0) % LOGIN_LIMITERS;
}
