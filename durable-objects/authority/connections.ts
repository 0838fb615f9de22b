/**
 * Sockets and streams that agents' objects hold open for sessions. An agent accepts, then registers here, and serves
 * nothing before the answer: so either a stop's mark came first and registration fails, or the row did and the stop finds
 * it. Each message is admitted again. Rows go when a connection is closed, by whichever side; what a socket did becomes
 * one invocation. Asking agents' objects is closing.ts's.
 */
import { and, count, eq, isNotNull, isNull, lte, min, sql } from "drizzle-orm";
import { scopesWithin, tierReaches } from "../../core/config.ts";
import type { Denial } from "../../core/denial.ts";
import {
  sessionOf,
  toEpochMs,
  type ConnectionId,
  type EpochMs,
  type EpochSeconds,
  type Micros,
  type NodePath,
} from "../../core/ids.ts";
import {
  CHARGES_SOCKET_KEPT,
  CONNECTIONS_SESSION_MAX,
  CONNECTIONS_USER_MAX,
  EXPIRING_LEAD_MS,
  RECONCILE_MS,
} from "../../core/limits.ts";
import { err, ok, type Result } from "../../core/result.ts";
import { CLOSE } from "../../core/wire/frames.ts";
import type { Charged, Connected, MessageAdmission } from "../../core/wire/answers.ts";
import type {
  ConnectQuestion,
  ConnectionKind,
  MessageQuestion,
  RenewConnection,
  SocketChargeQuestion,
} from "../../core/wire/questions.ts";
import * as t from "../../drizzle/authority/schema.ts";
import type { StoppedObject } from "../../drizzle/authority/schema.ts";
import type { Alarms } from "./alarms.ts";
import type { Audit } from "./audit.ts";
import type { BudgetBook } from "./budget-book.ts";
import type { Calls } from "./calls.ts";
import type { Context } from "./context.ts";
import { atOrBelow, type Lines } from "./line.ts";
import type { Refusals } from "./refusals.ts";
import type { Tickets } from "./tickets.ts";

export type ConnectionRow = typeof t.connections.$inferSelect;

const UNKNOWN: Denial = { reason: "hold_mismatch", fault: "unknown" };

export class Connections {
  readonly #context: Context;
  readonly #lines: Lines;
  readonly #calls: Calls;
  readonly #book: BudgetBook;
  readonly #audit: Audit;
  readonly #alarms: Alarms;
  readonly #tickets: Tickets;
  readonly #refusals: Refusals;

  constructor(parts: {
    context: Context;
    lines: Lines;
    calls: Calls;
    book: BudgetBook;
    audit: Audit;
    alarms: Alarms;
    tickets: Tickets;
    refusals: Refusals;
  }) {
    this.#context = parts.context;
    this.#lines = parts.lines;
    this.#calls = parts.calls;
    this.#book = parts.book;
    this.#audit = parts.audit;
    this.#alarms = parts.alarms;
    this.#tickets = parts.tickets;
    this.#refusals = parts.refusals;
  }

  register({ connection, identity, agents, object, kind = "socket" }: ConnectQuestion): Result<Connected, Denial> {
    return this.#context.decide(() => {
      const now = this.#context.now();
      const { db } = this.#context;
      if (!this.#isAdmitted(identity, kind)) return err(UNKNOWN);
      const live = this.#lines.requireLivePath(identity.node, now);
      if (!live.ok) return live;
      const known = db.select().from(t.connections).where(eq(t.connections.id, connection)).get();
      if (known !== undefined)
        return known.path === identity.node && known.closing === null
          ? ok(this.#connected(known.expiresAt))
          : err(UNKNOWN);
      const room = this.#requireRoom(identity.session);
      if (!room.ok) return room;
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
          kind,
          warnAt: kind === "socket" ? warnAt(tokenExpires, now) : null,
        })
        .run();
      this.#watch(tokenExpires, kind, now);
      return ok(this.#connected(tokenExpires));
    });
  }

  /** The envelope is this call's: a socket has a hold of its own; a stream may come of a call that a slice admitted. */
  #isAdmitted(identity: ConnectQuestion["identity"], kind: ConnectionKind): boolean {
    if (identity.hold === null) return kind === "stream";
    const hold = this.#context.db.select().from(t.holds).where(eq(t.holds.id, identity.hold)).get();
    return (
      hold?.callId === identity.callId &&
      hold.path === identity.node &&
      (kind === "socket") === (hold.kind === "socket")
    );
  }

  #requireRoom(session: string): Result<null, Denial> {
    const { db } = this.#context;
    const all = db.select({ n: count() }).from(t.connections).get()?.n ?? 0;
    const own = db.select({ n: count() }).from(t.connections).where(eq(t.connections.session, session)).get()?.n ?? 0;
    if (own < CONNECTIONS_SESSION_MAX && all < CONNECTIONS_USER_MAX) return ok(null);
    const limit = own < CONNECTIONS_SESSION_MAX ? CONNECTIONS_USER_MAX : CONNECTIONS_SESSION_MAX;
    return err({ reason: "quota_reached", what: "connections", limit });
  }

  #connected(expires: number): Connected {
    return { expires: expires as EpochMs, messageBytes: this.#context.config.limits.messageBytes };
  }

  /** Its end, its warning, its idleness and whether it is there at all are looked at by the alarm. */
  #watch(expires: EpochMs, kind: ConnectionKind, now: EpochMs): void {
    const idle = kind === "socket" ? now + this.#context.config.limits.idleMs : Infinity;
    this.#alarms.schedule("expiry", "", Math.min(warnAt(expires, now), idle) as EpochMs);
    this.#alarms.schedule("reconcile", "", (now + RECONCILE_MS) as EpochMs);
  }

  /** A newer window for an open socket: its client bought a ticket for it, with a token of the same node. */
  renew({ connection, worker, digest, target }: RenewConnection): Result<Connected, Denial> {
    const token = this.#tickets.redeem({ digest, target, origin: null }, connection);
    if (!token.ok) return token;
    return this.#context.decide(() => {
      const now = this.#context.now();
      const { db } = this.#context;
      const row = db.select().from(t.connections).where(eq(t.connections.id, connection)).get();
      if (row === undefined || row.worker !== worker) return err(UNKNOWN);
      if (row.closing !== null || row.path !== (token.value.node as string)) return err({ reason: "ticket_invalid" });
      const expires = Math.max(row.expiresAt, toEpochMs(token.value.exp)) as EpochMs;
      db.update(t.connections)
        .set({ expiresAt: expires, warnAt: warnAt(expires, now) })
        .where(eq(t.connections.id, connection))
        .run();
      this.#watch(expires, row.kind, now);
      return ok(this.#connected(expires));
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
      // The person's tier of this moment, not of when the socket opened: one that was lowered ends what it no longer reaches.
      const { tier } = live.value.person;
      const { config } = this.#context;
      const { requiredTier: required = "free", requiredScopes = [] } = config.agents.get(row.slug) ?? {};
      if (!tierReaches(tier, required)) return err({ reason: "tier_too_low", required, tier });
      const scope = scopesWithin(config, tier, row.scope);
      const missing = requiredScopes.filter((name) => !scope.includes(name));
      if (missing.length > 0) return err({ reason: "scope_missing", required: requiredScopes, missing });
      const remaining = this.#calls.spend(path, row.slug, cost, live.value, now);
      if (!remaining.ok) return remaining;
      db.update(t.connections)
        .set({ messages: row.messages + 1, cost: row.cost + cost, lastAt: now })
        .where(eq(t.connections.id, connection))
        .run();
      const exp = Math.floor(row.expiresAt / 1000) as EpochSeconds;
      const chain = {
        subject: this.#context.user,
        tier,
        node: path,
        actors: row.actors,
        scope,
        agents: row.agents,
        exp,
      };
      return ok({ remaining: remaining.value, expires: row.expiresAt as EpochMs, chain });
    });
  }

  /**
   * What a socket's messages turn out to cost beyond what they were admitted at, spent at once; no more than every cap
   * above covers. One that is told again is one charge.
   */
  charge({ connection, worker, id, micros }: SocketChargeQuestion): Result<Charged, Denial> {
    const charged = this.#context.decide<Charged>(() => {
      const now = this.#context.now();
      this.#book.today(now);
      const { db } = this.#context;
      const row = db.select().from(t.connections).where(eq(t.connections.id, connection)).get();
      if (row === undefined || row.worker !== worker || row.kind !== "socket") return err(UNKNOWN);
      const path = row.path as NodePath;
      const live = this.#lines.requireLivePath(path, now);
      if (!live.ok) return live;
      const before = row.charges ?? [];
      const known = before.find((charge) => charge.id === id);
      if (known !== undefined && known.micros !== micros) return err({ reason: "idempotency_conflict" });
      const told = { held: 0 as Micros, charged: (row.cost + (known === undefined ? micros : 0)) as Micros };
      if (known !== undefined) return ok({ ...told, remaining: this.#calls.left(path, row.slug, live.value, now) });
      const remaining = this.#calls.spendMore(path, row.slug, micros, live.value, now);
      if (!remaining.ok) return remaining;
      const charges = [...before, { id, micros }].slice(-CHARGES_SOCKET_KEPT);
      db.update(t.connections).set({ cost: told.charged, charges }).where(eq(t.connections.id, connection)).run();
      return ok({ ...told, remaining: remaining.value });
    });
    if (!charged.ok && charged.denial.reason !== "idempotency_conflict")
      this.#refusals.note(connection, charged.denial.reason);
    return charged;
  }

  /** The socket is closed; told twice, or after the object closed it itself, it is nothing. */
  disconnect({ connection, worker }: { connection: ConnectionId; worker: string }): Result<null, Denial> {
    return this.#context.decide(() => {
      const row = this.#context.db.select().from(t.connections).where(eq(t.connections.id, connection)).get();
      if (row !== undefined && row.worker === worker) this.#remove(row);
      return ok(null);
    });
  }

  /** Marks every connection at or below a path to be closed. Call inside a decision; `closeNow` after it. */
  markBelow(path: NodePath, code: number): StoppedObject[] {
    const { db } = this.#context;
    // Those that were to close before, for their end or an earlier stop, and have not: they are this stop's too.
    const below = atOrBelow(t.connections.path, path);
    const { slug, instance, kind } = t.connections;
    const open = db
      .select({ slug, instance, kind, open: count() })
      .from(t.connections)
      .where(below)
      .groupBy(slug, instance, kind)
      .all();
    if (open.length === 0) return [];
    db.update(t.connections).set({ closing: code }).where(below).run();
    this.#alarms.schedule("close", "", this.#context.now());
    return open;
  }

  /** Closes what is marked, now; what does not answer is left to the alarm. */
  closeNow(): Promise<void> {
    return this.#alarms.runOutside("close", "");
  }

  /** What is marked and still open below a path, by agent object. */
  pendingBelow(path: NodePath): StoppedObject[] {
    const { slug, instance, kind } = t.connections;
    return this.#context.db
      .select({ slug, instance, kind, open: count() })
      .from(t.connections)
      .where(and(atOrBelow(t.connections.path, path), isNotNull(t.connections.closing)))
      .groupBy(slug, instance, kind)
      .all();
  }

  openBelow(path: NodePath): number {
    return (
      this.#context.db.select({ n: count() }).from(t.connections).where(atOrBelow(t.connections.path, path)).get()?.n ??
      0
    );
  }

  /**
   * Marks connections whose window is over and sockets that were idle too long, and has those told that will expire soon.
   * Call inside a decision.
   *
   * @returns when there is something to do again, or null
   */
  expire(now: EpochMs): number | null {
    const { db } = this.#context;
    const { idleMs } = this.#context.config.limits;
    const isOpen = isNull(t.connections.closing);
    const isSocket = eq(t.connections.kind, "socket");
    const late = and(lte(t.connections.expiresAt, now), isOpen);
    const idle = and(lte(t.connections.lastAt, now - idleMs), isSocket, isOpen);
    let marked = db
      .update(t.connections)
      .set({ closing: CLOSE.expired })
      .where(late)
      .returning({ n: sql`1` })
      .all().length;
    marked += db
      .update(t.connections)
      .set({ closing: CLOSE.idle })
      .where(idle)
      .returning({ n: sql`1` })
      .all().length;
    if (marked > 0) this.#alarms.schedule("close", "", now);
    const next = db
      .select({ end: min(t.connections.expiresAt), warn: min(t.connections.warnAt) })
      .from(t.connections)
      .where(isOpen)
      .get();
    const quiet = db
      .select({ at: min(t.connections.lastAt) })
      .from(t.connections)
      .where(and(isSocket, isOpen))
      .get();
    const warn = next?.warn ?? Infinity;
    if (warn <= now) this.#alarms.schedule("tell", "", now);
    const first = Math.min(next?.end ?? Infinity, warn <= now ? Infinity : warn, (quiet?.at ?? Infinity) + idleMs);
    return first === Infinity ? null : first;
  }

  /** A connection that is closed, or was never there: its row goes. Call inside a decision. */
  remove(id: string): void {
    const row = this.#context.db.select().from(t.connections).where(eq(t.connections.id, id)).get();
    if (row !== undefined) this.#remove(row);
  }

  #remove(row: ConnectionRow): void {
    this.#context.db.delete(t.connections).where(eq(t.connections.id, row.id)).run();
    const { id, path, slug, instance, messages, cost, openedAt, lastAt } = row;
    if (row.kind === "stream") return; // told of when its call is settled
    const facts = { node: path, slug, instance, calls: messages, errors: 0, cost, firstAt: openedAt, lastAt };
    this.#audit.append(
      "call.settled",
      sessionOf(path as NodePath),
      { ...facts, id, callKind: "socket", level: "strict" },
      this.#context.now(),
    );
  }
}

/** When its client is told that it ends: a minute before, or a third of what is left of a short window. */
function warnAt(expires: EpochMs, now: EpochMs): EpochMs {
  return (expires - Math.min(EXPIRING_LEAD_MS, Math.max(0, expires - now) / 3)) as EpochMs;
}
