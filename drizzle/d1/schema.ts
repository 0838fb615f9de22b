/**
 * D1: usernames with their password hashes, and copies of what happened, for lists and for finding an object by a
 * person's name. No decision about a call, a stop or a session start by key reads it. All but `users` and `bootstraps`
 * is written by the objects' outboxes alone (durable-objects/authority/delivery.ts).
 *
 * Times are milliseconds since 1970; amounts are micros.
 */
import { sql } from "drizzle-orm";
import { index, integer, primaryKey, sqliteTable, text, uniqueIndex } from "drizzle-orm/sqlite-core";

export const users = sqliteTable(
  "users",
  {
    id: text().primaryKey(),
    username: text({ length: 64 }).notNull(),
    passwordHash: text("password_hash").notNull(),
    tier: text({ enum: ["free", "pro", "admin"] }).notNull(),
    createdAt: integer("created_at").notNull(),
  },
  (table) => [uniqueIndex("users_username_lower").on(sql`lower(${table.username})`)],
);

/** Bootstrap codes that were redeemed: each once, for ever. */
export const bootstraps = sqliteTable("bootstraps", {
  codeHash: text("code_hash").primaryKey(),
  userId: text("user_id").notNull(),
  at: integer().notNull(),
});

export const agents = sqliteTable(
  "agents",
  {
    id: text().primaryKey(),
    userId: text("user_id").notNull(),
    name: text().notNull(),
    scope: text().notNull(),
    cap: integer(),
    state: text({ enum: ["active", "deleted"] }).notNull(),
    createdAt: integer("created_at").notNull(),
  },
  (table) => [index("agents_user").on(table.userId)],
);

export const agentSessions = sqliteTable(
  "agent_sessions",
  {
    id: text().primaryKey(),
    userId: text("user_id").notNull(),
    clientId: text("client_id"),
    kind: text({ enum: ["person", "api", "agent"] }).notNull(),
    /** Of its first call. */
    agentSlug: text("agent_slug"),
    instanceId: text("instance_id"),
    startedAt: integer("started_at").notNull(),
    expiresAt: integer("expires_at").notNull(),
    endedAt: integer("ended_at"),
    endReason: text("end_reason"),
    endedBy: text("ended_by"),
    ipAddress: text("ip_address"),
    userAgent: text("user_agent"),
  },
  (table) => [
    index("agent_sessions_user_started").on(table.userId, sql`${table.startedAt} desc`),
    index("agent_sessions_user_open")
      .on(table.userId)
      .where(sql`${table.endedAt} is null`),
    index("agent_sessions_started").on(sql`${table.startedAt} desc`, table.id),
  ],
);

/** One row a node, entry, instance and minute; or one a strict call, stream or socket. */
export const agentInvocations = sqliteTable(
  "agent_invocations",
  {
    id: text().primaryKey(),
    sessionId: text("session_id").notNull(),
    node: text().notNull(),
    userId: text("user_id").notNull(),
    agentSlug: text("agent_slug").notNull(),
    instanceId: text("instance_id").notNull(),
    kind: text({ enum: ["minute", "http", "stream", "socket"] }).notNull(),
    calls: integer().notNull(),
    errors: integer().notNull(),
    cost: integer().notNull(),
    firstAt: integer("first_at").notNull(),
    lastAt: integer("last_at").notNull(),
  },
  (table) => [index("agent_invocations_session").on(table.sessionId, table.firstAt)],
);

/** What roles of clouds were asked for, of all users, by UTC day: what operators look at before they change a role. */
export const roleDays = sqliteTable(
  "role_days",
  {
    /** `<provider>:<alias>`. */
    role: text().notNull(),
    /** Days since 1970. */
    day: integer().notNull(),
    exchanges: integer().notNull(),
    failures: integer().notNull(),
    /** Credentials that were handed out, from an exchange or without one. */
    answers: integer().notNull(),
  },
  (table) => [primaryKey({ columns: [table.role, table.day] })],
);

/** The audit log of every user, each in its own gapless sequence. */
export const agentAuditLog = sqliteTable(
  "agent_audit_log",
  {
    userId: text("user_id").notNull(),
    seq: integer().notNull(),
    at: integer().notNull(),
    kind: text().notNull(),
    sessionId: text("session_id"),
    body: text().notNull(),
    hash: text().notNull(),
  },
  (table) => [
    primaryKey({ columns: [table.userId, table.seq] }),
    index("agent_audit_log_at").on(sql`${table.at} desc`),
    index("agent_audit_log_session").on(table.sessionId, table.seq),
  ],
);
