/**
 * What an operator can do, once, for both ways in: the routes under /admin and the entrypoint `Operator`. Who acts was
 * proven by whoever made this and is never an argument; every act has a reason, and both go into the audit row. Lists
 * are read from D1; what ends or changes something is asked of the user's object and never waits for D1.
 */
import * as z from "zod/mini";
import { TIERS, type Tier } from "../../core/config.ts";
import type { Denial } from "../../core/denial.ts";
import { dayOf } from "../../core/budget/ledger.ts";
import {
  parseNodePath,
  parseOwnedId,
  parseUserId,
  sessionOf,
  userOf,
  type Micros,
  type NodePath,
  type UserId,
} from "../../core/ids.ts";
import {
  PAGE_ROWS_DEFAULT,
  PAGE_ROWS_MAX,
  REASON_LENGTH_MAX,
  ROLE_DAYS_DEFAULT,
  ROLE_DAYS_MAX,
  USERNAME_LENGTH_MAX,
} from "../../core/limits.ts";
import { err, ok, type Result } from "../../core/result.ts";
import type { PersonView, SessionDetail, StopReport } from "../../core/wire/answers.ts";
import type { By, Idempotency } from "../../core/wire/questions.ts";
import type { AuthorityRpc } from "../../core/wire/rpc.ts";
import {
  findSession,
  findUserByName,
  listAudit,
  listSessions,
  sumRoleDays,
  updateTier,
} from "../../drizzle/d1/queries.ts";
import type { AgentAuditRow, AgentSessionRow, RoleUseRow } from "../../drizzle/d1/rows.ts";
import { check } from "../body.ts";
import type { Edge } from "../env.ts";
import { openCursor, sealCursor } from "./cursor.ts";

const text = z.string().check(z.minLength(1), z.maxLength(USERNAME_LENGTH_MAX + 64));
const page = {
  cursor: z.optional(z.string().check(z.maxLength(512))),
  /** More than a page may hold is a page. */
  limit: z.optional(z.int().check(z.minimum(1))),
};
const sessionsQuery = z.strictObject({
  user: z.optional(text),
  agent: z.optional(text),
  active: z.optional(z.boolean()),
  ...page,
});
const auditQuery = z.strictObject({
  user: z.optional(text),
  session: z.optional(z.string()),
  kind: z.optional(text),
  ...page,
});
const rolesQuery = z.strictObject({ days: z.optional(z.int().check(z.minimum(1), z.maximum(ROLE_DAYS_MAX))) });

export const reason = z.string().check(
  z.maxLength(REASON_LENGTH_MAX),
  z.refine((words) => words.trim() !== "" && !/\p{Cc}/u.test(words), "a reason in words, without control characters"),
);
export const reasonOnly = z.strictObject({ reason });
export const budgetChange = z.strictObject({ cap: z.int().check(z.minimum(0)), reason });
export const tierChange = z.strictObject({ tier: z.enum(TIERS), reason });
/** Absent: after the fence. */
const wait = z.optional(z.boolean());
const termination = z.strictObject({ id: z.string(), reason, wait });
const stop = z.strictObject({ user: z.string(), reason, wait });

export type SessionsInput = z.input<typeof sessionsQuery>;
export type AuditInput = z.input<typeof auditQuery>;
export type RolesInput = z.input<typeof rolesQuery>;
export type TerminationInput = z.input<typeof termination>;
export type StopInput = z.input<typeof stop>;

export interface Page<Row> {
  readonly rows: readonly Row[];
  readonly cursor: string | null;
}

export interface Inspection {
  /** As D1 has it; null until the object's outbox has told it. */
  readonly row: AgentSessionRow | null;
  /** As the object has it now; null where only D1 remembers. */
  readonly live: SessionDetail | null;
}

/** What a role of a cloud was asked for. */
export interface RoleUse extends RoleUseRow {
  /** The share of answers that cost no exchange; null where there was none. */
  readonly hitRate: number | null;
}

const NOT_FOUND: Result<never, Denial> = err({ reason: "not_found" });

export class OperatorActs {
  readonly #edge: Edge;
  readonly #operator: string;

  constructor(edge: Edge, operator: string) {
    this.#edge = edge;
    this.#operator = operator;
  }

  async list(input: unknown): Promise<Result<Page<AgentSessionRow>, Denial>> {
    const query = check(sessionsQuery, input);
    if (!query.ok) return query;
    const { user, agent, active, cursor } = query.value;
    const after = await this.#place<[number, string]>("sessions", cursor);
    if (!after.ok) return after;
    const userId = await this.#userFilter(user);
    if (!userId.ok) return userId;
    if (userId.value === false) return ok({ rows: [], cursor: null });
    const limit = Math.min(query.value.limit ?? PAGE_ROWS_DEFAULT, PAGE_ROWS_MAX);
    const isClient = agent?.startsWith("agt_") ?? false;
    const rows = await listSessions(this.#edge.db, {
      userId: userId.value,
      clientId: isClient ? (agent ?? null) : null,
      agentSlug: isClient ? null : (agent ?? null),
      isActive: active ?? null,
      after: after.value === null ? null : { startedAt: after.value[0], id: after.value[1] },
      limit: limit + 1, // one more tells whether there is a next page
      now: this.#edge.now(),
    });
    return rows.ok ? this.#page("sessions", rows.value, limit, ({ startedAt, id }) => [startedAt, id]) : rows;
  }

  async audit(input: unknown): Promise<Result<Page<AgentAuditRow>, Denial>> {
    const query = check(auditQuery, input);
    if (!query.ok) return query;
    const { user, session, kind, cursor } = query.value;
    const after = await this.#place<[number, string, number]>("audit", cursor);
    if (!after.ok) return after;
    const userId = await this.#userFilter(user);
    if (!userId.ok) return userId;
    const path = session === undefined ? null : parseNodePath(session, this.#edge.idMac);
    if (userId.value === false || (session !== undefined && path === null)) return ok({ rows: [], cursor: null });
    const limit = Math.min(query.value.limit ?? PAGE_ROWS_DEFAULT, PAGE_ROWS_MAX);
    const rows = await listAudit(this.#edge.db, {
      userId: userId.value,
      sessionId: path === null ? null : sessionOf(path),
      kind: kind ?? null,
      after: after.value === null ? null : { at: after.value[0], userId: after.value[1], seq: after.value[2] },
      limit: limit + 1,
    });
    return rows.ok ? this.#page("audit", rows.value, limit, ({ at, userId: of, seq }) => [at, of, seq]) : rows;
  }

  /** Every role that is configured, or was asked for in the last days (UTC, today's is one), of all users together. */
  async roles(input: unknown): Promise<Result<{ readonly days: number; readonly roles: readonly RoleUse[] }, Denial>> {
    const query = check(rolesQuery, input);
    if (!query.ok) return query;
    const { days = ROLE_DAYS_DEFAULT } = query.value;
    const found = await sumRoleDays(this.#edge.db, dayOf(this.#edge.now()) - days + 1);
    if (!found.ok) return found;
    const rows = new Map(found.value.map((row) => [row.role, row]));
    const names = new Set([...this.#edge.config.roles.keys(), ...rows.keys()]);
    const roles = [...names].toSorted().map((role) => {
      const { exchanges = 0, failures = 0, answers = 0 } = rows.get(role) ?? {};
      const hitRate = answers === 0 ? null : Math.max(0, 1 - exchanges / answers);
      return { role, exchanges, failures, answers, hitRate };
    });
    return ok({ days, roles });
  }

  /** A session, or one of its nodes and what lies below. */
  async inspect(id: unknown): Promise<Result<Inspection, Denial>> {
    const path = this.#path(id);
    if (path === null) return NOT_FOUND;
    const row = await findSession(this.#edge.db, sessionOf(path));
    if (!row.ok) return row;
    const live = await this.#edge.ask(userOf(path, this.#edge.idMac), (authority) =>
      authority.inspect(path, { kind: "operator" }),
    );
    if (live.ok) return ok({ row: row.value, live: live.value });
    const isForgotten = live.denial.reason === "not_found" && row.value !== null && path === (row.value.id as NodePath);
    return isForgotten ? ok({ row: row.value, live: null }) : live;
  }

  /** @returns the report, or `already_ended` with the report of the first time */
  async terminate(input: unknown, idempotency: Idempotency | null = null): Promise<Result<StopReport, Denial>> {
    const order = check(termination, input);
    if (!order.ok) return order;
    const path = this.#path(order.value.id);
    if (path === null) return NOT_FOUND;
    const question = {
      path,
      why: "terminated" as const,
      by: this.#by(order.value.reason),
      reach: { kind: "operator" as const },
      wait: order.value.wait ?? true,
      idempotency,
    };
    return this.#edge.ask(userOf(path, this.#edge.idMac), (authority) =>
      path === (sessionOf(path) as string) ? authority.terminate(question) : authority.revoke(question),
    );
  }

  stopUser(input: unknown): Promise<Result<{ readonly sessions: number }, Denial>> {
    return this.#endAll(input, "stopUser");
  }

  /** Stops all, and lets nothing start until `enableUser`. */
  disableUser(input: unknown): Promise<Result<{ readonly sessions: number }, Denial>> {
    return this.#endAll(input, "disable");
  }

  async enableUser(input: unknown): Promise<Result<PersonView, Denial>> {
    const order = check(stop, input);
    if (!order.ok) return order;
    const user = parseUserId(order.value.user, this.#edge.idMac);
    if (user === null) return NOT_FOUND;
    return this.#edge.ask(user, (authority) => authority.enable({ by: this.#by(order.value.reason) }));
  }

  /**
   * D1 first, where sign-in reads it, then the object, whose tier decides. If we die between the two, the next sign-in
   * carries it over; doing it again is safe.
   */
  async setTier(user: unknown, tier: Tier, why: string): Promise<Result<PersonView, Denial>> {
    const id = typeof user === "string" ? parseUserId(user, this.#edge.idMac) : null;
    if (id === null) return NOT_FOUND;
    const written = await updateTier(this.#edge.db, id, tier);
    if (!written.ok) return written;
    if (!written.value) return NOT_FOUND;
    return this.#edge.ask(id, (authority) => authority.setTier(tier, this.#by(why)));
  }

  /** A cap of a session or node, of an agent, or of a user's day: which, the id says. It may fall below what is committed. */
  async setBudget(id: unknown, cap: Micros, why: string): Promise<Result<{ readonly cap: Micros }, Denial>> {
    const { idMac } = this.#edge;
    const text = typeof id === "string" ? id : "";
    const by = this.#by(why);
    const agent = parseOwnedId("agt", text, idMac);
    if (agent !== null)
      return this.#capOf(userOf(agent, idMac), cap, (authority) =>
        authority.setAgentCap({ id: agent, cap, cookie: null, by }),
      );
    const user = parseUserId(text, idMac);
    if (user !== null) return this.#capOf(user, cap, (authority) => authority.setDayCap(cap, by));
    const path = this.#path(text);
    if (path === null) return NOT_FOUND;
    const question = { path, cap, by, reach: { kind: "operator" as const }, idempotency: null };
    return this.#capOf(userOf(path, idMac), cap, (authority) => authority.setCap(question));
  }

  async #capOf(
    user: UserId,
    cap: Micros,
    set: (authority: AuthorityRpc) => Promise<Result<unknown, Denial>>,
  ): Promise<Result<{ readonly cap: Micros }, Denial>> {
    const done = await this.#edge.ask<unknown>(user, set);
    return done.ok ? ok({ cap }) : done;
  }

  async #endAll(input: unknown, how: "stopUser" | "disable"): Promise<Result<{ readonly sessions: number }, Denial>> {
    const order = check(stop, input);
    if (!order.ok) return order;
    const user = parseUserId(order.value.user, this.#edge.idMac);
    if (user === null) return NOT_FOUND;
    const question = { by: this.#by(order.value.reason), wait: order.value.wait ?? true };
    return this.#edge.ask(user, (authority) => authority[how](question));
  }

  #by(words: string): By {
    return { kind: "operator", id: this.#operator, reason: words };
  }

  #path(id: unknown): NodePath | null {
    return typeof id === "string" ? parseNodePath(id, this.#edge.idMac) : null;
  }

  /** An id, or a name as people know it. @returns false where nobody has it: an empty list, not a mistake */
  async #userFilter(user: string | undefined): Promise<Result<UserId | null | false, Denial>> {
    if (user === undefined) return ok(null);
    const id = parseUserId(user, this.#edge.idMac);
    if (id !== null) return ok(id);
    const found = await findUserByName(this.#edge.db, user);
    return found.ok ? ok(found.value === null ? false : (found.value.id as UserId)) : found;
  }

  async #place<P extends readonly (string | number)[]>(
    list: string,
    cursor: string | undefined,
  ): Promise<Result<P | null, Denial>> {
    return cursor === undefined ? ok(null) : openCursor<P>(this.#edge.cursorKey, list, cursor);
  }

  async #page<Row>(
    list: string,
    found: readonly Row[],
    limit: number,
    placeOf: (row: Row) => readonly (string | number)[],
  ): Promise<Result<Page<Row>, Denial>> {
    const rows = found.slice(0, limit);
    const last = rows.at(-1);
    const isLastPage = found.length <= limit || last === undefined;
    return ok({ rows, cursor: isLastPage ? null : await sealCursor(this.#edge.cursorKey, list, placeOf(last)) });
  }
}
