// Drizzle over D1, put together from its parts, for the reason of drizzle/authority/open.ts.
import { DrizzleD1Database, SQLiteD1Session } from "drizzle-orm/d1";
import { SQLiteAsyncDialect } from "drizzle-orm/sqlite-core";

export function openD1(database: D1Database): DrizzleD1Database {
  const dialect = new SQLiteAsyncDialect();
  return new DrizzleD1Database("async", dialect, new SQLiteD1Session(database, dialect, undefined), undefined);
}
