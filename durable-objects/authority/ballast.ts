/**
 * Room for a stop in an object whose storage is full: a row that stands for nothing but its size. A stop that finds no
 * room deletes it, in a transaction of its own, and marks then; the alarm puts it back when there is room again. Nothing
 * but a stop may use it.
 */
import type { EpochMs } from "../../core/ids.ts";
import * as t from "../../drizzle/authority/schema.ts";
import type { Alarms } from "./alarms.ts";
import type { Context } from "./context.ts";

const FILLER_BYTES = 65_536; // sixteen pages: some dozens of marks with their audit rows
const REFILL_MS = 60_000;

export class Ballast {
  readonly #context: Context;
  readonly #alarms: Alarms;

  constructor(context: Context, alarms: Alarms) {
    this.#context = context;
    this.#alarms = alarms;
    alarms.define("ballast", { where: "local", run: () => this.refill() });
  }

  /** Call inside a decision that writes anyway. */
  ensure(): void {
    const { db } = this.#context;
    if (db.select({ id: t.ballast.id }).from(t.ballast).get() !== undefined) return;
    db.insert(t.ballast)
      .values({ id: 1, filler: "0".repeat(FILLER_BYTES) })
      .run();
  }

  refill(): void {
    try {
      this.#context.commit(() => this.ensure());
    } catch {
      this.#again(); // still full
    }
  }

  /**
   * Runs a stop's decision; where it finds no room, makes some and runs it again.
   *
   * @param decision rolled back as a whole when it throws
   */
  stop<T>(decision: () => T): T {
    try {
      return decision();
    } catch (thrown) {
      if (!isFull(thrown)) throw thrown;
      this.#context.commit(() => this.#context.db.delete(t.ballast).run());
      const decided = decision();
      this.#again();
      return decided;
    }
  }

  #again(): void {
    try {
      this.#context.commit(() => this.#alarms.schedule("ballast", "", (this.#context.now() + REFILL_MS) as EpochMs));
    } catch {
      // no room even for that: the next session that opens puts it back
    }
  }
}

/** SQLite's own word for it, wherever drizzle has put it. */
function isFull(thrown: unknown): boolean {
  for (let error: unknown = thrown; error instanceof Error; error = error.cause)
    if (/SQLITE_FULL|database or disk is full/.test(error.message)) return true;
  return false;
}
