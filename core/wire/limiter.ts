/**
 * `LimiterRpc`: what the edge asks of one of the sixteen login limiters. Keys are digests: neither a name nor an address
 * is stored. The time is read in the object.
 */
import type { AllowanceKind } from "../signin.ts";

export interface LimiterRpc {
  /** Counts one try, or refuses it: null when it may be made, else how long to wait. */
  attempt(kind: AllowanceKind, key: string): Promise<{ readonly retryAfterMs: number } | null>;
  /** Gives back a try that turned out right. */
  refund(kind: AllowanceKind, key: string): Promise<void>;
}
