/**
 * What SessionAuthority asks of agents' objects about connections: to close those that are marked, to tell clients of
 * what comes, and which of them are open at all, for a close that never came ends a row here. Each is a task of the one
 * alarm: what does not answer is asked again, with back-off, until it has.
 */
import { and, asc, count, eq, inArray, isNotNull, isNull, lte } from "drizzle-orm";
import { lineOf, type ConnectionId, type NodePath } from "../../core/ids.ts";
import { RECONCILE_MS, STOP_NAMES_MAX } from "../../core/limits.ts";
import { CLOSE, closeReason, controlFrame } from "../../core/wire/frames.ts";
import type { AgentSocketsRpc, CloseOrder } from "../../core/wire/agents.ts";
import * as t from "../../drizzle/authority/schema.ts";
import type { Alarms } from "./alarms.ts";
import type { ConnectionRow, Connections } from "./connections.ts";
import type { Context } from "./context.ts";

/** The agents' objects that hold connections, by slug and name; null where the binding is missing. */
export type AgentPort = (slug: string, object: string) => AgentSocketsRpc | null;

/** A registration may still be on its way to its object's memory. */
const YOUNG_MS = 30_000;

export class Closing {
  readonly #context: Context;
  readonly #connections: Connections;
  readonly #alarms: Alarms;
  readonly #agent: AgentPort;

  constructor(parts: { context: Context; connections: Connections; alarms: Alarms; agent: AgentPort }) {
    this.#context = parts.context;
    this.#connections = parts.connections;
    this.#alarms = parts.alarms;
    this.#agent = parts.agent;
    this.#alarms.define("close", { where: "outside", run: () => this.#closeAll() });
    this.#alarms.define("tell", { where: "outside", run: () => this.#tellAll() });
    this.#alarms.define("reconcile", { where: "outside", run: () => this.#reconcile() });
  }

  async #closeAll(): Promise<void> {
    const marked = this.#context.db.select().from(t.connections).where(isNotNull(t.connections.closing)).all();
    const groups = groupsOf(marked, (row) => `${row.slug} ${row.object} ${row.closing} ${row.path}`);
    await allOf(groups.map((rows) => this.#closeGroup(rows)));
    this.#context.commit(() => {
      const left = this.#context.db
        .select({ n: count() })
        .from(t.connections)
        .where(isNotNull(t.connections.closing))
        .get();
      if (left?.n === 0) this.#alarms.done("close", "");
    });
  }

  async #closeGroup(rows: readonly ConnectionRow[]): Promise<void> {
    const { slug, object } = rows[0] as ConnectionRow;
    if (this.#agent(slug, object) === null) return this.#letGo(rows);
    const agent = this.#agentOf(rows);
    const order = this.#orderOf(rows[0] as ConnectionRow);
    await agent.legateClose({ ...order, connections: rows.map(({ id }) => id as ConnectionId) });
    this.#context.commit(() => rows.forEach(({ id }) => this.#connections.remove(id)));
  }

  /**
   * Their entry has left the configuration, so nothing can be asked of their object, and nothing was admitted for them
   * since: they are waited for until their window is over, for the mixin then serves them no more.
   */
  #letGo(rows: readonly ConnectionRow[]): void {
    const now = this.#context.now();
    const [over, open] = [rows.filter((row) => row.expiresAt <= now), rows.filter((row) => row.expiresAt > now)];
    this.#context.commit(() => over.forEach(({ id }) => this.#connections.remove(id)));
    if (open.length > 0) throw new Error("agent out of reach");
  }

  #agentOf(rows: readonly ConnectionRow[]): AgentSocketsRpc {
    const { slug, object } = rows[0] as ConnectionRow;
    const agent = this.#agent(slug, object);
    if (agent === null) throw new Error("agent out of reach");
    return agent;
  }

  #orderOf({ closing, session, path }: ConnectionRow): Omit<CloseOrder, "connections"> {
    const code = closing ?? CLOSE.terminated;
    if (code === CLOSE.idle) return { code, reason: closeReason("idle", session) };
    const stop = this.#context.db
      .select({ why: t.stops.why, decision: t.stops.decision })
      .from(t.stops)
      .where(inArray(t.stops.path, lineOf(path as NodePath)))
      .orderBy(asc(t.stops.at))
      .get();
    if (stop === undefined) return { code, reason: closeReason("token_expired", session) };
    const decision = `${this.#context.user}.${stop.decision ?? 0}`;
    return {
      code,
      reason: closeReason(code === CLOSE.expired ? "token_expired" : "session_ended", session),
      frame: controlFrame({ type: "legate.terminated", reason: stop.why, decision }),
    };
  }

  /** Clients whose window ends soon are told when, and what to name in the ticket that renews it. */
  async #tellAll(): Promise<void> {
    const now = this.#context.now();
    const due = and(lte(t.connections.warnAt, now), isNull(t.connections.closing));
    const rows = this.#context.db.select().from(t.connections).where(due).all();
    await allOf(
      groupsOf(rows, ({ slug, object }) => `${slug} ${object}`).map(async (group) => {
        await this.#agentOf(group).legateTell(
          group.map(({ id, expiresAt: at }) => ({
            connection: id as ConnectionId,
            frame: controlFrame({ type: "legate.expiring", at, connection: id }),
          })),
        );
        this.#context.commit(() => group.forEach((row) => this.#told(row)));
      }),
    );
    this.#context.commit(() => this.#alarms.done("tell", ""));
  }

  /** Unless it was renewed in the meantime: then it has another warning to come. */
  #told({ id, expiresAt }: ConnectionRow): void {
    this.#context.db
      .update(t.connections)
      .set({ warnAt: null })
      .where(and(eq(t.connections.id, id), eq(t.connections.expiresAt, expiresAt)))
      .run();
  }

  async #reconcile(): Promise<void> {
    const { db } = this.#context;
    const now = this.#context.now();
    const known = and(lte(t.connections.openedAt, now - YOUNG_MS), isNull(t.connections.closing));
    const rows = db.select().from(t.connections).where(known).all();
    await allOf(
      groupsOf(rows, ({ slug, object }) => `${slug} ${object}`).map(async (group) => {
        const ids = group.map(({ id }) => id as ConnectionId);
        const open = new Set(await this.#agentOf(group).legateOpen(ids));
        this.#context.commit(() => ids.filter((id) => !open.has(id)).forEach((id) => this.#connections.remove(id)));
      }),
    );
    this.#context.commit(() => {
      this.#alarms.done("reconcile", "");
      if (db.select({ n: count() }).from(t.connections).get()?.n !== 0)
        this.#alarms.schedule("reconcile", "", (this.#context.now() + RECONCILE_MS) as typeof now);
    });
  }
}

/** Batches of rows that one order can name. */
function groupsOf(rows: readonly ConnectionRow[], nameOf: (row: ConnectionRow) => string): ConnectionRow[][] {
  const groups = new Map<string, ConnectionRow[][]>();
  for (const row of rows) {
    const name = nameOf(row);
    const batches = groups.get(name) ?? [[]];
    if ((batches.at(-1) as ConnectionRow[]).length >= STOP_NAMES_MAX) batches.push([]);
    (batches.at(-1) as ConnectionRow[]).push(row);
    groups.set(name, batches);
  }
  return [...groups.values()].flat();
}

/** Waits for all of them, so that one that fails keeps nobody else from being asked. */
async function allOf(work: readonly Promise<unknown>[]): Promise<void> {
  const outcomes = await Promise.allSettled(work);
  if (outcomes.some(({ status }) => status === "rejected")) throw new Error("some agents' objects did not answer");
}
