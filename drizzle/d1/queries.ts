/**
 * What the edge asks of D1: people by name at sign-in, and lists for operators. Every question is parameterised by
 * Drizzle, every row is checked as it is read, and whatever goes wrong with D1 is `storage_unavailable`, never a throw
 * (a driver's message names statements and parameters). Nothing here decides about a call or a stop.
 */
import { and, asc, desc, eq, gt, gte, isNull, lt, lte, or, sql, sum, type SQL } from "drizzle-orm";
import { openD1 } from "./open.ts";
import * as z from "zod/mini";
import type { Tier } from "../../core/config.ts";
import type { Denial } from "../../core/denial.ts";
import { err, ok, type Result } from "../../core/result.ts";
import {
  agentAuditRow,
  agentSessionRow,
  roleUseRow,
  userRow,
  type AgentAuditRow,
  type AgentSessionRow,
  type RoleUseRow,
  type UserRow,
} from "./rows.ts";
import { agentAuditLog, agentSessions, bootstraps, roleDays, users } from "./schema.ts";

async function guarded<T>(question: () => Promise<Result<T, Denial>>): Promise<Result<T, Denial>> {
  try {
    return await question();
  } catch {
    return err({ reason: "storage_unavailable" });
  }
}

function first<S extends z.ZodMiniType>(rows: readonly unknown[], schema: S): Result<z.output<S> | null, Denial> {
  return ok(rows[0] === undefined ? null : schema.parse(rows[0]));
}

/** Names are ASCII and unique without regard to case; what `lower` does in SQLite is done to both sides. */
export function findUserByName(db: D1Database, username: string): Promise<Result<UserRow | null, Denial>> {
  return guarded(async () =>
    first(
      await openD1(db)
        .select()
        .from(users)
        .where(eq(sql`lower(${users.username})`, sql`lower(${username})`))
        .limit(1),
      userRow,
    ),
  );
}

export function findUserById(db: D1Database, id: string): Promise<Result<UserRow | null, Denial>> {
  return guarded(async () => first(await openD1(db).select().from(users).where(eq(users.id, id)).limit(1), userRow));
}

/** The words of SQLite's refusal, which Drizzle keeps as its error's cause. */
function violated(error: unknown): "bootstraps" | "users" | null {
  const cause = error instanceof Error && error.cause instanceof Error ? error.cause : error;
  const words = cause instanceof Error ? cause.message : "";
  if (!words.includes("UNIQUE constraint failed")) return null;
  return words.includes("bootstraps.") ? "bootstraps" : "users";
}

/**
 * Adds a person; with `bootstrapHash`, redeems that code in the same transaction, so that of any number of redemptions
 * one has an effect.
 *
 * @returns `username_taken`, or `not_found` for a code that was used before
 */
export async function insertUser(
  db: D1Database,
  row: UserRow,
  bootstrapHash: string | null,
): Promise<Result<null, Denial>> {
  const orm = openD1(db);
  try {
    const person = orm.insert(users).values(row);
    if (bootstrapHash === null) await person;
    else {
      const redemption = { codeHash: bootstrapHash, userId: row.id, at: row.createdAt };
      await orm.batch([orm.insert(bootstraps).values(redemption), person]);
    }
    return ok(null);
  } catch (error) {
    const table = violated(error);
    if (table === null) return err({ reason: "storage_unavailable" });
    return err({ reason: table === "bootstraps" ? "not_found" : "username_taken" });
  }
}

export function isBootstrapUsed(db: D1Database, bootstrapHash: string): Promise<Result<boolean, Denial>> {
  return guarded(async () => {
    const rows = await openD1(db).select().from(bootstraps).where(eq(bootstraps.codeHash, bootstrapHash)).limit(1);
    return ok(rows.length > 0);
  });
}

/** Replaces the hash that was just checked, and no newer one. */
export function replacePasswordHash(
  db: D1Database,
  id: string,
  from: string,
  to: string,
): Promise<Result<null, Denial>> {
  return guarded(async () => {
    await openD1(db)
      .update(users)
      .set({ passwordHash: to })
      .where(and(eq(users.id, id), eq(users.passwordHash, from)));
    return ok(null);
  });
}

/** @returns false where there is no such person */
export function updateTier(db: D1Database, id: string, tier: Tier): Promise<Result<boolean, Denial>> {
  return guarded(async () => {
    const rows = await openD1(db).update(users).set({ tier }).where(eq(users.id, id)).returning({ id: users.id });
    return ok(rows.length > 0);
  });
}

export interface SessionsQuery {
  readonly userId: string | null;
  readonly clientId: string | null;
  readonly agentSlug: string | null;
  /** Null: open and ended ones. */
  readonly isActive: boolean | null;
  /** The last row of the page before. */
  readonly after: { readonly startedAt: number; readonly id: string } | null;
  readonly limit: number;
  readonly now: number;
}

/** Newest first; rows of one millisecond by id. */
export function listSessions(db: D1Database, query: SessionsQuery): Promise<Result<AgentSessionRow[], Denial>> {
  const { userId, clientId, agentSlug, isActive, after, limit, now } = query;
  const t = agentSessions;
  const where: (SQL | undefined)[] = [
    userId === null ? undefined : eq(t.userId, userId),
    clientId === null ? undefined : eq(t.clientId, clientId),
    agentSlug === null ? undefined : eq(t.agentSlug, agentSlug),
    isActive === true ? and(isNull(t.endedAt), gt(t.expiresAt, now)) : undefined,
    isActive === false ? or(sql`${t.endedAt} is not null`, lte(t.expiresAt, now)) : undefined,
    after === null
      ? undefined
      : or(lt(t.startedAt, after.startedAt), and(eq(t.startedAt, after.startedAt), gt(t.id, after.id))),
  ];
  return guarded(async () => {
    const rows = await openD1(db)
      .select()
      .from(t)
      .where(and(...where))
      .orderBy(desc(t.startedAt), asc(t.id))
      .limit(limit);
    return ok(z.array(agentSessionRow).parse(rows));
  });
}

export function findSession(db: D1Database, id: string): Promise<Result<AgentSessionRow | null, Denial>> {
  return guarded(async () =>
    first(await openD1(db).select().from(agentSessions).where(eq(agentSessions.id, id)).limit(1), agentSessionRow),
  );
}

export interface AuditQuery {
  readonly userId: string | null;
  readonly sessionId: string | null;
  readonly kind: string | null;
  readonly after: { readonly at: number; readonly userId: string; readonly seq: number } | null;
  readonly limit: number;
}

/** Newest first; rows of one millisecond by user and sequence, the later one first. */
export function listAudit(db: D1Database, query: AuditQuery): Promise<Result<AgentAuditRow[], Denial>> {
  const { userId, sessionId, kind, after, limit } = query;
  const t = agentAuditLog;
  const where: (SQL | undefined)[] = [
    userId === null ? undefined : eq(t.userId, userId),
    sessionId === null ? undefined : eq(t.sessionId, sessionId),
    kind === null ? undefined : eq(t.kind, kind),
    after === null
      ? undefined
      : or(
          lt(t.at, after.at),
          and(eq(t.at, after.at), gt(t.userId, after.userId)),
          and(eq(t.at, after.at), eq(t.userId, after.userId), lt(t.seq, after.seq)),
        ),
  ];
  return guarded(async () => {
    const rows = await openD1(db)
      .select()
      .from(t)
      .where(and(...where))
      .orderBy(desc(t.at), asc(t.userId), desc(t.seq))
      .limit(limit);
    return ok(z.array(agentAuditRow).parse(rows));
  });
}

/** What each role of a cloud was asked for, of all users together, from that UTC day on (days since 1970). */
export function sumRoleDays(db: D1Database, fromDay: number): Promise<Result<RoleUseRow[], Denial>> {
  const t = roleDays;
  return guarded(async () => {
    const rows = await openD1(db)
      .select({
        role: t.role,
        exchanges: sum(t.exchanges).mapWith(Number),
        failures: sum(t.failures).mapWith(Number),
        answers: sum(t.answers).mapWith(Number),
      })
      .from(t)
      .where(gte(t.day, fromDay))
      .groupBy(t.role)
      .orderBy(asc(t.role));
    return ok(z.array(roleUseRow).parse(rows));
  });
}
