/**
 * What an audit row means in D1: the row itself, and the rows of lists that follow from it. Statements of one batch; the
 * audit row's key makes the batch land once. Adding a kind that lists show touches the table below and nothing else.
 */
import { eq, max, sql } from "drizzle-orm";
import type { BatchItem } from "drizzle-orm/batch";
import type { DrizzleD1Database } from "drizzle-orm/d1";
import type { AuditBody, AuditKind } from "../../core/audit/kinds.ts";
import { dayOf } from "../../core/budget/ledger.ts";
import type { EpochMs } from "../../core/ids.ts";
import * as d1 from "./schema.ts";

export type D1 = DrizzleD1Database;
type Statement = BatchItem<"sqlite">;

/** A row of the object's audit table. */
export interface AuditRow {
  readonly seq: number;
  readonly at: number;
  readonly kind: string;
  readonly session: string | null;
  readonly body: string;
  readonly hash: string;
}

type Follow<K extends AuditKind> = (
  db: D1,
  row: { user: string; at: number; session: string },
  body: AuditBody[K],
) => Statement[];

function agentRow(
  db: D1,
  user: string,
  at: number,
  state: "active" | "deleted",
  body: AuditBody["agent.registered" | "agent.removed" | "agent.cap_changed"],
): Statement[] {
  const { agent: id, name, cap } = body;
  const scope = body.scope.join(" ");
  return [
    db
      .insert(d1.agents)
      .values({ id, userId: user, name, scope, cap, state, createdAt: at })
      .onConflictDoUpdate({ target: d1.agents.id, set: { name, scope, cap, state } }),
  ];
}

function invocation(
  db: D1,
  user: string,
  session: string,
  id: string,
  kind: "minute" | "http" | "stream" | "socket",
  body: AuditBody["calls.counted" | "call.settled"],
): Statement[] {
  const { node, slug, instance, calls, errors, cost, firstAt, lastAt } = body;
  const table = d1.agentInvocations;
  return [
    db
      .insert(table)
      .values({
        id,
        sessionId: session,
        node,
        userId: user,
        agentSlug: slug,
        instanceId: instance,
        kind,
        calls,
        errors,
        cost,
        firstAt,
        lastAt,
      })
      // A call that settles after its minute was reported comes in a second row of the log: the two are one row here.
      .onConflictDoUpdate({
        target: table.id,
        set: {
          calls: sql`${table.calls} + ${calls}`,
          errors: sql`${table.errors} + ${errors}`,
          cost: sql`${table.cost} + ${cost}`,
          lastAt: sql`max(${table.lastAt}, ${lastAt})`,
        },
      }),
  ];
}

/** Adds to a role's day, across users. */
function roleDay(
  db: D1,
  at: number,
  role: string,
  { exchanges = 0, failures = 0, answers = 0 }: { exchanges?: number; failures?: number; answers?: number },
): Statement[] {
  const table = d1.roleDays;
  return [
    db
      .insert(table)
      .values({ role, day: dayOf(at as EpochMs), exchanges, failures, answers })
      .onConflictDoUpdate({
        target: [table.role, table.day],
        set: {
          exchanges: sql`${table.exchanges} + ${exchanges}`,
          failures: sql`${table.failures} + ${failures}`,
          answers: sql`${table.answers} + ${answers}`,
        },
      }),
  ];
}

const FOLLOW: { readonly [K in AuditKind]?: Follow<K> } = {
  // Not the tier: D1's is written first, where it is changed, and a row that comes late must not bring an older one back.
  "agent.registered": (db, { user, at }, body) => agentRow(db, user, at, "active", body),
  "agent.cap_changed": (db, { user, at }, body) => agentRow(db, user, at, "active", body),
  "agent.removed": (db, { user, at }, body) => agentRow(db, user, at, "deleted", body),
  "session.opened": (db, { user, at, session }, { sessionKind, client, expires, ip, userAgent }) => [
    db.insert(d1.agentSessions).values({
      id: session,
      userId: user,
      clientId: client,
      kind: sessionKind,
      startedAt: at,
      expiresAt: expires,
      ipAddress: ip,
      userAgent,
    }),
  ],
  "session.used": (db, { session }, { slug, instance }) => [
    db.update(d1.agentSessions).set({ agentSlug: slug, instanceId: instance }).where(eq(d1.agentSessions.id, session)),
  ],
  "session.ended": (db, { at, session }, { why, by }) => [
    db
      .update(d1.agentSessions)
      .set({ endedAt: at, endReason: why, endedBy: by.id })
      .where(eq(d1.agentSessions.id, session)),
  ],
  "calls.counted": (db, { user, session }, body) =>
    invocation(db, user, session, `${body.node} ${body.slug} ${body.instance} ${body.minute}`, "minute", body),
  "credential.exchanged": (db, { at }, { role }) => roleDay(db, at, role, { exchanges: 1 }),
  "credential.failed": (db, { at }, { role }) => roleDay(db, at, role, { failures: 1 }),
  "credential.served": (db, { at }, { role, answers }) => roleDay(db, at, role, { answers }),
  // A connection's id is drawn by the agents' side: with the user's it can name nobody else's row.
  "call.settled": (db, { user, session }, body) =>
    invocation(db, user, session, body.callKind === "http" ? body.id : `${user} ${body.id}`, body.callKind, body),
};

/**
 * @param user whose object the row is from
 * @returns the statements of one audit row, to stand in one batch, in order
 */
export function statementsOf(db: D1, user: string, row: AuditRow): Statement[] {
  const { seq, at, kind, session, body, hash } = row;
  const follow = FOLLOW[kind as AuditKind] as Follow<AuditKind> | undefined;
  const facts = { user, at, session: session ?? "" };
  return [
    db.insert(d1.agentAuditLog).values({ userId: user, seq, at, kind, sessionId: session, body, hash }),
    ...(follow?.(db, facts, JSON.parse(body) as never) ?? []),
  ];
}

/** The last audit row of a user that D1 has. */
export async function lastDelivered(db: D1, user: string): Promise<number> {
  const row = await db
    .select({ seq: max(d1.agentAuditLog.seq) })
    .from(d1.agentAuditLog)
    .where(eq(d1.agentAuditLog.userId, user))
    .get();
  return row?.seq ?? 0;
}
