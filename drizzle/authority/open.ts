/**
 * Drizzle over the storage of an object, put together from its parts: `drizzle()` itself would read every table of the
 * schema for its relational queries at each wake, and carries what does that; nothing here asks in that way.
 */
import { DrizzleSqliteDODatabase, SQLiteDOSession } from "drizzle-orm/durable-sqlite";
import { SQLiteSyncDialect } from "drizzle-orm/sqlite-core";

export type AuthorityDb = DrizzleSqliteDODatabase;

export function openAuthority(storage: DurableObjectStorage): AuthorityDb {
  const dialect = new SQLiteSyncDialect({ casing: "snake_case" });
  return new DrizzleSqliteDODatabase("sync", dialect, new SQLiteDOSession(storage, dialect, undefined), undefined);
}
