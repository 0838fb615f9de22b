/**
 * SQLite inside one user's SessionAuthority: the truth about that user's agents, sessions and spending. docs/storage.md
 * has a row of each table. Money moves by new rows: `holds` is never edited, its outcome is a row of `outcomes`. What a
 * node's own calls settled stands on the node; sums over subtrees are memory, rebuilt at wake.
 * Times are milliseconds since 1970 unless the name says seconds; amounts are micros; `day` is a UTC day number.
 */
import { index, integer, primaryKey, sqliteTable, text, uniqueIndex } from "drizzle-orm/sqlite-core";

/** One row: whose object this is. `settled*` is what folded sessions without an agent had spent. */
export const user = sqliteTable("user", {
  id: text().primaryKey(),
  username: text().notNull(),
  tier: text({ enum: ["free", "pro", "admin"] }).notNull(),
  state: text({ enum: ["active", "disabled"] }).notNull(),
  createdAt: integer().notNull(),
  settled: integer().notNull(),
  day: integer().notNull(),
  settledDay: integer().notNull(),
  tats: text({ mode: "json" }).$type<Record<string, number>>(),
});

/** Agents that this user registered. `settled*` is what its folded sessions had spent. */
export const agents = sqliteTable("agents", {
  id: text().primaryKey(),
  name: text().notNull(),
  alg: text({ enum: ["ES256", "EdDSA"] }).notNull(),
  jwk: text({ mode: "json" }).$type<Record<string, string>>().notNull(),
  scope: text({ mode: "json" }).$type<string[]>().notNull(),
  cap: integer(),
  stopCount: integer().notNull(),
  state: text({ enum: ["active", "deleted"] }).notNull(),
  createdAt: integer().notNull(),
  settled: integer().notNull(),
  day: integer().notNull(),
  settledDay: integer().notNull(),
  tats: text({ mode: "json" }).$type<Record<string, number>>(),
});

/** Other users for whom an agent of this user was authenticated, and the stop count that their object confirmed. */
export const notedUsers = sqliteTable(
  "noted_users",
  {
    agentId: text().notNull(),
    userId: text().notNull(),
    notedAt: integer().notNull(),
    toldStopCount: integer().notNull(),
  },
  (table) => [primaryKey({ columns: [table.agentId, table.userId] })],
);

/** Stop counts of agents, this user's or others', that this object has been told. Starts at a lower count are refused. */
export const toldStops = sqliteTable("told_stops", {
  agentId: text().primaryKey(),
  stopCount: integer().notNull(),
  at: integer().notNull(),
});

/** Client assertions used here, until they would have expired anyway. */
export const assertions = sqliteTable(
  "assertions",
  {
    agentId: text().notNull(),
    jti: text().notNull(),
    expiresAt: integer().notNull(),
  },
  (table) => [primaryKey({ columns: [table.agentId, table.jti] }), index("assertions_expires").on(table.expiresAt)],
);

/** A bounded period of authority. Its root grant and root node have its id as their path. */
export const sessions = sqliteTable(
  "sessions",
  {
    id: text().primaryKey(),
    kind: text({ enum: ["person", "api", "agent"] }).notNull(),
    /** The agent whose budget it draws on; null where a person acts in person. */
    clientId: text(),
    openedAt: integer().notNull(),
    expiresSeconds: integer().notNull(),
    /** Set with its row in `stops`, for lists. */
    endedAt: integer(),
    slug: text(),
    instance: text(),
    /** Its amounts have been added to its agent's or user's row, and its nodes removed. */
    folded: integer({ mode: "boolean" }).notNull(),
  },
  (table) => [index("sessions_open").on(table.endedAt, table.expiresSeconds)],
);

/** Recorded nodes of the delegation tree: what a token may be minted for. */
export const grants = sqliteTable(
  "grants",
  {
    path: text().primaryKey(),
    session: text().notNull(),
    clientId: text().notNull(),
    /** Root → current. */
    actors: text({ mode: "json" }).$type<{ sub: string; proven: boolean }[]>().notNull(),
    scope: text({ mode: "json" }).$type<string[]>().notNull(),
    agents: text({ mode: "json" }).$type<string[]>(),
    /** A resource server's audience; null is Legate itself. */
    audience: text(),
    openedAt: integer().notNull(),
    expiresSeconds: integer().notNull(),
  },
  (table) => [index("grants_session").on(table.session), index("grants_client").on(table.clientId)],
);

/** Connections of one agent object that were open when a mark fell. */
export interface StoppedObject {
  readonly slug: string;
  readonly instance: string;
  readonly kind: "socket" | "stream";
  readonly open: number;
}

/** Marks: what stands here has ended, with everything below it. The first row of a path stays; nothing revives. */
export const stops = sqliteTable(
  "stops",
  {
    path: text().primaryKey(),
    session: text().notNull(),
    at: integer().notNull(),
    why: text({
      enum: [
        "expired",
        "signed_out",
        "revoked",
        "terminated",
        "user_stopped",
        "user_disabled",
        "agent_stopped",
        "agent_deleted",
      ],
    }).notNull(),
    byKind: text({ enum: ["person", "agent", "operator", "legate"] }).notNull(),
    byId: text().notNull(),
    note: text(),
    /** No call below is admitted after this. */
    fenceAt: integer().notNull(),
    /** Sockets and grants that were open below when it fell. */
    sockets: integer().notNull(),
    grants: integer().notNull(),
    /** Where those sockets and streams were: a line of the report for each agent object. Null: as many as `sockets` says. */
    objects: text({ mode: "json" }).$type<StoppedObject[]>(),
    /** The audit row that tells of it. */
    decision: integer(),
  },
  (table) => [index("stops_session").on(table.session)],
);

/** Every place in the tree that has a cap, a mark, or something settled: sessions, grants, and what was narrowed offline. */
export const nodes = sqliteTable(
  "nodes",
  {
    path: text().primaryKey(),
    session: text().notNull(),
    kind: text({ enum: ["session", "grant", "narrowed", "gate"] }).notNull(),
    /** What a narrowed node stands for (`contentOf`); a second content for the same path is refused. */
    content: text(),
    cap: integer(),
    /** Set aside out of the parent's cap for this grant alone; released when it ends. */
    reserved: integer(),
    /** By calls of this node itself, not of those below it. */
    settled: integer().notNull(),
    day: integer().notNull(),
    settledDay: integer().notNull(),
    /** Theoretical arrival times of its rate windows (core/budget/throttle.ts). */
    tats: text({ mode: "json" }).$type<Record<string, number>>(),
    /** Last `exp` seen; the node is folded into its parent after it, unless it has a cap or a mark. */
    liveUntilSeconds: integer().notNull(),
  },
  (table) => [index("nodes_session").on(table.session), index("nodes_live").on(table.liveUntilSeconds)],
);

/** The most that an open call may cost. Never edited. */
export const holds = sqliteTable(
  "holds",
  {
    id: text().primaryKey(),
    path: text().notNull(),
    session: text().notNull(),
    callId: text().notNull(),
    slug: text().notNull(),
    instance: text().notNull(),
    level: text({ enum: ["counted", "strict", "sensitive"] }).notNull(),
    kind: text({ enum: ["http", "stream", "socket"] }).notNull(),
    amount: integer().notNull(),
    day: integer().notNull(),
    admittedAt: integer().notNull(),
    /** No agent serves anything of the call after this. */
    envelopeEnds: integer().notNull(),
    /** Charged in full then. */
    deadline: integer().notNull(),
  },
  (table) => [
    uniqueIndex("holds_call").on(table.callId), // the same question asked twice is one hold
    index("holds_session").on(table.session),
    index("holds_deadline").on(table.deadline),
  ],
);

/** What was charged to an open hold, and what it was enlarged by, so far. */
export const charges = sqliteTable(
  "charges",
  {
    holdId: text()
      .notNull()
      .references(() => holds.id),
    /** Drawn by the agent's side: told again, it is one charge. */
    id: text().notNull(),
    micros: integer().notNull(),
    enlarged: integer().notNull(),
    at: integer().notNull(),
  },
  (table) => [primaryKey({ columns: [table.holdId, table.id] })],
);

/** How a hold ended: exactly one row each. */
export const outcomes = sqliteTable(
  "outcomes",
  {
    holdId: text()
      .primaryKey()
      .references(() => holds.id),
    outcome: text({ enum: ["settled", "voided", "expired"] }).notNull(),
    cost: integer().notNull(),
    at: integer().notNull(),
  },
  (table) => [index("outcomes_at").on(table.at)],
);

/** Slices granted to isolates and not reported yet. One that never is stays spent: it is settled in full in the end. */
export const slices = sqliteTable("slices", {
  id: text().primaryKey(),
  path: text().notNull(),
  session: text().notNull(),
  slug: text().notNull(),
  units: integer().notNull(),
  calls: integer().notNull(),
  day: integer().notNull(),
  grantedAt: integer().notNull(),
  termMs: integer().notNull(),
});

/** Sockets and streams that agents' objects registered before they served them. Closing removes the row. */
export const connections = sqliteTable(
  "connections",
  {
    id: text().primaryKey(),
    path: text().notNull(),
    session: text().notNull(),
    slug: text().notNull(),
    instance: text().notNull(),
    worker: text().notNull(),
    object: text().notNull(),
    tier: text({ enum: ["free", "pro", "admin"] }).notNull(),
    actors: text({ mode: "json" }).$type<{ sub: string; proven: boolean }[]>().notNull(),
    scope: text({ mode: "json" }).$type<string[]>().notNull(),
    agents: text({ mode: "json" }).$type<string[]>(),
    openedAt: integer().notNull(),
    expiresAt: integer().notNull(),
    /** Set when it must be closed: with what code. */
    closing: integer(),
    /** What its messages did, until its one invocation row is written; its last charges, to know a repeated one by. */
    messages: integer().notNull(),
    cost: integer().notNull(),
    charges: text({ mode: "json" }).$type<{ id: string; micros: number }[]>(),
    lastAt: integer().notNull(),
    kind: text({ enum: ["socket", "stream"] })
      .notNull()
      .default("socket"),
    /** When its client is told that it will expire; null once told. */
    warnAt: integer(),
  },
  (table) => [index("connections_session").on(table.session), index("connections_expires").on(table.expiresAt)],
);

/** One-use tickets for upgrades and renewals, by the digest of their secret; gone with their first use, or after 30 s. */
export const tickets = sqliteTable(
  "tickets",
  {
    digest: text().primaryKey(),
    target: text().notNull(),
    /** The page that a person's cookie bought it on; null where a token bought it. */
    origin: text(),
    /** The open connection that it renews; null where it opens one. */
    connection: text(),
    /** The verified token that it stands for, without its bytes. */
    token: text({ mode: "json" }).$type<unknown>().notNull(),
    expiresAt: integer().notNull(),
  },
  (table) => [index("tickets_expires").on(table.expiresAt)],
);

/** What an operator has locked: this user, or an agent that this user registered. */
export const locks = sqliteTable("locks", {
  target: text().primaryKey(),
  reason: text().notNull(),
  byId: text().notNull(),
  at: integer().notNull(),
  /** Null: until it is lifted. */
  until: integer(),
});

/** One row that stands for nothing but its size: a stop at the storage's limit deletes it before it writes. */
export const ballast = sqliteTable("ballast", {
  id: integer().primaryKey(),
  filler: text().notNull(),
});

/** Counted calls of one node, entry, instance and minute, until the minute is reported. */
export const tallies = sqliteTable(
  "tallies",
  {
    path: text().notNull(),
    slug: text().notNull(),
    instance: text().notNull(),
    /** Minutes since 1970, of the admission. */
    minute: integer().notNull(),
    session: text().notNull(),
    calls: integer().notNull(),
    errors: integer().notNull(),
    cost: integer().notNull(),
    firstAt: integer().notNull(),
    lastAt: integer().notNull(),
  },
  (table) => [primaryKey({ columns: [table.path, table.slug, table.instance, table.minute] })],
);

/** The audit log, and the outbox to D1: `delivered` in `counters` says up to where D1 has confirmed it. */
export const audit = sqliteTable("audit", {
  seq: integer().primaryKey(),
  at: integer().notNull(),
  kind: text().notNull(),
  session: text(),
  /** Canonical JSON, as hashed. */
  body: text().notNull(),
  /** SHA-256 over the previous row's hash and this row's canonical bytes, in hex. */
  hash: text().notNull(),
});

/**
 * Numbers by name. `delivered`: the last audit row that D1 has confirmed. `day_cap`: what this user may spend a day, where
 * an operator has set it; the deployment's otherwise.
 */
export const counters = sqliteTable("counters", {
  name: text().primaryKey(),
  value: integer().notNull(),
});

/** What the one alarm has to do, and when. */
export const due = sqliteTable(
  "due",
  {
    kind: text().notNull(),
    key: text().notNull(),
    at: integer().notNull(),
    tries: integer().notNull(),
  },
  (table) => [primaryKey({ columns: [table.kind, table.key] }), index("due_at").on(table.at)],
);

/** Client-chosen keys of mutating requests, with the digest of their arguments and the ids of their effect. */
export const idempotency = sqliteTable(
  "idempotency",
  {
    scope: text().notNull(),
    key: text().notNull(),
    digest: text().notNull(),
    effect: text({ mode: "json" }).$type<unknown>(),
    expiresAt: integer().notNull(),
  },
  (table) => [primaryKey({ columns: [table.scope, table.key] }), index("idempotency_expires").on(table.expiresAt)],
);
