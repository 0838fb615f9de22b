/**
 * Tables of SessionAuthority around credentials of clouds and tokens of foreign issuers; the others are in schema.ts.
 * Times are milliseconds since 1970. Nothing secret stands in any column but `sealed`, and there encrypted.
 */
import { index, integer, primaryKey, sqliteTable, text } from "drizzle-orm/sqlite-core";

/**
 * Credentials of clouds that were exchanged here, by the digest of what was asked for. `sealed` is there only where the
 * role says that they may rest (AES-256-GCM, `kid` names the secret). Dropped with the node: the row stays to be counted.
 */
export const credentials = sqliteTable(
  "credentials",
  {
    key: text().primaryKey(),
    role: text().notNull(),
    path: text().notNull(),
    madeAt: integer().notNull(),
    expiresAt: integer().notNull(),
    usedAt: integer().notNull(),
    sealed: text(),
    kid: text(),
    droppedAt: integer(),
  },
  (table) => [index("credentials_path").on(table.path), index("credentials_expires").on(table.expiresAt)],
);

/** Until when credentials that were handed out to a node live on, whatever becomes of the node. */
export const credentialHandouts = sqliteTable(
  "credential_handouts",
  {
    path: text().notNull(),
    role: text().notNull(),
    /** The recorded node that they belong to, as their tags name it. */
    owner: text().notNull(),
    until: integer().notNull(),
  },
  (table) => [primaryKey({ columns: [table.path, table.role] })],
);

/** Answers with a credential of each role that the log does not tell of yet. */
export const credentialUses = sqliteTable("credential_uses", {
  role: text().primaryKey(),
  answers: integer().notNull(),
});

/** Exchanges that were begun in the last minute, of each role: what its limit counts. */
export const exchangeAttempts = sqliteTable(
  "exchange_attempts",
  {
    id: integer().primaryKey(),
    role: text().notNull(),
    at: integer().notNull(),
  },
  (table) => [index("exchange_attempts_role").on(table.role, table.at)],
);

/** Exchanges that failed, by the digest of what was asked for: the answer for everyone until `until`. */
export const exchangeFailures = sqliteTable("exchange_failures", {
  key: text().primaryKey(),
  kind: text({ enum: ["permanent", "retry"] }).notNull(),
  code: text().notNull(),
  until: integer().notNull(),
  /** In a row. */
  failures: integer().notNull(),
});

/** Tokens of foreign issuers that started a session here, until they would have expired anyway. */
export const foreignTokens = sqliteTable(
  "foreign_tokens",
  {
    issuer: text().notNull(),
    jti: text().notNull(),
    expiresAt: integer().notNull(),
  },
  (table) => [primaryKey({ columns: [table.issuer, table.jti] }), index("foreign_tokens_expires").on(table.expiresAt)],
);
