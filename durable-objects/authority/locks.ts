/**
 * Locks, for stopping by name across users. A lock on a user is a row in that user's object; one on an agent is a row in
 * its owner's, which raises the agent's stop count and pushes it to everyone noted there. What runs ends with the lock,
 * and nothing starts under it. No edge asks anything for it: a start asks these objects anyway.
 */
import { eq } from "drizzle-orm";
import type { Denial } from "../../core/denial.ts";
import { isAgentId, type AgentId, type EpochMs, type UserId } from "../../core/ids.ts";
import { err, ok, type Result } from "../../core/result.ts";
import type { LockReport, LockView } from "../../core/wire/answers.ts";
import type { LockOrder } from "../../core/wire/questions.ts";
import * as t from "../../drizzle/authority/schema.ts";
import type { Agents } from "./agents.ts";
import type { Audit } from "./audit.ts";
import type { Context } from "./context.ts";
import { lockOf, type LockRow } from "./lock-of.ts";
import { whoOf } from "./people.ts";
import type { Stopping } from "./stopping.ts";

export class Locks {
  readonly #context: Context;
  readonly #agents: Agents;
  readonly #stopping: Stopping;
  readonly #audit: Audit;

  constructor(parts: { context: Context; agents: Agents; stopping: Stopping; audit: Audit }) {
    this.#context = parts.context;
    this.#agents = parts.agents;
    this.#stopping = parts.stopping;
    this.#audit = parts.audit;
  }

  async lock({ target, until, by, wait }: LockOrder): Promise<Result<LockReport, Denial>> {
    if (until !== null && until <= this.#context.now())
      return err({ reason: "request_invalid", detail: '"until" lies in the past.' });
    const write = (now: EpochMs): void => {
      const row: LockRow = { target, reason: by.reason ?? "", byId: by.id, at: now, until };
      this.#context.db.insert(t.locks).values(row).onConflictDoUpdate({ target: t.locks.target, set: row }).run();
      this.#audit.append("lock.set", null, { ...whoOf(by), target, until }, now);
    };
    const stopped = isAgentId(target)
      ? await this.#stopping.stopAgent(target, by, false, wait, write)
      : await this.#stopping.stopUser(by, "user_stopped", wait, write);
    return stopped.ok ? ok({ ...this.#report(target), sessions: stopped.value.sessions }) : stopped;
  }

  unlock({ target, by }: Omit<LockOrder, "until" | "wait">): Result<LockReport, Denial> {
    return this.#context.decide(() => {
      const now = this.#context.now();
      const gone = this.#context.db.delete(t.locks).where(eq(t.locks.target, target)).returning().get();
      if (gone === undefined) return err({ reason: "not_found" });
      this.#audit.append("lock.lifted", null, { ...whoOf(by), target }, now);
      return ok(this.#report(target));
    });
  }

  report(target: string): Result<LockReport, Denial> {
    const isKnown = isAgentId(target)
      ? this.#agents.active(target) !== undefined
      : this.#context.db.select({ id: t.user.id }).from(t.user).get() !== undefined;
    return isKnown ? ok(this.#report(target)) : err({ reason: "not_found" });
  }

  #report(target: string): LockReport {
    const row = lockOf(this.#context.db, target, this.#context.now());
    const users = isAgentId(target) ? this.#usersOf(target) : [];
    const isOpen = users.some(({ state }) => state === "pending");
    const isOpenHere = this.#stopping.hasPending(isAgentId(target) ? target : null);
    return {
      lock: row === undefined ? null : viewOf(row),
      state: isOpen || isOpenHere ? "pending" : "terminal",
      users,
      sessions: 0,
    };
  }

  /** Everyone for whom the agent has acted, and whether its last stop is over in their object. */
  #usersOf(id: AgentId): LockReport["users"] {
    const stopCount = this.#agents.active(id)?.stopCount ?? 0;
    return this.#context.db
      .select()
      .from(t.notedUsers)
      .where(eq(t.notedUsers.agentId, id))
      .all()
      .map(({ userId, toldStopCount }) => ({
        user: userId as UserId,
        state: toldStopCount >= stopCount ? ("told" as const) : ("pending" as const),
      }));
  }
}

function viewOf({ target, reason, byId, at, until }: LockRow): LockView {
  return { target, reason, by: byId, at: at as EpochMs, until: until as EpochMs | null };
}
