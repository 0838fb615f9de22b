/**
 * The ledger's decision: may this much be set aside at a node and every level above it? Integers only. A level is a cap
 * in the tree user (a UTC day) → agent → session → grants → nodes; `settled` and `held` count the level's whole subtree.
 *
 *   settled + lost + held + leased + reserved + cost <= cap, at each level
 *
 * `leased` are slices that isolates may still spend from, `lost` those whose time is over and that nobody reported: they
 * count as spent, unless a late report says better.
 */
import type { Denial } from "../denial.ts";
import type { EpochMs, Micros } from "../ids.ts";
import { err, ok, type Result } from "../result.ts";

const DAY_MS = 86_400_000;

/** One cap above a call, with what its subtree has used. */
export interface Level {
  /** A path, an agent's id, or the user's: shown in the denial, so that a caller knows which node binds. */
  readonly id: string;
  /** null: nothing is capped here. */
  readonly cap: Micros | null;
  readonly settled: Micros;
  readonly held: Micros;
  readonly leased: Micros;
  readonly lost: Micros;
  /** Set aside below for nodes that have not used it yet: Σ max(0, reserved − committed) over reservations under here. */
  readonly reserved: Micros;
  /** What this level has of its own reservation and not used: what it spends of that costs the levels above nothing more. */
  readonly slack: Micros;
}

/** What is granted at a level, spent or not: its own and everything below, reservations at least in full. */
export function committed({ settled, held, leased, lost, reserved }: Level): number {
  return settled + held + leased + lost + reserved;
}

/** The most that one more charge at the node may be, at each capped level: what it has left, and the slack on the way up to it. */
function* roomOf(
  levels: readonly Level[],
): Generator<{ readonly level: Level; readonly cap: Micros; readonly left: number }> {
  let slack = 0;
  for (const level of levels.toReversed()) {
    if (level.cap !== null) yield { level, cap: level.cap, left: level.cap - committed(level) + slack };
    slack += level.slack;
  }
}

/** What the strictest level still has, and which it is; null where nothing caps. */
export function leftOf(levels: readonly Level[]): { readonly micros: Micros; readonly level: Level } | null {
  let strictest: { micros: Micros; level: Level } | null = null;
  for (const { level, left } of roomOf(levels)) {
    const micros = Math.max(0, left) as Micros;
    if (strictest === null || micros < strictest.micros) strictest = { micros, level };
  }
  return strictest;
}

/**
 * @param levels from the user down to the node
 * @param cost the most that the call may cost, in micros
 * @param earliestEnd when the first open hold or slice in the way ends by itself
 * @returns micros left at the binding level after the hold (null where nothing caps), or 402 `budget_exhausted` when no
 *   settling of open holds can make room in any case, else 429 `budget_held`
 */
export function decideHold(
  levels: readonly Level[],
  cost: Micros,
  earliestEnd: EpochMs | null,
  now: EpochMs,
): Result<Micros | null, Denial> {
  for (const { id, cap, settled, lost } of levels) {
    if (cap !== null && settled + lost + cost > cap) {
      return err({
        reason: "budget_exhausted",
        node: id,
        remaining: Math.max(0, cap - settled - lost) as Micros,
        cost,
      });
    }
  }
  let remaining: number | null = null;
  for (const { level, left } of roomOf(levels)) {
    if (left < cost)
      return err({
        reason: "budget_held",
        node: level.id,
        retryAfterMs: Math.min(2_000, Math.max(1, (earliestEnd ?? now) - now)),
      });
    remaining = Math.min(remaining ?? Infinity, left - cost);
  }
  return ok(remaining as Micros | null);
}

export type HoldOutcome = "settled" | "voided" | "expired";

/** What a hold turns into. Settling with nothing reported, like expiring, charges all of it. */
export function decideOutcome(
  hold: { readonly amount: Micros; readonly outcome: HoldOutcome | null },
  outcome: HoldOutcome,
  actual: Micros | null,
): Result<Micros, Denial> {
  if (hold.outcome !== null) return err({ reason: "hold_mismatch", fault: hold.outcome });
  if (outcome === "voided") return ok(0 as Micros);
  const cost = actual ?? hold.amount;
  return cost > hold.amount ? err({ reason: "hold_mismatch", fault: "too_much" }) : ok(cost);
}

/** UTC day number; the ledger only ever moves it forward. */
export function dayOf(now: EpochMs): number {
  return Math.floor(now / DAY_MS);
}

/** The first millisecond of a UTC day. */
export function startOf(day: number): EpochMs {
  return (day * DAY_MS) as EpochMs;
}
