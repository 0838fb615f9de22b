/**
 * Client-chosen keys: the same key with the same arguments tells the same effect again, with others it is a conflict
 * (DESIGN.md §4). The row is written in the transaction of the effect; it holds ids, never a token.
 */
import { and, count, eq, lt } from "drizzle-orm";
import type { Denial } from "../../core/denial.ts";
import type { EpochMs } from "../../core/ids.ts";
import { IDEMPOTENCY_KEYS_SESSION_MAX, IDEMPOTENCY_LIFE_MS } from "../../core/limits.ts";
import { err, ok, type Result } from "../../core/result.ts";
import type { Idempotency } from "../../core/wire/questions.ts";
import * as t from "../../drizzle/authority/schema.ts";
import type { Context } from "./context.ts";

/**
 * @param effect runs at most once a key; what it returns is kept and told again
 * @returns the effect's value, or `idempotency_conflict`, or the effect's own denial (which uses no key up)
 */
export function once<T>(
  context: Context,
  key: Idempotency | null,
  now: EpochMs,
  effect: () => Result<T, Denial>,
): Result<T, Denial> {
  if (key === null) return effect();
  const { db } = context;
  const table = t.idempotency;
  const known = effectOf(context, key, now);
  if (known !== undefined) {
    return known.digest === key.digest ? ok(known.effect as T) : err({ reason: "idempotency_conflict" });
  }
  db.delete(table).where(lt(table.expiresAt, now)).run();
  const used = db.select({ n: count() }).from(table).where(eq(table.scope, key.scope)).get()?.n ?? 0;
  if (used >= IDEMPOTENCY_KEYS_SESSION_MAX) {
    return err({ reason: "quota_reached", what: "idempotency_keys", limit: IDEMPOTENCY_KEYS_SESSION_MAX });
  }
  const outcome = effect();
  if (outcome.ok) {
    const row = { digest: key.digest, effect: outcome.value as unknown, expiresAt: now + IDEMPOTENCY_LIFE_MS };
    db.insert(table)
      .values({ scope: key.scope, key: key.key, ...row })
      .onConflictDoUpdate({ target: [table.scope, table.key], set: row })
      .run();
  }
  return outcome;
}

/**
 * For one who reaches nothing any more, because what they did with this very key ended them: its effect, told again.
 *
 * @returns the effect; or the denial, where this key and these arguments did nothing
 */
export function toldBefore<T>(
  context: Context,
  key: Idempotency | null,
  now: EpochMs,
  denial: Denial,
): Result<T, Denial> {
  const known = key === null || denial.reason !== "ended" ? undefined : effectOf(context, key, now);
  return known !== undefined && known.digest === key?.digest ? ok(known.effect as T) : err(denial);
}

function effectOf(
  { db }: Context,
  { scope, key }: Idempotency,
  now: EpochMs,
): { digest: string; effect: unknown } | undefined {
  const table = t.idempotency;
  const known = db
    .select()
    .from(table)
    .where(and(eq(table.scope, scope), eq(table.key, key)))
    .get();
  return known !== undefined && known.expiresAt > now ? known : undefined;
}
