/**
 * Ending things. The mark is durable first, and everything below it is dead with it: admission looks for marks along the
 * whole line. Then sockets are closed and the fence is waited for. What could not be reached is pending, and the alarm's.
 */
import { and, count, eq, gt, isNotNull, isNull, lte, max, min, ne } from "drizzle-orm";
import type { Denial, EndReason } from "../../core/denial.ts";
import { isAtOrBelow, sessionOf, type AgentId, type EpochMs, type NodePath } from "../../core/ids.ts";
import { ENVELOPE_SLACK_MS } from "../../core/limits.ts";
import { err, ok, type Result } from "../../core/result.ts";
import { closeCodeOf } from "../../core/wire/frames.ts";
import type { StopReport } from "../../core/wire/answers.ts";
import type { By, EndQuestion, Reach } from "../../core/wire/questions.ts";
import * as t from "../../drizzle/authority/schema.ts";
import type { Agents } from "./agents.ts";
import type { Alarms } from "./alarms.ts";
import type { Audit } from "./audit.ts";
import type { Ballast } from "./ballast.ts";
import type { BudgetBook } from "./budget-book.ts";
import type { Connections } from "./connections.ts";
import type { Context } from "./context.ts";
import type { Leases } from "./leases.ts";
import type { Tallies } from "./tallies.ts";
import { once, toldBefore } from "./idempotency.ts";
import { addSettled, atOrBelow, type Lines } from "./line.ts";
import { whoOf, type People } from "./people.ts";
import type { Plane, StopReports, StopRow } from "./stop-report.ts";

/** Told after the commit of a mark: control channels close at once. */
export type OnStop = (path: NodePath, why: EndReason, decision: number) => void;

const FOLD_DELAY_MS = 3_600_000; // an hour in which operators can still look at what a session did
const LEGATE: By = { kind: "legate", id: "legate", reason: null };

export class Stopping {
  readonly #context: Context;
  readonly #people: People;
  readonly #agents: Agents;
  readonly #lines: Lines;
  readonly #leases: Leases;
  readonly #tallies: Tallies;
  readonly #connections: Connections;
  readonly #book: BudgetBook;
  readonly #audit: Audit;
  readonly #alarms: Alarms;
  readonly #ballast: Ballast;
  readonly #reports: StopReports;
  readonly #onStop: OnStop[] = [];

  constructor(parts: {
    context: Context;
    people: People;
    agents: Agents;
    lines: Lines;
    leases: Leases;
    tallies: Tallies;
    connections: Connections;
    book: BudgetBook;
    audit: Audit;
    alarms: Alarms;
    ballast: Ballast;
    reports: StopReports;
  }) {
    this.#ballast = parts.ballast;
    this.#reports = parts.reports;
    this.#context = parts.context;
    this.#people = parts.people;
    this.#agents = parts.agents;
    this.#lines = parts.lines;
    this.#leases = parts.leases;
    this.#tallies = parts.tallies;
    this.#connections = parts.connections;
    this.#book = parts.book;
    this.#audit = parts.audit;
    this.#alarms = parts.alarms;
  }

  /** Credentials, and whatever else a session may leave behind. */
  addPlane(plane: Plane): void {
    this.#reports.addPlane(plane);
  }

  onStop(listener: OnStop): void {
    this.#onStop.push(listener);
  }

  /** After a restart: slices that were not reported count as granted now, so a fence that was open waits again. */
  wake(): void {
    const now = this.#context.now();
    const live = this.#leases.liveUntil(now);
    if (live === null) return;
    const open = this.#context.db.select().from(t.stops).where(gt(t.stops.fenceAt, now)).all();
    const fenceAt = live + ENVELOPE_SLACK_MS;
    const late = open.filter((stop) => stop.fenceAt < fenceAt && this.#leases.hasOpen(stop.path as NodePath));
    if (late.length === 0) return;
    this.#context.commit(() => {
      for (const { path } of late)
        this.#context.db.update(t.stops).set({ fenceAt }).where(eq(t.stops.path, path)).run();
    });
  }

  /** One act of stopping, in one transaction; it finds room where storage is full. */
  #stop<T>(decision: () => Result<T, Denial>): Result<T, Denial> {
    return this.#ballast.stop(() => this.#context.decide(decision));
  }

  /** Ends a session, a grant or a node, and answers with what came of it. Over already: `already_ended` with the report. */
  async end(question: EndQuestion): Promise<Result<StopReport, Denial>> {
    const { path, why, by } = question;
    const marked = this.#stop(() => {
      const now = this.#context.now();
      const reached = this.#requireReach(question.reach, path, now);
      if (!reached.ok) return toldBefore(this.#context, question.idempotency, now, reached.denial);
      return once(this.#context, question.idempotency, now, () => {
        const over = this.stopOf(path);
        if (over !== undefined) return err({ reason: "already_ended", report: this.report(over, path) });
        return this.#mark(path, why, by, now) === null ? err({ reason: "not_found" }) : ok(path);
      });
    });
    if (!marked.ok) return marked;
    await this.#finish([path], question.wait);
    return ok(this.report(this.stopOf(path) as StopRow, path));
  }

  /** Whoever asks may end, read or lower this path: a person theirs, an operator any, a token its own node and below. */
  #requireReach(reach: Reach, path: NodePath, now: EpochMs): Result<null, Denial> {
    if (reach.kind === "operator") return ok(null);
    if (reach.kind === "person") return this.#lines.requireCookie(reach.cookie, now);
    if (!isAtOrBelow(path, reach.token.node)) return err({ reason: "not_found" });
    const live = this.#lines.requireLive(reach.token, now);
    return live.ok ? ok(null) : live;
  }

  /** For other capabilities that read or lower on someone's behalf. Call inside a decision. */
  requireReach(reach: Reach, path: NodePath): Result<null, Denial> {
    return this.#requireReach(reach, path, this.#context.now());
  }

  /**
   * Ends every open session of the person.
   *
   * @param also what is written with it: a lock
   */
  async stopUser(
    by: By,
    why: "user_stopped" | "user_disabled",
    wait: boolean,
    also: (now: EpochMs) => void = () => {},
  ): Promise<Result<{ sessions: number }, Denial>> {
    const ended = this.#stop(() => {
      if (this.#people.row() === undefined) return err({ reason: "not_found" });
      const now = this.#context.now();
      if (why === "user_disabled") this.#people.markDisabled();
      const paths = this.#openSessions().filter((path) => this.#mark(path, why, by, now) !== null);
      also(now);
      if (why === "user_disabled") {
        this.#audit.append("user.disabled", null, { ...whoOf(by), sessions: paths.length }, now);
        // What the person's agents run for others ends too: their owner can no longer answer for them.
        for (const id of this.#agents.activeIds())
          this.#stopAgentHere(id, "agent_stopped", by, this.#agents.raiseStopCount(id, false, by) ?? 0, now);
      }
      return ok(paths);
    });
    if (!ended.ok) return ended;
    await this.#finish(ended.value, wait);
    if (why === "user_disabled")
      await Promise.all(
        this.#agents.activeIds().map((id) => (wait ? this.#agents.pushUntilOver(id) : this.#agents.pushAll(id))),
      );
    return ok({ sessions: ended.value.length });
  }

  /**
   * The owner's side: raises the count, ends what runs here, pushes to everyone noted.
   *
   * @param wait until it is over here and with everyone who can be reached; never longer than a fence may take
   */
  async stopAgent(
    id: AgentId,
    by: By,
    remove: boolean,
    wait = false,
    also: (now: EpochMs) => void = () => {},
  ): Promise<Result<{ pendingUsers: number; sessions: number }, Denial>> {
    const ended = this.#stop(() => {
      const now = this.#context.now();
      const stopCount = this.#agents.raiseStopCount(id, remove, by);
      if (stopCount === null) return err({ reason: "not_found" });
      also(now);
      return ok(this.#stopAgentHere(id, remove ? "agent_deleted" : "agent_stopped", by, stopCount, now));
    });
    if (!ended.ok) return ended;
    const [pendingUsers] = await Promise.all([
      wait ? this.#agents.pushUntilOver(id) : this.#agents.pushAll(id),
      this.#finish(ended.value, wait),
    ]);
    return ok({ pendingUsers, sessions: ended.value.length });
  }

  /** The other side: told by the agent's owner's object, and asked again until it is over. */
  async agentStopped(
    id: AgentId,
    stopCount: number,
    why: EndReason,
    by: By,
  ): Promise<Result<{ isOver: boolean }, Denial>> {
    const ended = this.#stop(() => {
      const now = this.#context.now();
      // Told before: what runs since was started at this count, by an agent that was let in again.
      if (this.#agents.told(id) >= stopCount) return ok([]);
      this.#agents.tell(id, stopCount, now);
      return ok(this.#stopAgentHere(id, why, by, stopCount, now));
    });
    if (!ended.ok) return ended;
    await this.#finish(ended.value, false);
    return ok({ isOver: !this.hasPending(id) });
  }

  /** Whether anything of an agent's, or of anyone's, that has ended here is not over. */
  hasPending(agent: AgentId | null): boolean {
    return this.#reports.hasPending(agent);
  }

  #stopAgentHere(id: AgentId, why: EndReason, by: By, stopCount: number, now: EpochMs): NodePath[] {
    const { db } = this.#context;
    const seconds = Math.floor(now / 1000);
    const own = db
      .select({ path: t.grants.path })
      .from(t.grants)
      .where(and(eq(t.grants.clientId, id), gt(t.grants.expiresSeconds, seconds)))
      .all();
    const paths = own
      .map(({ path }) => path as NodePath)
      .filter((path) => this.stopOf(path) === undefined && this.#mark(path, why, by, now) !== null);
    this.#audit.append("agent.stopped", null, { ...whoOf(by), agent: id, stopCount, nodes: paths.length }, now);
    return paths;
  }

  #openSessions(): NodePath[] {
    return this.#context.db
      .select({ id: t.sessions.id })
      .from(t.sessions)
      .where(isNull(t.sessions.endedAt))
      .all()
      .map(({ id }) => id as NodePath);
  }

  /** The mark that covers a path: its own, or the first one above it. */
  stopOf(path: NodePath): StopRow | undefined {
    return this.#reports.stopOf(path);
  }

  /** The durable mark, with all that is written beside it. Call inside a decision. @returns null where there is no such node */
  #mark(path: NodePath, why: EndReason, by: By, now: EpochMs): StopRow | null {
    const { db } = this.#context;
    const session = sessionOf(path);
    const isSession = path === (session as string);
    if (db.select({ path: t.nodes.path }).from(t.nodes).where(eq(t.nodes.path, path)).get() === undefined) return null;
    // What goes goes first: a full storage has room for the mark then.
    db.delete(t.tickets).where(lte(t.tickets.expiresAt, now)).run();
    this.#reports.drop(path, now);
    const objects = this.#connections.markBelow(path, closeCodeOf(why));
    const sockets = objects.reduce((total, { open }) => total + open, 0);
    const grants =
      db
        .select({ n: count() })
        .from(t.grants)
        .where(and(atOrBelow(t.grants.path, path), ne(t.grants.path, path)))
        .get()?.n ?? 0;
    if (isSession) this.#tallies.report(session, now);
    const kind = isSession ? "session.ended" : "grant.ended";
    const decision = this.#audit.append(kind, session, { ...whoOf(by), why, node: path, sockets, grants }, now);
    const stop: StopRow = {
      path,
      session,
      at: now,
      why,
      byKind: by.kind,
      byId: by.id,
      note: by.reason,
      fenceAt: this.#fence(path, now),
      sockets,
      grants,
      objects,
      decision,
    };
    db.update(t.nodes)
      .set({ reserved: null })
      .where(and(atOrBelow(t.nodes.path, path), isNotNull(t.nodes.reserved)))
      .run();
    this.#context.afterCommit(() => this.#book.release(path));
    db.insert(t.stops).values(stop).run();
    if (isSession) {
      db.update(t.sessions).set({ endedAt: now }).where(eq(t.sessions.id, session)).run();
      this.#alarms.schedule("fold", session, (now + FOLD_DELAY_MS) as EpochMs);
    }
    this.#context.afterCommit(() => this.#onStop.forEach((tell) => tell(path, why, decision)));
    return stop;
  }

  /**
   * The moment after which nothing below is admitted, and no envelope of it accepted: now, where no lease lives. A slice
   * that was not reported may be used until the object's timer of its term has fired, and an asked call counts as a live
   * lease until its envelope must have ended.
   */
  #fence(path: NodePath, now: EpochMs): EpochMs {
    const last = this.#context.db
      .select({ at: max(t.holds.envelopeEnds) })
      .from(t.holds)
      .leftJoin(t.outcomes, eq(t.outcomes.holdId, t.holds.id))
      .where(and(atOrBelow(t.holds.path, path), isNull(t.outcomes.holdId)))
      .get()?.at;
    const leased = this.#leases.hasOpen(path) ? (this.#leases.liveUntil(now) ?? now) + ENVELOPE_SLACK_MS : 0;
    return Math.max(now, last ?? 0, leased) as EpochMs;
  }

  /** After the commit: closes sockets, and where asked to waits for that and by timer for the fence. */
  async #finish(paths: readonly NodePath[], wait: boolean): Promise<void> {
    const closed = this.#connections.closeNow(); // never rejects; the alarm goes on with what is left
    if (!wait) return;
    await Promise.all([closed, this.#passFence(paths)]);
  }

  async #passFence(paths: readonly NodePath[]): Promise<void> {
    const last = Math.max(0, ...paths.map((path) => this.stopOf(path)?.fenceAt ?? 0));
    const left = last - this.#context.now();
    if (left > 0) await new Promise((resolve) => setTimeout(resolve, left));
  }

  /** The report of a path that has ended, by its own mark or one above it. */
  reportOf(path: NodePath): Result<StopReport, Denial> {
    const stop = this.stopOf(path);
    return stop === undefined ? err({ reason: "not_found" }) : ok(this.report(stop, path));
  }

  report(stop: StopRow, path: NodePath): StopReport {
    return this.#reports.report(stop, path);
  }

  /** The alarm's work: sessions whose time is over end like any other, and sockets whose window is. */
  expire(): void {
    this.#context.commit(() => {
      const now = this.#context.now();
      const { db } = this.#context;
      const late = db
        .select({ id: t.sessions.id })
        .from(t.sessions)
        .where(and(isNull(t.sessions.endedAt), lte(t.sessions.expiresSeconds, Math.floor(now / 1000))))
        .limit(200)
        .all();
      for (const { id } of late) this.#mark(id as NodePath, "expired", LEGATE, now);
      const nextSession =
        db
          .select({ at: min(t.sessions.expiresSeconds) })
          .from(t.sessions)
          .where(isNull(t.sessions.endedAt))
          .get()?.at ?? null;
      const times = [this.#connections.expire(now), nextSession === null ? null : nextSession * 1000].filter(
        (at) => at !== null,
      );
      if (times.length > 0) this.#alarms.schedule("expiry", "", Math.max(now + 100, Math.min(...times)) as EpochMs);
    });
  }

  /** Adds an ended session's amounts to its agent's or the person's row and lets go of its tree. */
  fold(session: string): void {
    this.#context.commit(() => {
      const now = this.#context.now();
      this.#book.today(now);
      const { db } = this.#context;
      const row = db.select().from(t.sessions).where(eq(t.sessions.id, session)).get();
      if (row === undefined || row.folded) return;
      const path = session as NodePath;
      if (
        this.report(this.stopOf(path) as StopRow, path).calls.running > 0 ||
        this.#leases.hasOpen(path) ||
        this.#connections.openBelow(path) > 0
      ) {
        return this.#alarms.schedule("fold", session, (now + FOLD_DELAY_MS) as EpochMs);
      }
      const table = row.clientId === null ? t.user : t.agents;
      const into =
        row.clientId === null
          ? db.select().from(t.user).get()
          : db.select().from(t.agents).where(eq(t.agents.id, row.clientId)).get();
      let totals = into ?? { settled: 0, day: 0, settledDay: 0 };
      const nodes = this.#lines.nodesAtOrBelow(path);
      for (const node of nodes) totals = { ...totals, ...addSettled(totals, node.settled, node.settledDay, node.day) };
      const { settled, day, settledDay } = totals;
      if (into !== undefined) db.update(table).set({ settled, day, settledDay }).where(eq(table.id, into.id)).run();
      db.delete(t.nodes).where(eq(t.nodes.session, session)).run();
      db.delete(t.grants).where(eq(t.grants.session, session)).run();
      db.update(t.sessions).set({ folded: true }).where(eq(t.sessions.id, session)).run();
      this.#lines.forget(nodes.map(({ path: at }) => at as NodePath));
    });
  }
}
