/**
 * The agents that this user registered, and the stop counts of agents, anyone's, that this object was told. The owner's
 * object is the registry: in the transaction that consumes an assertion it checks key and state, notes the user for whom
 * the agent acts, and answers with the stop count, so that a start that races a stop is dead on arrival (DESIGN.md §4).
 */
import { jwtVerify, type JWTPayload } from "jose";
import { and, count, eq, gt, lt, ne, sql } from "drizzle-orm";
import { canonicalJson } from "../../core/audit/canonical.ts";
import { scopesOfTier } from "../../core/config.ts";
import type { Denial } from "../../core/denial.ts";
import { makeOwnedId, userOf, type AgentId, type EpochMs, type Micros, type UserId } from "../../core/ids.ts";
import {
  AGENTS_USER_MAX,
  ASSERTION_LIFE_MAX_SECONDS,
  ASSERTION_SKEW_SECONDS,
  ENVELOPE_SLACK_MS,
} from "../../core/limits.ts";
import { err, ok, type Result } from "../../core/result.ts";
import type { AgentView, AuthenticatedClient } from "../../core/wire/answers.ts";
import type { AgentCap, Authenticate, By, NewAgent } from "../../core/wire/questions.ts";
import type { AuthorityRpc } from "../../core/wire/rpc.ts";
import * as t from "../../drizzle/authority/schema.ts";
import type { Alarms } from "./alarms.ts";
import type { Audit } from "./audit.ts";
import type { Context } from "./context.ts";
import { once } from "./idempotency.ts";
import type { Lines } from "./line.ts";
import { lockOf } from "./lock-of.ts";
import { whoOf, type People } from "./people.ts";
import { requireScope } from "./sessions.ts";

type AgentRow = typeof t.agents.$inferSelect;

const JTI_LENGTH_MAX = 128;
const ASK_AGAIN_MS = 1_000;

function refused(fault: string): Result<never, Denial> {
  return err({ reason: "client_invalid", fault });
}

export class Agents {
  readonly #context: Context;
  readonly #people: People;
  readonly #lines: Lines;
  readonly #audit: Audit;
  readonly #alarms: Alarms;
  /** Other users' objects. */
  readonly #peer: (user: UserId) => AuthorityRpc;

  constructor(parts: {
    context: Context;
    people: People;
    lines: Lines;
    audit: Audit;
    alarms: Alarms;
    peer: (user: UserId) => AuthorityRpc;
  }) {
    this.#context = parts.context;
    this.#people = parts.people;
    this.#lines = parts.lines;
    this.#audit = parts.audit;
    this.#alarms = parts.alarms;
    this.#peer = parts.peer;
    this.#alarms.define("push", { where: "outside", run: (key) => this.#push(key) });
  }

  register(agent: NewAgent): Result<AgentView, Denial> {
    return this.#context.decide(() => {
      const now = this.#context.now();
      const person = this.#people.requireActive();
      if (!person.ok) return person;
      const cookie = this.#lines.requireCookie(agent.cookie, now);
      if (!cookie.ok) return cookie;
      return once(this.#context, agent.idempotency, now, () => {
        const { db } = this.#context;
        const scope = requireScope(agent.scope, scopesOfTier(this.#context.config, person.value.tier));
        if (!scope.ok) return scope;
        const live = db.select({ n: count() }).from(t.agents).where(eq(t.agents.state, "active")).get()?.n ?? 0;
        if (live >= AGENTS_USER_MAX) return err({ reason: "quota_reached", what: "agents", limit: AGENTS_USER_MAX });
        const row: AgentRow = {
          id: makeOwnedId("agt", this.#context.user, this.#context.random, this.#context.idMac),
          name: agent.name,
          alg: agent.key.alg,
          jwk: { ...agent.key.jwk },
          scope: scope.value,
          cap: agent.cap,
          stopCount: 0,
          state: "active",
          createdAt: now,
          settled: 0,
          day: 0,
          settledDay: 0,
          tats: null,
        };
        db.insert(t.agents).values(row).run();
        const thumbprint = this.#context.sha256(canonicalJson(agent.key.jwk));
        this.#audit.append("agent.registered", null, { ...whoOf(agent.by), ...this.#facts(row), thumbprint }, now);
        return ok(viewOf(row));
      });
    });
  }

  list(): Result<readonly AgentView[], Denial> {
    return ok(this.#context.db.select().from(t.agents).where(eq(t.agents.state, "active")).all().map(viewOf));
  }

  agent(id: AgentId): Result<AgentView, Denial> {
    const row = this.active(id);
    return row === undefined ? err({ reason: "not_found" }) : ok(viewOf(row));
  }

  active(id: AgentId): AgentRow | undefined {
    return this.#context.db
      .select()
      .from(t.agents)
      .where(and(eq(t.agents.id, id), eq(t.agents.state, "active")))
      .get();
  }

  setCap({ id, cap, cookie, by }: AgentCap): Result<AgentView, Denial> {
    return this.#context.decide(() => {
      const live = this.#lines.requireCookie(cookie, this.#context.now());
      if (!live.ok) return live;
      const row = this.active(id);
      if (row === undefined) return err({ reason: "not_found" });
      this.#context.db.update(t.agents).set({ cap }).where(eq(t.agents.id, id)).run();
      this.#audit.append(
        "agent.cap_changed",
        null,
        { ...whoOf(by), ...this.#facts({ ...row, cap }), before: row.cap },
        this.#context.now(),
      );
      return ok(viewOf({ ...row, cap }));
    });
  }

  /**
   * Raises the stop count and makes every noted user due to be told. Ending what runs here is the caller's, in the same
   * decision. Call inside a decision.
   */
  raiseStopCount(id: AgentId, remove: boolean, by: By): number | null {
    const row = this.active(id);
    if (row === undefined) return null;
    const stopCount = row.stopCount + 1;
    const { db } = this.#context;
    const now = this.#context.now();
    db.update(t.agents)
      .set({ stopCount, state: remove ? "deleted" : "active" })
      .where(eq(t.agents.id, id))
      .run();
    this.tell(id, stopCount, now);
    for (const { userId } of db
      .select({ userId: t.notedUsers.userId })
      .from(t.notedUsers)
      .where(eq(t.notedUsers.agentId, id))
      .all()) {
      this.#alarms.schedule("push", `${id} ${userId}`, now);
    }
    if (remove) this.#audit.append("agent.removed", null, { ...whoOf(by), ...this.#facts(row), stopCount }, now);
    return stopCount;
  }

  /** Pushes that are due, now; what fails is left to the alarm. */
  async pushAll(id: AgentId): Promise<number> {
    const { db } = this.#context;
    const pending = () =>
      db
        .select({ key: t.due.key })
        .from(t.due)
        .where(and(eq(t.due.kind, "push"), gt(t.due.key, `${id} `), lt(t.due.key, `${id}!`)))
        .all();
    await Promise.all(pending().map(({ key }) => this.#alarms.runOutside("push", key)));
    return pending().length;
  }

  /** The same, asking again whose end is still open, for as long as a fence may take. */
  async pushUntilOver(id: AgentId): Promise<number> {
    const deadline = this.#context.now() + this.#context.config.limits.leaseMs + ENVELOPE_SLACK_MS + ASK_AGAIN_MS;
    for (;;) {
      const pending = await this.pushAll(id);
      if (pending === 0 || this.#context.now() >= deadline) return pending;
      await new Promise((wake) => setTimeout(wake, ASK_AGAIN_MS));
    }
  }

  /** Remembers the highest stop count told here. Call inside a decision. */
  tell(id: AgentId, stopCount: number, now: EpochMs): void {
    this.#context.db
      .insert(t.toldStops)
      .values({ agentId: id, stopCount, at: now })
      .onConflictDoUpdate({
        target: t.toldStops.agentId,
        set: { stopCount: sql`max(${t.toldStops.stopCount}, ${stopCount})`, at: now },
      })
      .run();
  }

  /** The highest stop count that this object was told; 0 where none. */
  told(id: AgentId): number {
    const told = this.#context.db
      .select({ count: t.toldStops.stopCount })
      .from(t.toldStops)
      .where(eq(t.toldStops.agentId, id))
      .get();
    return told?.count ?? 0;
  }

  /** Refuses a start at a lower stop count than this object was told. Call inside a decision. */
  requireFresh(id: AgentId, stopCount: number): Result<null, Denial> {
    return stopCount < this.told(id) ? refused("stopped") : ok(null);
  }

  async #push(key: string): Promise<void> {
    const [id, userId] = key.split(" ") as [AgentId, UserId];
    const { db } = this.#context;
    const row = db.select().from(t.agents).where(eq(t.agents.id, id)).get();
    if (row === undefined) return this.#context.commit(() => this.#alarms.done("push", key));
    const why = row.state === "deleted" ? "agent_deleted" : "agent_stopped";
    const by: By = { kind: "legate", id: this.#context.user, reason: null };
    const told = await this.#peer(userId).agentStopped({ agent: id, stopCount: row.stopCount, why, by });
    if (!told.ok) throw new Error(told.denial.reason);
    if (!told.value.isOver) throw new Error("not over yet"); // marked there; asked again until nothing is pending
    this.#context.commit(() => {
      db.update(t.notedUsers)
        .set({ toldStopCount: row.stopCount })
        .where(and(eq(t.notedUsers.agentId, id), eq(t.notedUsers.userId, userId)))
        .run();
      const now = db.select({ stopCount: t.agents.stopCount }).from(t.agents).where(eq(t.agents.id, id)).get();
      if (now?.stopCount === row.stopCount) this.#alarms.done("push", key);
    });
  }

  /**
   * Proves a client by its assertion (RFC 7523 §3, private_key_jwt) and consumes the assertion's `jti`, once for all.
   * The signature is checked before the transaction; key and state are read again inside it.
   */
  async authenticate(question: Authenticate): Promise<Result<AuthenticatedClient, Denial>> {
    const row = this.active(question.agent);
    if (row === undefined) return refused("unknown_client");
    const claims = await verifyAssertion(question, row, this.#context.now());
    if (claims === null) return refused("assertion");
    return this.#context.decide(() => {
      const now = this.#context.now();
      const { db } = this.#context;
      const fresh = this.active(question.agent);
      if (fresh === undefined || !this.#people.requireActive().ok) return refused("unknown_client");
      const lock = lockOf(db, row.id, now);
      if (lock !== undefined) return err({ reason: "locked", what: "agent", until: lock.until as EpochMs | null });
      db.delete(t.assertions).where(lt(t.assertions.expiresAt, now)).run();
      const used = db
        .select({ jti: t.assertions.jti })
        .from(t.assertions)
        .where(and(eq(t.assertions.agentId, row.id), eq(t.assertions.jti, claims.jti)))
        .get();
      if (used !== undefined) return refused("replayed");
      db.insert(t.assertions)
        .values({ agentId: row.id, jti: claims.jti, expiresAt: (claims.exp + ASSERTION_SKEW_SECONDS + 1) * 1000 })
        .run();
      if (question.forUser !== null && question.forUser !== this.#context.user)
        this.#note(row.id as AgentId, question.forUser, fresh.stopCount, now);
      return ok({ agent: viewOf(fresh), owner: this.#context.user, stopCount: fresh.stopCount });
    });
  }

  #note(agentId: AgentId, userId: UserId, toldStopCount: number, notedAt: EpochMs): void {
    this.#context.db
      .insert(t.notedUsers)
      .values({ agentId, userId, notedAt, toldStopCount })
      .onConflictDoUpdate({ target: [t.notedUsers.agentId, t.notedUsers.userId], set: { notedAt } })
      .run();
  }

  #facts({ id, name, scope, cap }: AgentRow): { agent: string; name: string; scope: string[]; cap: number | null } {
    return { agent: id, name, scope, cap };
  }

  /** The user in whose object an agent is registered. */
  ownerOf(id: AgentId): UserId {
    return userOf(id, this.#context.idMac);
  }

  /** Agents of this user that still run or could: for disabling the user. */
  activeIds(): AgentId[] {
    return this.#context.db
      .select({ id: t.agents.id })
      .from(t.agents)
      .where(ne(t.agents.state, "deleted"))
      .all()
      .map(({ id }) => id as AgentId);
  }
}

function viewOf(row: AgentRow): AgentView {
  const { id, name, alg, jwk, scope, cap, state, createdAt } = row;
  return {
    id: id as AgentId,
    name,
    key: { alg, jwk },
    scope,
    cap: cap as Micros | null,
    state,
    createdAt: createdAt as EpochMs,
  };
}

/** @returns the claims that matter, or null; why not is nobody's business but the client's, who can look at its own clock */
async function verifyAssertion(
  question: Authenticate,
  row: AgentRow,
  now: EpochMs,
): Promise<{ jti: string; exp: number } | null> {
  let claims: JWTPayload;
  try {
    const verified = await jwtVerify(
      question.assertion,
      { ...row.jwk, alg: row.alg },
      {
        algorithms: [row.alg],
        issuer: row.id,
        subject: row.id,
        audience: [...question.audiences],
        clockTolerance: ASSERTION_SKEW_SECONDS,
        currentDate: new Date(now),
        requiredClaims: ["exp", "jti", "aud", "iss", "sub"],
      },
    );
    claims = verified.payload;
  } catch {
    return null;
  }
  const { jti, exp, iat } = claims;
  if (typeof jti !== "string" || jti.length === 0 || jti.length > JTI_LENGTH_MAX || exp === undefined) return null;
  const seconds = now / 1000;
  if (exp > seconds + ASSERTION_LIFE_MAX_SECONDS + ASSERTION_SKEW_SECONDS) return null;
  if (iat !== undefined && (iat > seconds + ASSERTION_SKEW_SECONDS || exp - iat > ASSERTION_LIFE_MAX_SECONDS))
    return null;
  return typeof claims.aud === "string" ? { jti, exp } : null; // one audience (RFC 7523 §3, 3, read strictly)
}
