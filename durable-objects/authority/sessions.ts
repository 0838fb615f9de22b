/**
 * Opening sessions and grants, and renewing them. What may be given is decided here, from the rows of this moment: the
 * person's tier, the agent's registration, the line above, and the stop counts told.
 */
import { and, count, eq, gt, isNull, ne } from "drizzle-orm";
import {
  childOf,
  depthOf,
  makeOwnedId,
  makeSegment,
  type AgentId,
  type EpochMs,
  type EpochSeconds,
  type Micros,
  type NodePath,
  type SessionId,
} from "../../core/ids.ts";
import { scopesOfTier, scopesWithin } from "../../core/config.ts";
import { decideHold } from "../../core/budget/ledger.ts";
import type { Denial } from "../../core/denial.ts";
import {
  ACTORS_MAX,
  GRANT_LIFE_DEFAULT_SECONDS,
  GRANT_LIFE_MIN_SECONDS,
  SEGMENTS_MAX,
  SESSIONS_USER_MAX,
  COOKIE_LIFE_SECONDS,
} from "../../core/limits.ts";
import { err, ok, type Result } from "../../core/result.ts";
import type { ActorLink } from "../../core/token/chain.ts";
import type { VerifiedToken } from "../../core/token/verify.ts";
import type { BudgetView, GrantView } from "../../core/wire/answers.ts";
import type { Delegate, OpenSession, Renew } from "../../core/wire/questions.ts";
import * as t from "../../drizzle/authority/schema.ts";
import type { Agents } from "./agents.ts";
import type { Alarms } from "./alarms.ts";
import type { Audit } from "./audit.ts";
import type { BudgetBook } from "./budget-book.ts";
import type { Charging } from "./charging.ts";
import type { Context } from "./context.ts";
import { once } from "./idempotency.ts";
import { lockOf } from "./lock-of.ts";
import type { GrantRow, Lines, LiveLine } from "./line.ts";
import { whoOf, type People, type PersonRow } from "./people.ts";
import type { Rates } from "./rates.ts";

export class Sessions {
  readonly #context: Context;
  readonly #people: People;
  readonly #agents: Agents;
  readonly #lines: Lines;
  readonly #book: BudgetBook;
  readonly #charging: Charging;
  readonly #rates: Rates;
  readonly #audit: Audit;
  readonly #alarms: Alarms;

  constructor(parts: {
    context: Context;
    people: People;
    agents: Agents;
    lines: Lines;
    book: BudgetBook;
    charging: Charging;
    rates: Rates;
    audit: Audit;
    alarms: Alarms;
  }) {
    this.#context = parts.context;
    this.#people = parts.people;
    this.#agents = parts.agents;
    this.#lines = parts.lines;
    this.#book = parts.book;
    this.#charging = parts.charging;
    this.#rates = parts.rates;
    this.#audit = parts.audit;
    this.#alarms = parts.alarms;
  }

  open(question: OpenSession): Result<GrantView, Denial> {
    return this.#context.decide(() => {
      const now = this.#context.now();
      if (question.enrolment !== null) this.#people.ensure(question.enrolment, now);
      const person = this.#people.requireActive();
      if (!person.ok) return person;
      const cookie = this.#lines.requireCookie(question.cookie, now);
      if (!cookie.ok) return cookie;
      return once(this.#context, question.idempotency, now, () => this.#open(question, person.value, now));
    });
  }

  #open(question: OpenSession, person: PersonRow, now: EpochMs): Result<GrantView, Denial> {
    const seconds = Math.floor(now / 1000);
    const { db } = this.#context;
    // Counted apart: an agent that opens all there are must not keep its person from signing in to stop it.
    const kind = question.kind === "person" ? eq(t.sessions.kind, "person") : ne(t.sessions.kind, "person");
    const open =
      db
        .select({ n: count() })
        .from(t.sessions)
        .where(and(isNull(t.sessions.endedAt), gt(t.sessions.expiresSeconds, seconds), kind))
        .get()?.n ?? 0;
    if (open >= SESSIONS_USER_MAX) return err({ reason: "quota_reached", what: "sessions", limit: SESSIONS_USER_MAX });
    const rights = this.#rightsOf(question, person);
    if (!rights.ok) return rights;
    const life = this.#life(
      question.kind === "person" ? COOKIE_LIFE_SECONDS : question.ttlSeconds,
      question.kind === "person" ? COOKIE_LIFE_SECONDS : this.#context.config.limits.sessionSeconds,
    );
    if (!life.ok) return life;
    const id = makeOwnedId("ses", this.#context.user, this.#context.random, this.#context.idMac);
    const path = id as string as NodePath;
    const expires = (seconds + life.value) as EpochSeconds;
    const { scope, cap, actors, clientId } = rights.value;
    const grant: GrantRow = {
      path,
      session: id,
      clientId: clientId ?? person.id,
      actors,
      scope,
      agents: question.agents === null ? null : [...question.agents],
      audience: null,
      openedAt: now,
      expiresSeconds: expires,
    };
    db.insert(t.sessions)
      .values({
        id,
        kind: question.kind,
        clientId,
        openedAt: now,
        expiresSeconds: expires,
        endedAt: null,
        slug: null,
        instance: null,
        folded: false,
      })
      .run();
    db.insert(t.grants).values(grant).run();
    const node = this.#lines.insert({ path, kind: "session", cap, liveUntil: expires }, now);
    if (!node.ok) return node;
    this.#alarms.schedule("expiry", "", (expires * 1000) as EpochMs);
    const { ip, userAgent } = question.origin;
    this.#audit.append(
      "session.opened",
      id,
      {
        ...whoOf(question.by),
        sessionKind: question.kind,
        client: clientId,
        scope,
        cap,
        expires: expires * 1000,
        ip,
        userAgent,
      },
      now,
    );
    return ok(this.#view(grant, person, cap));
  }

  /** What a new session may do and spend: asked ∩ registered ∩ the person's tier; the least of the caps. */
  #rightsOf(
    question: OpenSession,
    person: PersonRow,
  ): Result<{ scope: string[]; cap: Micros | null; actors: ActorLink[]; clientId: AgentId | null }, Denial> {
    let may = scopesOfTier(this.#context.config, person.tier);
    let cap: number | null = question.budget;
    let actors: ActorLink[] = [];
    if (question.client !== null) {
      const { id, stopCount } = question.client;
      const agent = this.#agents.active(id);
      if (agent === undefined) return err({ reason: "not_found" });
      const lock = lockOf(this.#context.db, id, this.#context.now());
      if (lock !== undefined) return err({ reason: "locked", what: "agent", until: lock.until as EpochMs | null });
      if (stopCount !== null) {
        const fresh = this.#agents.requireFresh(id, stopCount);
        if (!fresh.ok) return fresh;
      }
      if (agent.cap === null) return err({ reason: "agent_without_budget", agent: id });
      may = may.filter((name) => agent.scope.includes(name));
      cap = Math.min(question.budget ?? Infinity, agent.cap, this.#book.dayCap() ?? Infinity);
      actors = [{ sub: id, proven: true }];
    }
    const scope = requireScope(question.scope, may);
    return scope.ok
      ? ok({ scope: scope.value, cap: cap as Micros | null, actors, clientId: question.client?.id ?? null })
      : scope;
  }

  /** A grant below a node: for the agent that a named delegation is for, or for the same agent with less. */
  delegate(question: Delegate): Result<GrantView, Denial> {
    return this.#context.decide(() => {
      const now = this.#context.now();
      const { token, client, how } = question;
      const live = this.#lines.requireLive(token, now);
      if (!live.ok) return live;
      const fresh = this.#agents.requireFresh(client.id, client.stopCount);
      if (!fresh.ok) return fresh;
      // Redeeming takes what was delegated to this client; narrowing takes the client's own, unblocked by bearer links.
      const isTheirs =
        how === "redeem"
          ? token.delegatedTo === client.id
          : token.delegatedTo === null && token.clientId === client.id && token.actors.at(-1)?.sub === client.id;
      if (!isTheirs) return err({ reason: "grant_invalid", fault: "not_yours" });
      const may = scopesWithin(this.#context.config, live.value.person.tier, token.scope);
      const scope = requireScope(question.scope, may);
      if (!scope.ok) return scope;
      const agents = requireAgents(question.agents, token.agents);
      if (!agents.ok) return agents;
      const parent = this.#lines.grantOf(token.grant);
      if (parent === undefined) return err({ reason: "token_invalid", fault: "unknown_node" });
      const end = Math.min(parent.expiresSeconds, token.caveatExp ?? Infinity);
      const left = end - Math.floor(now / 1000);
      const life = question.ttlSeconds === null ? ok(left) : this.#life(question.ttlSeconds, Infinity);
      if (!life.ok) return life;
      const actors =
        how === "redeem" ? [...token.actors, { sub: client.id as string, proven: true }] : [...token.actors];
      if (depthOf(token.node) + 1 > SEGMENTS_MAX || actors.length > ACTORS_MAX)
        return err({ reason: "grant_invalid", fault: "too_deep" });
      const path = childOf(token.node, makeSegment(this.#context.random));
      const expires = Math.min(end, Math.floor(now / 1000) + life.value) as EpochSeconds;
      const grant: GrantRow = {
        path,
        session: token.session,
        clientId: client.id,
        actors,
        scope: scope.value,
        agents: agents.value,
        audience: question.audience,
        openedAt: now,
        expiresSeconds: expires,
      };
      const { budget: cap, reserve: reserved } = question;
      if (reserved !== null) {
        const { agent } = live.value;
        const room = decideHold(this.#book.levels(token.node, agent, live.value.caps, now), reserved, null, now);
        if (!room.ok) return room;
        const endsAt = (expires * 1000) as EpochMs;
        this.#context.afterCommit(() => this.#book.reserve({ path, agent: agent?.id ?? null }, reserved, endsAt));
      }
      const node = this.#lines.insert({ path, kind: "grant", cap, reserved, liveUntil: expires }, now);
      if (!node.ok) return node;
      this.#context.db.insert(t.grants).values(grant).run();
      this.#audit.append(
        "grant.opened",
        token.session,
        {
          ...whoOf(question.by),
          node: path,
          how,
          client: client.id,
          scope: scope.value,
          cap,
          reserved,
          audience: question.audience,
          expires: expires * 1000,
        },
        now,
      );
      return ok(this.#view(grant, live.value.person, question.budget));
    });
  }

  /** The same grant, a new window. Takes the assertion that opened the grant as well as the token. */
  renew({ token, client }: Renew): Result<GrantView, Denial> {
    return this.#context.decide(() => {
      const now = this.#context.now();
      const live = this.#lines.requireLive(token, now);
      if (!live.ok) return live;
      const grant = this.#lines.grantOf(token.grant);
      if (grant === undefined || grant.path !== token.node || grant.clientId !== client.id)
        return err({ reason: "grant_invalid", fault: "not_yours" });
      const fresh = this.#agents.requireFresh(client.id, client.stopCount);
      if (!fresh.ok) return fresh;
      // Each renewal is a row of the log: as many as calls, and in the same windows.
      const { charge } = this.#charging.line(token.node, "", live.value, now);
      const rate = this.#rates.charge(charge, 1, now);
      if (!rate.ok) return rate;
      this.#audit.append(
        "grant.renewed",
        token.session,
        { by: { kind: "agent", id: client.id }, node: grant.path },
        now,
      );
      // A tier that was lowered since takes its scopes out of every window that opens after it.
      const scope = scopesWithin(this.#context.config, live.value.person.tier, grant.scope);
      return ok(this.#view({ ...grant, scope }, live.value.person, live.value.caps.get(token.grant) ?? null));
    });
  }

  /**
   * What introspection tells: rights of the row, and whether all of the line lives. A token of another audience counts only
   * if its grant was exchanged for exactly that audience; rights and caps come from the row and the blocks (DESIGN.md §3).
   */
  introspect(
    token: VerifiedToken,
    audience: string,
    budgetOf: (path: NodePath, live: LiveLine, now: EpochMs) => BudgetView,
  ): Result<GrantView & { budget: BudgetView }, Denial> {
    return this.#context.decide(() => {
      const now = this.#context.now();
      const expected = audience === this.#context.issuer ? null : audience;
      const live = this.#lines.requireLive(token, now, expected);
      if (!live.ok) return live;
      const row = this.#lines.grantOf(token.grant) as GrantRow;
      const grant = { ...row, scope: scopesWithin(this.#context.config, live.value.person.tier, row.scope) };
      const view = this.#view(grant, live.value.person, live.value.caps.get(token.node) ?? null);
      return ok({ ...view, path: token.node, budget: budgetOf(token.node, live.value, now) });
    });
  }

  #life(asked: number | null, most: number): Result<number, Denial> {
    const seconds = asked ?? Math.min(GRANT_LIFE_DEFAULT_SECONDS, most);
    if (seconds < GRANT_LIFE_MIN_SECONDS)
      return err({
        reason: "request_invalid",
        detail: `A session or grant lives at least ${GRANT_LIFE_MIN_SECONDS} seconds.`,
      });
    return ok(Math.min(seconds, most));
  }

  #view(grant: GrantRow, person: PersonRow, cap: Micros | null): GrantView {
    return {
      path: grant.path as NodePath,
      session: grant.session as SessionId,
      subject: this.#context.user,
      tier: person.tier,
      clientId: grant.clientId,
      actors: grant.actors,
      scope: grant.scope,
      agents: grant.agents,
      audience: grant.audience,
      openedAt: grant.openedAt as EpochMs,
      expires: grant.expiresSeconds as EpochSeconds,
      cap,
    };
  }
}

/** Nothing asked: all of it. More than may be given is refused, never silently cut. */
export function requireScope(asked: readonly string[] | null, may: readonly string[]): Result<string[], Denial> {
  if (asked === null) return ok([...may]);
  const over = asked.filter((name) => !may.includes(name));
  return over.length > 0 ? err({ reason: "scope_invalid", scope: over }) : ok([...new Set(asked)]);
}

function requireAgents(
  asked: readonly string[] | null,
  may: ReadonlySet<string> | null,
): Result<string[] | null, Denial> {
  if (asked === null) return ok(may === null ? null : [...may]);
  const over = may === null ? undefined : asked.find((slug) => !may.has(slug));
  return over === undefined ? ok([...asked]) : err({ reason: "target_invalid", target: over });
}
