/** What a person or an operator is shown of sessions: read from the rows, nothing decided. */
import { desc, eq, inArray } from "drizzle-orm";
import type { Denial } from "../../core/denial.ts";
import {
  lineOf,
  sessionOf,
  type AgentId,
  type EpochMs,
  type EpochSeconds,
  type Micros,
  type NodePath,
  type SessionId,
} from "../../core/ids.ts";
import { err, ok, type Result } from "../../core/result.ts";
import { scopeOfContent } from "../../core/token/block.ts";
import type { BudgetView, NodeView, SessionDetail, SessionView } from "../../core/wire/answers.ts";
import * as t from "../../drizzle/authority/schema.ts";
import type { BudgetBook } from "./budget-book.ts";
import type { Connections } from "./connections.ts";
import type { Context } from "./context.ts";
import type { Lines, NodeRow, SessionRow } from "./line.ts";
import type { Stopping } from "./stopping.ts";

const LIST_ROWS_MAX = 200;

export class Views {
  readonly #context: Context;
  readonly #lines: Lines;
  readonly #connections: Connections;
  readonly #stopping: Stopping;
  readonly #book: BudgetBook;

  constructor(parts: {
    context: Context;
    lines: Lines;
    connections: Connections;
    stopping: Stopping;
    book: BudgetBook;
  }) {
    this.#context = parts.context;
    this.#lines = parts.lines;
    this.#connections = parts.connections;
    this.#stopping = parts.stopping;
    this.#book = parts.book;
  }

  /** The newest sessions, open and ended. */
  list(): readonly SessionView[] {
    return this.#context.db
      .select()
      .from(t.sessions)
      .orderBy(desc(t.sessions.openedAt))
      .limit(LIST_ROWS_MAX)
      .all()
      .map((row) => this.#session(row));
  }

  /** A session as it looks from one of its nodes: that node and what lies below. */
  inspect(path: NodePath): Result<SessionDetail, Denial> {
    const row = this.#context.db
      .select()
      .from(t.sessions)
      .where(eq(t.sessions.id, sessionOf(path)))
      .get();
    const nodes = this.#lines.nodesAtOrBelow(path);
    if (row === undefined || (nodes.length === 0 && path !== row.id)) return err({ reason: "not_found" });
    const stop = this.#stopping.stopOf(path);
    return ok({
      ...this.#session(row, path),
      tree: nodes.map((node) => this.node(node)),
      stop: stop === undefined ? null : this.#stopping.report(stop, path),
    });
  }

  node(row: NodeRow): NodeView {
    const path = row.path as NodePath;
    const grant = this.#context.db.select().from(t.grants).where(eq(t.grants.path, path)).get();
    const stop = this.#stopping.stopOf(path);
    return {
      path,
      kind: row.kind,
      clientId: grant?.clientId ?? null,
      scope: grant?.scope ?? null,
      expires: (grant?.expiresSeconds ?? row.liveUntilSeconds) as EpochSeconds,
      endedAt: (stop?.at ?? null) as EpochMs | null,
      endReason: stop?.why ?? null,
      budget: this.#budget(path, row.cap as Micros | null),
    };
  }

  #budget(path: string, cap: Micros | null): BudgetView {
    const { settled, held } = this.#book.of(path);
    return { cap, settled, held, remaining: cap === null ? null : (Math.max(0, cap - settled - held) as Micros) };
  }

  /** What a chain may do at a node: its grant's scope, less what was taken away on the way down from it. */
  #scopeOf(path: NodePath): readonly string[] {
    let scope = this.#lines.grantOf(path)?.scope ?? [];
    const narrowed = this.#context.db
      .select({ content: t.nodes.content })
      .from(t.nodes)
      .where(inArray(t.nodes.path, lineOf(path)))
      .all();
    for (const { content } of narrowed) {
      const kept = content === null ? null : scopeOfContent(content);
      if (kept !== null) scope = scope.filter((name) => kept.includes(name));
    }
    return scope;
  }

  /** Nothing of what lies above `path` is told: whoever was handed less sees no more of the session than that. */
  #session(row: SessionRow, path = row.id as NodePath): SessionView {
    const stop = row.endedAt === null ? undefined : this.#stopping.stopOf(path);
    const nodes = this.#lines.nodesAtOrBelow(path);
    const root = nodes.find((node) => node.path === path);
    return {
      id: row.id as SessionId,
      kind: row.kind,
      userId: this.#context.user,
      clientId: row.clientId as AgentId | null,
      scope: this.#scopeOf(path),
      openedAt: row.openedAt as EpochMs,
      expires: row.expiresSeconds as EpochSeconds,
      endedAt: row.endedAt as EpochMs | null,
      endReason: stop?.why ?? null,
      endedBy: stop?.byId ?? null,
      budget: this.#budget(path, (root?.cap ?? null) as Micros | null),
      connections: this.#connections.openBelow(path),
      nodes: nodes.length,
    };
  }
}
