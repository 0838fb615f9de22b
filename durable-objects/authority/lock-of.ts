/** The one question that every start asks of the locks: does one hold now? Read inside the asker's own decision. */
import { eq } from "drizzle-orm";
import type { EpochMs } from "../../core/ids.ts";
import * as t from "../../drizzle/authority/schema.ts";
import type { Db } from "./context.ts";

export type LockRow = typeof t.locks.$inferSelect;

/** The lock that holds now, of this user or of an agent registered here. */
export function lockOf(db: Db, target: string, now: EpochMs): LockRow | undefined {
  const row = db.select().from(t.locks).where(eq(t.locks.target, target)).get();
  return row === undefined || (row.until !== null && row.until <= now) ? undefined : row;
}
