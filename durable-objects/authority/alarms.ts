/**
 * One alarm over a table of what is due. A task's row is written in the transaction of what makes it due; the alarm
 * is set to the earliest. Local tasks run at once; those that ask another party are moved to their next try before their
 * first await, run under a deadline, and remove their own row when they are done. One task per kind and key at a time.
 */
import { and, asc, eq, lte, sql } from "drizzle-orm";
import type { EpochMs } from "../../core/ids.ts";
import { OUTSIDE_DEADLINE_MS } from "../../core/limits.ts";
import * as t from "../../drizzle/authority/schema.ts";
import type { Context } from "./context.ts";

export type DueKind =
  | "holds"
  | "refusals"
  | "slices"
  | "expiry"
  | "tallies"
  | "sweep"
  | "fold"
  | "deliver"
  | "close"
  | "push"
  | "tell"
  | "reconcile"
  | "channels"
  | "ballast"
  | "uses";

/** Local work: synchronous, opens its own transactions. Outside work: asynchronous; a rejection means another try. */
export type Task =
  | { readonly where: "local"; run(key: string): void }
  | { readonly where: "outside"; run(key: string): Promise<void> };

type DueRow = typeof t.due.$inferSelect;

const BACKOFF_MAX_MS = 50_000; // what others are told is right within a minute of their coming back

export class Alarms {
  readonly #context: Context;
  readonly #storage: DurableObjectStorage;
  readonly #tasks = new Map<DueKind, Task>();
  readonly #running = new Set<string>();
  /** What the platform's alarm is set to; null until known. */
  #armedFor: number | null = null;
  readonly #dueAt: () => { get(row: { kind: DueKind; key: string }): { at: number } | undefined };

  constructor(context: Context, storage: DurableObjectStorage) {
    this.#context = context;
    const { kind, key } = t.due;
    this.#dueAt = context.prepared((db) =>
      db
        .select({ at: t.due.at })
        .from(t.due)
        .where(and(eq(kind, sql.placeholder("kind")), eq(key, sql.placeholder("key")))),
    );
    this.#storage = storage;
  }

  define(kind: DueKind, task: Task): void {
    this.#tasks.set(kind, task);
  }

  /** Makes a task due at that time, or earlier if it already was. Call inside a transaction. */
  schedule(kind: DueKind, key: string, at: EpochMs): void {
    const known = this.#dueAt().get({ kind, key });
    if (known !== undefined && known.at <= at) return;
    this.#context.db
      .insert(t.due)
      .values({ kind, key, at, tries: 0 })
      .onConflictDoUpdate({ target: [t.due.kind, t.due.key], set: { at, tries: 0 } })
      .run();
    this.#context.afterCommit(() => this.#arm(at));
  }

  /** The task has nothing left to do. Call inside a transaction. */
  done(kind: DueKind, key: string): void {
    this.#context.db
      .delete(t.due)
      .where(and(eq(t.due.kind, kind), eq(t.due.key, key)))
      .run();
  }

  async onAlarm(): Promise<void> {
    this.#armedFor = null;
    const now = this.#context.now();
    const rows = this.#context.db.select().from(t.due).where(lte(t.due.at, now)).orderBy(asc(t.due.at)).all();
    const outside: Promise<void>[] = [];
    for (const row of rows) {
      const kind = row.kind as DueKind;
      const task = this.#tasks.get(kind);
      if (task === undefined) this.#context.commit(() => this.done(kind, row.key));
      else if (task.where === "local") this.#runLocal(task, row, now);
      else {
        this.#postpone(row, now);
        outside.push(this.runOutside(kind, row.key));
      }
    }
    this.#armEarliest();
    await Promise.all(outside);
  }

  /** Runs one outside task now, beside the alarm; a second run of the same while one is under way is left to the alarm. */
  async runOutside(kind: DueKind, key: string): Promise<void> {
    const task = this.#tasks.get(kind);
    const name = `${kind} ${key}`;
    if (task?.where !== "outside" || this.#running.has(name)) return;
    this.#running.add(name);
    try {
      await withDeadline(task.run(key), OUTSIDE_DEADLINE_MS);
    } catch {
      // Its row stands, at its next try: nothing is lost, and what failed is the other side's to log.
    } finally {
      this.#running.delete(name);
    }
  }

  /**
   * Its row goes first, for it may make itself due again. One that throws comes back with it, later: a mistake in one
   * task is no reason for holds never to expire, and the platform gives an alarm up that has failed six times.
   */
  #runLocal(task: Task & { where: "local" }, row: DueRow, now: number): void {
    try {
      this.#context.commit(() => this.done(row.kind as DueKind, row.key));
      task.run(row.key);
    } catch {
      // oxlint-disable-next-line no-console -- a defect of ours, or a full disk; what was thrown may quote a query's values
      console.error(`Legate's alarm: the task "${row.kind}" failed, and is tried again.`);
      this.#postpone(row, now);
    }
  }

  #postpone({ kind, key, tries }: DueRow, now: number): void {
    const wait = Math.min(BACKOFF_MAX_MS, OUTSIDE_DEADLINE_MS + 2 ** Math.min(tries, 10) * 500);
    const next = { at: now + wait, tries: tries + 1 };
    this.#context.db
      .insert(t.due)
      .values({ kind, key, ...next })
      .onConflictDoUpdate({ target: [t.due.kind, t.due.key], set: next })
      .run();
  }

  #arm(at: number): void {
    if (this.#armedFor !== null && this.#armedFor <= at) return;
    this.#armedFor = at;
    void this.#storage.setAlarm(Math.max(at, 1)); // coalesced with the writes before it: no await stands between
  }

  /** At wake: rows stand, though the platform has given their alarm up. What was never written to stays so. */
  async wake(): Promise<void> {
    if ((await this.#storage.getAlarm()) === null) this.#armEarliest();
  }

  /** Sets the alarm to the earliest row: after an alarm has run, and when an object wakes with rows but no alarm. */
  #armEarliest(): void {
    const earliest =
      this.#context.db
        .select({ at: sql<number | null>`min(${t.due.at})` })
        .from(t.due)
        .get()?.at ?? null;
    if (earliest !== null) this.#arm(earliest);
  }
}

/** @returns the work's value; rejects at the deadline, whatever becomes of the work */
export async function withDeadline<T>(work: Promise<T>, ms: number): Promise<T> {
  let timer: ReturnType<typeof setTimeout> | undefined;
  const deadline = new Promise<never>((_, reject) => {
    timer = setTimeout(() => reject(new Error("deadline")), ms);
  });
  try {
    return await Promise.race([work, deadline]);
  } finally {
    clearTimeout(timer);
  }
}
