/**
 * Budgets for APIs that are not behind the gate (`/holds`): a resource server sets the most aside before it works, and
 * settles or voids it afterwards. Whoever asks is the client of the audience that the token was exchanged for.
 */
import type { Denial } from "../denial.ts";
import type { EpochMs, HoldId, Micros } from "../ids.ts";
import type { Result } from "../result.ts";
import type { VerifiedToken } from "../token/verify.ts";
import type { Settled } from "./answers.ts";
import type { Idempotency } from "./questions.ts";

export interface HoldQuestion {
  readonly token: VerifiedToken;
  /** The token's, by its own key; the grant's row must say the same. */
  readonly audience: string;
  /** The most that the work may cost. */
  readonly cost: Micros;
  /** Charged in full then. */
  readonly ttlSeconds: number;
  readonly idempotency: Idempotency | null;
}

export interface HoldView {
  readonly hold: HoldId;
  readonly held: Micros;
  readonly remaining: Micros | null;
  readonly expires: EpochMs;
}

export interface HoldEnd {
  readonly hold: HoldId;
  /** Only the audience that holds may end it. */
  readonly audience: string;
}

export interface HoldsRpc {
  hold(question: HoldQuestion): Promise<Result<HoldView, Denial>>;
  settleHold(question: HoldEnd & { readonly cost: Micros }): Promise<Result<Settled, Denial>>;
  voidHold(question: HoldEnd): Promise<Result<Settled, Denial>>;
}
