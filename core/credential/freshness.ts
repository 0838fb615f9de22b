/** fresh | usable | must-refresh: what a kept credential is good for now. No clock, no I/O. */
import { CREDENTIAL_SERVE_MIN_MS } from "../limits.ts";

export type Freshness = "fresh" | "usable" | "must-refresh";

const WINDOW_MAX_MS = 900_000;
const JITTER_SHARE = 0.2;

/**
 * When the background may fetch the next one: a third of the life before the end, 15 minutes at most, a little later for
 * some keys than for others, so that what was made together is not renewed together.
 *
 * @param jitter in [0, 1), of the key
 */
export function refreshAtMs(madeAtMs: number, expiresMs: number, jitter: number): number {
  const window = Math.min((expiresMs - madeAtMs) / 3, WINDOW_MAX_MS);
  return Math.round(expiresMs - Math.max(window * (1 - JITTER_SHARE * jitter), CREDENTIAL_SERVE_MIN_MS));
}

/** @returns `usable`: serve it, and fetch the next one beside it */
export function freshnessOf(
  entry: { readonly madeAt: number; readonly expiresAt: number },
  jitter: number,
  nowMs: number,
): Freshness {
  // A clock that went back must not revive what was over: life is counted from its making, too.
  if (nowMs > entry.expiresAt - CREDENTIAL_SERVE_MIN_MS) return "must-refresh";
  return nowMs < refreshAtMs(entry.madeAt, entry.expiresAt, jitter) ? "fresh" : "usable";
}

/** A number in [0, 1) of a key's hexadecimal digest. */
export function jitterOf(digest: string): number {
  return Number.parseInt(digest.slice(0, 8), 16) / 0x1_0000_0000;
}
