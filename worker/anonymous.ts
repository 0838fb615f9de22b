/**
 * Addresses whose client assertions keep failing. The platform's limiter counts the failures (it can't be asked without
 * counting); an address that it calls too many is refused by this isolate for a while, before any work is done for it.
 * Values alone, bounded: no promise and no lock of another request.
 */
import type { Denial } from "../core/denial.ts";
import type { EpochMs } from "../core/ids.ts";
import { err, type Err, type Result } from "../core/result.ts";
import type { Call } from "./call.ts";
import { originOf } from "./inbound.ts";

const REFUSED_MS = 10_000;
const ADDRESSES_MAX = 1_000;
const refusedUntil = new Map<string, EpochMs>();

/** @returns how long that address must wait, in milliseconds; null: it may try */
export function mayTry(address: string, now: EpochMs): number | null {
  const until = refusedUntil.get(address);
  if (until === undefined) return null;
  if (until > now && until - now <= REFUSED_MS) return until - now;
  refusedUntil.delete(address);
  return null;
}

/** @returns the denial itself, or 429 where that address has failed too often */
export async function noteFailure(call: Call, denial: Err<Denial>): Promise<Result<never, Denial>> {
  const address = originOf(call.request).ip ?? "";
  if (await call.edge.anonymousMayAsk(`client ${address}`)) return denial;
  const oldest = refusedUntil.keys().next().value;
  if (refusedUntil.size >= ADDRESSES_MAX && oldest !== undefined) refusedUntil.delete(oldest);
  refusedUntil.set(address, (call.now + REFUSED_MS) as EpochMs);
  return err({ reason: "rate_limited", retryAfterMs: REFUSED_MS });
}
