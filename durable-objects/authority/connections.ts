/**
 * Sockets that agents' objects hold open for sessions. An agent accepts, then registers here, and serves nothing before
 * the answer: so either a stop's mark came first and registration fails, or the row did and the stop finds it. Each
 * message is admitted again. Rows go when a socket is closed, by whichever side; what it did becomes one invocation.
 */
import { and, count, eq, isNotNull, isNull, lte, min } from "drizzle-orm";
import type { Denial } from "../../core/denial.ts";
import { sessionOf, type ConnectionId, type EpochMs, type EpochSeconds, type NodePath } from "../../core/ids.ts";
import { CONNECTIONS_SESSION_MAX } from "../../core/limits.ts";
import { err, ok, type Result } from "../../core/result.ts";
import { CLOSE, closeReason } from "../../core/wire/frames.ts";
import type {
  AgentSocketsRpc,
  ConnectQuestion,
  Connected,
  MessageAdmission,
  MessageQuestion,
} from "../../core/wire/rpc.ts";
import * as t from "../../drizzle/authority/schema.ts";
import type { Alarms } from "./alarms.ts";
import type { Audit } from "./audit.ts";
import type { BudgetBook } from "./budget-book.ts";
import type { Calls } from "./calls.ts";
import type { Context } from "./context.ts";
import { atOrBelow, type Lines } from "./line.ts";

type ConnectionRow = typeof t.connections.$inferSelect;

/** The agents' objects that hold sockets, by slug and name; null where the binding is missing. */
export type AgentPort = (slug: string, object: string) => AgentSocketsRpc | null;

const UNKNOWN: Denial = { reason: "hold_mismatch", fault: "unknown" };

export class Connections {
  readonly #context: Context;
  readonly #lines: Lines;
  readonly #calls: Calls;
  readonly #book: BudgetBook;
  readonly #audit: Audit;
  readonly #alarms: Alarms;
  readonly #agent: AgentPort;

  constructor(parts: {
    context: Context;
    lines: Lines;
    calls: Calls;
    book: BudgetBook;
    audit: Audit;
    alarms: Alarms;
    agent: AgentPort;
  }) {
    this.#context = parts.context;
    this.#lines = parts.lines;
    this.#calls = parts.calls;
    this.#book = parts.book;
    this.#audit = parts.audit;
    this.#alarms = parts.alarms;
    this.#agent = parts.agent;
    this.#alarms.define("close", { where: "outside", run: () => this.#closeAll() });
  }

  register({ connection, identity, agents, object }: ConnectQuestion): Result<Connected, Denial> {
    return this.#context.decide(() => {
      const now = this.#context.now();
      const { db } = this.#context;
      const hold =
        identity.hold === null ? undefined : db.select().from(t.holds).where(eq(t.holds.id, identity.hold)).get();
      if (
        hold === undefined ||
        hold.callId !== identity.callId ||
        hold.path !== identity.node ||
        hold.kind !== "socket"
      )
        return err(UNKNOWN);
      const live = this.#lines.requireLivePath(identity.node, now);
      if (!live.ok) return live;
      const known = db.select().from(t.connections).where(eq(t.connections.id, connection)).get();
      if (known !== undefined)
        return known.path === identity.node && known.closing === null
          ? ok({ expires: known.expiresAt as EpochMs })
          : err(UNKNOWN);
      const open =
        db.select({ n: count() }).from(t.connections).where(eq(t.connections.session, identity.session)).get()?.n ?? 0;
      if (open >= CONNECTIONS_SESSION_MAX)
        return err({ reason: "quota_reached", what: "connections", limit: CONNECTIONS_SESSION_MAX });
      const { node: path, session, slug, instance, worker, tier, tokenExpires } = identity;
      db.insert(t.connections)
        .values({
          id: connection,
          path,
          session,
          slug,
          instance,
          worker,
          object,
          tier,
          actors: [...identity.actors],
          scope: [...identity.scope],
          agents: agents === null ? null : [...agents],
          openedAt: now,
          expiresAt: tokenExpires,
          closing: null,
          messages: 0,
          cost: 0,
          lastAt: now,
        })
        .run();
      this.#alarms.schedule("expiry", "", tokenExpires);
      return ok({ expires: tokenExpires });
    });
  }

  /** One message: the socket is registered, its whole line lives, its window holds, and every cap covers the cost. */
  admitMessage({ connection, worker, cost }: MessageQuestion): Result<MessageAdmission, Denial> {
    return this.#context.decide(() => {
      const now = this.#context.now();
      this.#book.today(now);
      const { db } = this.#context;
      const row = db.select().from(t.connections).where(eq(t.connections.id, connection)).get();
      if (row === undefined || row.worker !== worker) return err(UNKNOWN);
      const path = row.path as NodePath;
      const live = this.#lines.requireLivePath(path, now);
      if (!live.ok) return live;
      if (row.closing !== null || row.expiresAt <= now)
        return err({
          reason: "token_expired",
          exp: Math.floor(row.expiresAt / 1000) as EpochSeconds,
          now: Math.floor(now / 1000) as EpochSeconds,
        });
      const remaining = this.#calls.spend(path, row.slug, cost, live.value, now);
      if (!remaining.ok) return remaining;
      db.update(t.connections)
        .set({ messages: row.messages + 1, cost: row.cost + cost, lastAt: now })
        .where(eq(t.connections.id, connection))
        .run();
      const exp = Math.floor(row.expiresAt / 1000) as EpochSeconds;
      const chain = {
        subject: this.#context.user,
        tier: row.tier,
        node: path,
        actors: row.actors,
        scope: row.scope,
        agents: row.agents,
        exp,
      };
      return ok({ remaining: remaining.value, expires: row.expiresAt as EpochMs, chain });
    });
  }

  /** The socket is closed; told twice, or after the object closed it itself, it is nothing. */
  disconnect({ connection, worker }: { connection: ConnectionId; worker: string }): Result<null, Denial> {
    return this.#context.decide(() => {
      const row = this.#context.db.select().from(t.connections).where(eq(t.connections.id, connection)).get();
      if (row !== undefined && row.worker === worker) this.#remove(row);
      return ok(null);
    });
  }

  /** Marks every socket at or below a path to be closed. Call inside a decision; `closeNow` after it. */
  markBelow(path: NodePath, code: number): number {
    const { db } = this.#context;
    const below = and(atOrBelow(t.connections.path, path), isNull(t.connections.closing));
    const open = db.select({ n: count() }).from(t.connections).where(below).get()?.n ?? 0;
    if (open === 0) return 0;
    db.update(t.connections).set({ closing: code }).where(below).run();
    this.#alarms.schedule("close", "", this.#context.now());
    return open;
  }

  /** Closes what is marked, now; what does not answer is left to the alarm. */
  closeNow(): Promise<void> {
    return this.#alarms.runOutside("close", "");
  }

  pendingBelow(path: NodePath): number {
    return (
      this.#context.db
        .select({ n: count() })
        .from(t.connections)
        .where(and(atOrBelow(t.connections.path, path), isNotNull(t.connections.closing)))
        .get()?.n ?? 0
    );
  }

  openBelow(path: NodePath): number {
    return (
      this.#context.db.select({ n: count() }).from(t.connections).where(atOrBelow(t.connections.path, path)).get()?.n ??
      0
    );
  }

  /** Marks sockets whose window is over. Call inside a decision. @returns the next end, or null */
  expire(now: EpochMs): number | null {
    const { db } = this.#context;
    const late = and(lte(t.connections.expiresAt, now), isNull(t.connections.closing));
    if (db.select({ n: count() }).from(t.connections).where(late).get()?.n !== 0) {
      db.update(t.connections).set({ closing: CLOSE.expired }).where(late).run();
      this.#alarms.schedule("close", "", now);
    }
    return (
      db
        .select({ at: min(t.connections.expiresAt) })
        .from(t.connections)
        .where(isNull(t.connections.closing))
        .get()?.at ?? null
    );
  }

  async #closeAll(): Promise<void> {
    const marked = this.#context.db.select().from(t.connections).where(isNotNull(t.connections.closing)).all();
    const groups = new Map<string, ConnectionRow[]>();
    for (const row of marked) {
      const name = `${row.slug} ${row.object} ${row.closing} ${row.session}`;
      const group = groups.get(name);
      if (group === undefined) groups.set(name, [row]);
      else group.push(row);
    }
    const outcomes = await Promise.allSettled([...groups.values()].map((rows) => this.#closeGroup(rows)));
    if (outcomes.some(({ status }) => status === "rejected")) throw new Error("some sockets are still open");
    this.#context.commit(() => {
      if (
        this.#context.db.select({ n: count() }).from(t.connections).where(isNotNull(t.connections.closing)).get()?.n ===
        0
      )
        this.#alarms.done("close", "");
    });
  }

  async #closeGroup(rows: readonly ConnectionRow[]): Promise<void> {
    const { slug, object, closing, session } = rows[0] as ConnectionRow;
    const agent = this.#agent(slug, object);
    if (agent === null) throw new Error("agent out of reach");
    const code = closing ?? CLOSE.terminated;
    const word = code === CLOSE.expired ? "token_expired" : "session_ended";
    await agent.legateClose({
      connections: rows.map(({ id }) => id as ConnectionId),
      code,
      reason: closeReason(word, session),
    });
    this.#context.commit(() => {
      for (const { id } of rows) {
        const row = this.#context.db.select().from(t.connections).where(eq(t.connections.id, id)).get();
        if (row !== undefined) this.#remove(row);
      }
    });
  }

  #remove(row: ConnectionRow): void {
    this.#context.db.delete(t.connections).where(eq(t.connections.id, row.id)).run();
    const { id, path, slug, instance, messages, cost, openedAt, lastAt } = row;
    const facts = { node: path, slug, instance, calls: messages, errors: 0, cost, firstAt: openedAt, lastAt };
    this.#audit.append(
      "call.settled",
      sessionOf(path as NodePath),
      { ...facts, id, kind: "socket", level: "strict" },
      this.#context.now(),
    );
  }
}
