/**
 * One-use tickets: half a minute of a token's right to open one socket, or to renew one that is open. The object keeps a
 * digest and the verified token without its bytes, so that nothing in storage opens anything. The first use takes the
 * row, whatever comes of it; whoever comes second finds what an invented ticket finds.
 */
import { eq, lte, sql } from "drizzle-orm";
import type { Denial } from "../../core/denial.ts";
import { depthOf, isAtOrBelow, lineOf, type EpochMs, type NodePath } from "../../core/ids.ts";
import { TICKET_LIFE_MS, TICKETS_NODE_MAX, TICKETS_SESSION_MAX, TICKETS_USER_MAX } from "../../core/limits.ts";
import { err, ok, type Result } from "../../core/result.ts";
import type { VerifiedToken } from "../../core/token/verify.ts";
import type { TicketQuestion, TicketUse } from "../../core/wire/questions.ts";
import * as t from "../../drizzle/authority/schema.ts";
import type { Context } from "./context.ts";
import type { Lines } from "./line.ts";

type TicketRow = typeof t.tickets.$inferSelect;
type Kept = Omit<VerifiedToken, "scope" | "agents"> & { scope: string[]; agents: string[] | null };

const INVALID: Result<never, Denial> = err({ reason: "ticket_invalid" });

export class Tickets {
  readonly #context: Context;
  readonly #lines: Lines;

  constructor(context: Context, lines: Lines) {
    this.#context = context;
    this.#lines = lines;
  }

  buy({ token, digest, target, origin, connection }: TicketQuestion): Result<{ expires: EpochMs }, Denial> {
    return this.#context.decide(() => {
      const now = this.#context.now();
      const live = this.#lines.requireLive(token, now);
      if (!live.ok) return live;
      const { db } = this.#context;
      db.delete(t.tickets).where(lte(t.tickets.expiresAt, now)).run();
      const room = this.#requireRoom(token.node);
      if (!room.ok) return room;
      const expires = Math.min(now + TICKET_LIFE_MS, token.exp * 1000) as EpochMs;
      const kept: Kept = {
        ...token,
        scope: [...token.scope],
        agents: token.agents === null ? null : [...token.agents],
      };
      db.insert(t.tickets).values({ digest, target, origin, connection, token: kept, expiresAt: expires }).run();
      return ok({ expires });
    });
  }

  /** @param connection that is renewed by it; null where it opens one */
  redeem({ digest, target, origin }: TicketUse, connection: string | null = null): Result<VerifiedToken, Denial> {
    const row = this.#take(digest);
    const now = this.#context.now();
    if (row === undefined || row.expiresAt <= now || row.target !== target || row.connection !== connection)
      return INVALID;
    // A renewal comes over the socket itself, whose page was compared when it opened.
    if (connection === null && row.origin !== null && row.origin !== origin)
      return err({ reason: "origin_forbidden", origin });
    const kept = row.token as Kept;
    const token: VerifiedToken = {
      ...kept,
      scope: new Set(kept.scope),
      agents: kept.agents === null ? null : new Set(kept.agents),
    };
    if (token.exp * 1000 <= now) return INVALID;
    return this.#context.decide(() => {
      const live = this.#lines.requireLive(token, now);
      return live.ok ? ok(token) : live;
    });
  }

  /** Tickets that wait to be used are bounded for the user, for each session, and below every node that was handed on. */
  #requireRoom(node: NodePath): Result<null, Denial> {
    const full = (limit: number) => err({ reason: "quota_reached" as const, what: "tickets" as const, limit });
    const at = sql<NodePath>`json_extract(${t.tickets.token}, '$.node')`;
    const open = this.#context.db.select({ at }).from(t.tickets).all();
    if (open.length >= TICKETS_USER_MAX) return full(TICKETS_USER_MAX);
    for (const path of lineOf(node)) {
      const limit = depthOf(path) === 0 ? TICKETS_SESSION_MAX : TICKETS_NODE_MAX;
      if (open.filter((ticket) => isAtOrBelow(ticket.at, path)).length >= limit) return full(limit);
    }
    return ok(null);
  }

  /** In a transaction of its own: what is decided about the use afterwards must not bring the ticket back. */
  #take(digest: string): TicketRow | undefined {
    let row: TicketRow | undefined;
    this.#context.commit(() => {
      row = this.#context.db.delete(t.tickets).where(eq(t.tickets.digest, digest)).returning().get();
    });
    return row;
  }
}
