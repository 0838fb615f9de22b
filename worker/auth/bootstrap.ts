/**
 * The code that makes the first operator: `LEGATE_BOOTSTRAP`, `<epoch seconds>.<random>`, good for a day from the moment
 * it names and once for ever. A wrong, a late, a used and an absent code get the same 404, so that nobody learns whether
 * there is one.
 */
import { createHash, timingSafeEqual } from "node:crypto";
import type { Denial } from "../../core/denial.ts";
import { toEpochSeconds, type EpochMs } from "../../core/ids.ts";
import { BOOTSTRAP_LIFE_SECONDS, CLOCK_SKEW_SECONDS } from "../../core/limits.ts";
import { err, ok, type Result } from "../../core/result.ts";
import { isBootstrapUsed } from "../../drizzle/d1/queries.ts";
import type { Edge } from "../env.ts";

const BOOTSTRAP_PATTERN = /^(\d{10})\.[A-Za-z0-9_-]{16,128}$/;
const NOT_FOUND: Result<never, Denial> = err({ reason: "not_found" });

const sha256 = (text: string) => createHash("sha256").update(text).digest();

/**
 * Checks a code; redeeming it is the insertion of its digest beside the person's row.
 *
 * @returns the digest under which it is redeemed, or `not_found`
 */
export async function checkBootstrap(code: string, edge: Edge, now: EpochMs): Promise<Result<string, Denial>> {
  const digest = sha256(code);
  const madeAt = BOOTSTRAP_PATTERN.exec(edge.bootstrap ?? "")?.[1];
  if (edge.bootstrap === null || madeAt === undefined || !timingSafeEqual(digest, sha256(edge.bootstrap)))
    return NOT_FOUND;
  const age = toEpochSeconds(now) - Number(madeAt);
  if (age < -CLOCK_SKEW_SECONDS || age >= BOOTSTRAP_LIFE_SECONDS) return NOT_FOUND;
  const hash = digest.toString("hex");
  const used = await isBootstrapUsed(edge.db, hash);
  if (!used.ok) return used;
  return used.value ? NOT_FOUND : ok(hash);
}
