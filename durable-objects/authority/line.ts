/**
 * The line of a node: its session, its grants, and everything that was narrowed between. `requireLive` answers whether
 * every link of a verified token still lives here, and records nodes that were narrowed offline when it first hears of
 * them (DESIGN.md §3). What the edge checked is checked again where the rows say more than the token.
 */
import { and, asc, count, eq, gt, inArray, lt, lte, min, or, sql, type Column, type SQL } from "drizzle-orm";
import type { Denial, TokenFault } from "../../core/denial.ts";
import {
  lineOf,
  parentOf,
  sessionOf,
  type EpochMs,
  type EpochSeconds,
  type Micros,
  type NodePath,
} from "../../core/ids.ts";
import { LIVE_CHILDREN_MAX, LIVE_NODES_BELOW_MAX, LIVE_NODES_SESSION_MAX } from "../../core/limits.ts";
import { err, ok, type Result } from "../../core/result.ts";
import type { VerifiedToken } from "../../core/token/verify.ts";
import * as t from "../../drizzle/authority/schema.ts";
import type { Alarms } from "./alarms.ts";
import type { BudgetBook } from "./budget-book.ts";
import type { Context } from "./context.ts";
import type { People, PersonRow } from "./people.ts";
import type { Rates } from "./rates.ts";

export type SessionRow = typeof t.sessions.$inferSelect;
export type GrantRow = typeof t.grants.$inferSelect;
export type NodeRow = typeof t.nodes.$inferSelect;

export interface LiveLine {
  readonly person: PersonRow;
  readonly session: SessionRow;
  /** The agent whose budget the session draws on. */
  readonly agent: { readonly id: string; readonly cap: Micros } | null;
  readonly caps: ReadonlyMap<string, Micros | null>;
}

/** SQL for "this path, or another column's, or anything under it"; `/` is the character after `.`, so the index serves. */
export function atOrBelow(column: Column, path: NodePath | Column): SQL {
  return or(eq(column, path), below(column, path)) as SQL;
}
function below(column: Column, path: NodePath | Column): SQL {
  const [from, to] = typeof path === "string" ? [`${path}.`, `${path}/`] : [sql`${path} || '.'`, sql`${path} || '/'`];
  return and(gt(column, from), lt(column, to)) as SQL;
}

function invalid(fault: TokenFault): Result<never, Denial> {
  return err({ reason: "token_invalid", fault });
}

const SWEEP_PAUSE_MS = 30_000;

/** SQL for "a path of the line", which `lineArg` names. */
function onLine(column: Column): SQL {
  return sql`${column} in (select value from json_each(${sql.placeholder("line")}))`;
}
function lineArg(path: NodePath): { line: string } {
  return { line: JSON.stringify(lineOf(path)) };
}

export class Lines {
  readonly #context: Context;
  readonly #people: People;
  readonly #alarms: Alarms;
  readonly #book: BudgetBook;
  readonly #nodes: () => { all(line: { line: string }): NodeRow[] };
  readonly #grant: () => { get(line: { line: string }): GrantRow | undefined };
  readonly #session: () => { get(session: { id: string }): SessionRow | undefined };
  readonly #stop: () => { get(line: { line: string }): typeof t.stops.$inferSelect | undefined };
  readonly #agent: () => { get(agent: { id: string }): { id: string; cap: number | null } | undefined };
  readonly #rates: Rates;

  constructor(parts: { context: Context; people: People; alarms: Alarms; book: BudgetBook; rates: Rates }) {
    const { context } = parts;
    this.#context = context;
    this.#nodes = context.prepared((db) => db.select().from(t.nodes).where(onLine(t.nodes.path)));
    this.#grant = context.prepared((db) =>
      db
        .select()
        .from(t.grants)
        .where(onLine(t.grants.path))
        .orderBy(sql`length(${t.grants.path}) desc`),
    );
    const id = sql.placeholder("id");
    this.#session = context.prepared((db) => db.select().from(t.sessions).where(eq(t.sessions.id, id)));
    this.#stop = context.prepared((db) =>
      db.select().from(t.stops).where(onLine(t.stops.path)).orderBy(asc(t.stops.at)),
    );
    this.#agent = context.prepared((db) =>
      db.select({ id: t.agents.id, cap: t.agents.cap }).from(t.agents).where(eq(t.agents.id, id)),
    );
    this.#people = parts.people;
    this.#alarms = parts.alarms;
    this.#book = parts.book;
    this.#rates = parts.rates;
  }

  /**
   * Everything of a verified token lives, and its nodes are recorded. Call inside a decision.
   *
   * @param audience that the token was verified for; null is Legate itself
   */
  requireLive(token: VerifiedToken, now: EpochMs, audience: string | null = null): Result<LiveLine, Denial> {
    const rows = this.#rowsOf(token.node);
    const live = this.#requireLiveRows(token.node, rows, now);
    if (!live.ok) return live;
    const grant = this.grantOf(token.grant);
    if (grant === undefined || grant.audience !== audience) return invalid("unknown_node");
    if (grant.expiresSeconds * 1000 <= now) return this.#expired(grant.path as NodePath, grant.expiresSeconds);
    if (!isCovered(token, grant)) return invalid("claims");
    for (const path of lineOf(token.grant)) {
      if (rows.has(path)) continue;
      if (!path.slice(path.lastIndexOf(".") + 1).startsWith("~")) return invalid("unknown_node");
      const made = this.#record({ path, kind: "gate", content: null, cap: null, liveUntil: token.exp }, now);
      if (!made.ok) return made;
    }
    const caps = new Map(live.value.caps);
    for (const { path, content, exp, budget } of token.segments) {
      const known = rows.get(path);
      if (known === undefined) {
        const made = this.#record({ path, kind: "narrowed", content, cap: budget, liveUntil: exp }, now);
        if (!made.ok) return made;
        caps.set(path, budget);
      } else if (known.content !== content) return invalid("node_conflict");
    }
    this.#extend(token, rows);
    return ok({ ...live.value, caps });
  }

  /** The cookie by which a person acts, where they do: the session that it stands for lives now. Call inside a decision. */
  requireCookie(cookie: VerifiedToken | null, now: EpochMs): Result<null, Denial> {
    const live = cookie === null ? ok(null) : this.requireLive(cookie, now);
    return live.ok ? ok(null) : live;
  }

  /** The same for a path whose nodes are all recorded: sockets, and what an operator names. */
  requireLivePath(path: NodePath, now: EpochMs): Result<LiveLine, Denial> {
    const rows = this.#rowsOf(path);
    return rows.has(path) ? this.#requireLiveRows(path, rows, now) : invalid("unknown_node");
  }

  /** The recorded grant that a path rests on: itself, or the next one above (a `~<slug>` may hang from a narrowed node). */
  grantOf(path: NodePath): GrantRow | undefined {
    return this.#grant().get(lineArg(path));
  }

  /** A node of a session or grant that is being opened. Call inside a decision. */
  insert(
    node: {
      path: NodePath;
      kind: "session" | "grant";
      cap: Micros | null;
      reserved?: Micros | null;
      liveUntil: EpochSeconds;
    },
    now: EpochMs,
  ): Result<null, Denial> {
    return this.#record({ ...node, content: null }, now);
  }

  #rowsOf(path: NodePath): Map<string, NodeRow> {
    const rows = this.#nodes().all(lineArg(path));
    return new Map(rows.map((row) => [row.path, row]));
  }

  #requireLiveRows(path: NodePath, rows: ReadonlyMap<string, NodeRow>, now: EpochMs): Result<LiveLine, Denial> {
    const person = this.#people.requireActive();
    if (!person.ok) return person;
    const session = this.#session().get({ id: sessionOf(path) });
    if (session === undefined) return invalid("unknown_node");
    const stop = this.#stop().get(lineArg(path));
    if (stop !== undefined)
      return err({ reason: "ended", node: stop.path as NodePath, why: stop.why, at: stop.at as EpochMs });
    if (session.expiresSeconds * 1000 <= now) return this.#expired(session.id as NodePath, session.expiresSeconds);
    let agent: LiveLine["agent"] = null;
    if (session.clientId !== null) {
      const row = this.#agent().get({ id: session.clientId });
      agent = { id: session.clientId, cap: (row?.cap ?? 0) as Micros };
    }
    const caps = new Map([...rows].map(([at, row]) => [at, row.cap as Micros | null]));
    return ok({ person: person.value, session, agent, caps });
  }

  #expired(node: NodePath, seconds: number): Result<never, Denial> {
    return err({ reason: "ended", node, why: "expired", at: (seconds * 1000) as EpochMs });
  }

  #record(
    node: {
      path: NodePath;
      kind: NodeRow["kind"];
      content: string | null;
      cap: Micros | null;
      reserved?: Micros | null;
      liveUntil: EpochSeconds;
    },
    now: EpochMs,
  ): Result<null, Denial> {
    const session = sessionOf(node.path);
    if (node.kind !== "session") {
      const room = this.#requireRoom(node.path, now);
      if (!room.ok) return room;
    }
    this.#context.db
      .insert(t.nodes)
      .values({
        path: node.path,
        session,
        kind: node.kind,
        content: node.content,
        cap: node.cap,
        reserved: node.reserved ?? null,
        settled: 0,
        day: 0,
        settledDay: 0,
        liveUntilSeconds: node.liveUntil,
      })
      .run();
    if (node.kind === "narrowed" || node.kind === "gate") {
      this.#alarms.schedule("sweep", "", Math.max(now + SWEEP_PAUSE_MS, (node.liveUntil + 1) * 1000) as EpochMs);
    }
    return ok(null);
  }

  /** Live nodes are bounded under one parent, below any node, and in all. */
  #requireRoom(path: NodePath, now: EpochMs): Result<null, Denial> {
    const seconds = Math.floor(now / 1000);
    const above = lineOf(path).slice(0, -1);
    for (const ancestor of above) {
      const isSession = ancestor === above[0];
      const limit = isSession ? LIVE_NODES_SESSION_MAX : LIVE_NODES_BELOW_MAX;
      const full = this.#full(
        and(below(t.nodes.path, ancestor), gt(t.nodes.liveUntilSeconds, seconds)) as SQL,
        ancestor,
        limit,
        now,
      );
      if (full !== null) return full;
    }
    const parent = above.at(-1) as NodePath;
    const children = and(
      below(t.nodes.path, parent),
      sql`instr(substr(${t.nodes.path}, ${parent.length + 2}), '.') = 0`,
      gt(t.nodes.liveUntilSeconds, seconds),
    ) as SQL;
    return this.#full(children, parent, LIVE_CHILDREN_MAX, now) ?? ok(null);
  }

  #full(where: SQL, node: NodePath, limit: number, now: EpochMs): Result<never, Denial> | null {
    const found = this.#context.db
      .select({ n: count(), first: min(t.nodes.liveUntilSeconds) })
      .from(t.nodes)
      .where(where)
      .get();
    if (found === undefined || found.n < limit) return null;
    return err({
      reason: "delegation_limit",
      node,
      limit,
      retryAfterMs: Math.max(1_000, (found.first ?? 0) * 1000 - now),
    });
  }

  /** A renewed token keeps its nodes alive longer. */
  #extend(token: VerifiedToken, rows: ReadonlyMap<string, NodeRow>): void {
    const ends: [string, EpochSeconds][] = token.segments.map(({ path, exp }) => [path, exp]);
    if (rows.get(token.grant)?.kind === "gate") ends.push([token.grant, token.exp]);
    for (const [path, exp] of ends) {
      const known = rows.get(path);
      if (known === undefined || known.liveUntilSeconds >= exp) continue;
      this.#context.db.update(t.nodes).set({ liveUntilSeconds: exp }).where(eq(t.nodes.path, path)).run();
    }
  }

  /** Folds nodes whose last token has expired into their parents, leaves first; those with a cap or a mark keep their row. */
  sweep(): void {
    const { db } = this.#context;
    const now = this.#context.now();
    this.#context.commit(() => {
      const seconds = Math.floor(now / 1000);
      const stale = db
        .select()
        .from(t.nodes)
        .where(
          and(
            lte(t.nodes.liveUntilSeconds, seconds),
            inArray(t.nodes.kind, ["narrowed", "gate"]),
            sql`${t.nodes.cap} is null`,
          ),
        )
        .orderBy(sql`length(${t.nodes.path}) desc`)
        .limit(500)
        .all();
      for (const { path } of stale) this.#fold(path as NodePath);
      const next = db
        .select({ at: min(t.nodes.liveUntilSeconds) })
        .from(t.nodes)
        .where(and(inArray(t.nodes.kind, ["narrowed", "gate"]), gt(t.nodes.liveUntilSeconds, seconds)))
        .get()?.at;
      const more = stale.length === 500 ? now : (next ?? null) === null ? null : ((next as number) + 1) * 1000;
      if (more !== null) this.#alarms.schedule("sweep", "", Math.max(now + SWEEP_PAUSE_MS, more) as EpochMs);
    });
  }

  #fold(path: NodePath): void {
    const { db } = this.#context;
    // Read now: a child that was folded a moment ago has added to it.
    const node = db.select().from(t.nodes).where(eq(t.nodes.path, path)).get() as NodeRow;
    const isUsed =
      db.select({ n: count() }).from(t.nodes).where(below(t.nodes.path, path)).get()?.n !== 0 ||
      db.select({ n: count() }).from(t.stops).where(eq(t.stops.path, path)).get()?.n !== 0 ||
      db.select({ n: count() }).from(t.connections).where(eq(t.connections.path, path)).get()?.n !== 0 ||
      db.select({ n: count() }).from(t.slices).where(eq(t.slices.path, path)).get()?.n !== 0 ||
      db
        .select({ id: t.holds.id })
        .from(t.holds)
        .leftJoin(t.outcomes, eq(t.outcomes.holdId, t.holds.id))
        .where(and(eq(t.holds.session, node.session), eq(t.holds.path, path), sql`${t.outcomes.holdId} is null`))
        .get() !== undefined;
    if (isUsed) return;
    const parent = db
      .select()
      .from(t.nodes)
      .where(eq(t.nodes.path, parentOf(path) as NodePath))
      .get();
    if (parent === undefined) return;
    db.update(t.nodes)
      .set(addSettled(parent, node.settled, node.settledDay, node.day))
      .where(eq(t.nodes.path, parent.path))
      .run();
    db.delete(t.nodes).where(eq(t.nodes.path, path)).run();
    this.forget([path]);
  }

  /** Nodes whose rows are gone leave memory with the commit. Call inside a decision. */
  forget(paths: readonly NodePath[]): void {
    this.#context.afterCommit(() => {
      for (const path of paths) {
        this.#book.forget(path);
        this.#rates.forget(path);
      }
    });
  }

  /** Rows whose path is at or below one; for views and stops. */
  nodesAtOrBelow(path: NodePath): NodeRow[] {
    return this.#context.db
      .select()
      .from(t.nodes)
      .where(atOrBelow(t.nodes.path, path))
      .orderBy(asc(t.nodes.path))
      .all();
  }
}

/** A row's totals with one more amount of a day in them. A later day replaces an earlier day's share. */
export function addSettled(
  row: { settled: number; day: number; settledDay: number },
  cost: number,
  costOfDay: number,
  day: number,
): { settled: number; day: number; settledDay: number } {
  const settled = row.settled + cost;
  if (day > row.day) return { settled, day, settledDay: costOfDay };
  return { settled, day: row.day, settledDay: row.settledDay + (day === row.day ? costOfDay : 0) };
}

/** The claims say no more than the row: the edge minted them from it. */
function isCovered(token: VerifiedToken, grant: GrantRow): boolean {
  const scope = new Set(grant.scope);
  for (const name of token.scope) if (!scope.has(name)) return false;
  if (
    grant.agents !== null &&
    (token.agents === null || ![...token.agents].every((slug) => grant.agents?.includes(slug)))
  )
    return false;
  return grant.actors.every((link, i) => token.actors[i]?.sub === link.sub && token.actors[i]?.proven === link.proven);
}
