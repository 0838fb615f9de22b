/**
 * Admission and settlement of calls. In this version every call is asked: its hold is a row, its outcome another. The
 * decision is pure (core/budget/ledger.ts); check and write are one transaction; sums move after it.
 */
import { and, eq, isNull, lte, min, sql } from "drizzle-orm";
import { tierReaches } from "../../core/config.ts";
import { decideHold, decideOutcome, type HoldOutcome, type Level } from "../../core/budget/ledger.ts";
import type { Denial } from "../../core/denial.ts";
import { makeOwnedId, sessionOf, type EpochMs, type HoldId, type Micros, type NodePath } from "../../core/ids.ts";
import { ASK_LIFE_MS, CLOCK_SKEW_SECONDS, HOLD_LIFE_DEFAULT_MS, STREAM_LIFE_MS } from "../../core/limits.ts";
import { err, ok, type Result } from "../../core/result.ts";
import type { Admission, AdmitQuestion, BudgetView, SettleQuestion, Settled } from "../../core/wire/rpc.ts";
import type { VerifiedToken } from "../../core/token/verify.ts";
import * as t from "../../drizzle/authority/schema.ts";
import type { Alarms } from "./alarms.ts";
import type { Audit } from "./audit.ts";
import type { BudgetBook } from "./budget-book.ts";
import type { Context } from "./context.ts";
import { addSettled, type Lines, type LiveLine } from "./line.ts";

type HoldRow = typeof t.holds.$inferSelect;

const TALLY_DELAY_MS = 5_000; // after its minute: calls of the last seconds settle by then
const OUTCOME_KEPT_MS = 86_400_000;

export class Calls {
  readonly #context: Context;
  readonly #lines: Lines;
  readonly #book: BudgetBook;
  readonly #audit: Audit;
  readonly #alarms: Alarms;

  constructor(parts: { context: Context; lines: Lines; book: BudgetBook; audit: Audit; alarms: Alarms }) {
    this.#context = parts.context;
    this.#lines = parts.lines;
    this.#book = parts.book;
    this.#audit = parts.audit;
    this.#alarms = parts.alarms;
  }

  admit(question: AdmitQuestion): Result<Admission, Denial> {
    return this.#context.decide(() => {
      const now = this.#context.now();
      const day = this.#book.today(now);
      const { token, cost, callId, kind, level, slug, instance } = question;
      const live = this.#lines.requireLive(token, now);
      if (!live.ok) return live;
      if (!tierReaches(live.value.person.tier, question.requiredTier))
        return err({ reason: "tier_too_low", required: question.requiredTier, tier: live.value.person.tier });
      const { db } = this.#context;
      const levels = this.levels(token.node, live.value, now);
      const asked = db.select().from(t.holds).where(eq(t.holds.callId, callId)).get();
      if (asked !== undefined) return this.#again(asked, question, levels);
      const remaining = decideHold(levels, cost, (now + ASK_LIFE_MS) as EpochMs, now);
      if (!remaining.ok) return remaining;
      const id = makeOwnedId("hld", this.#context.user, this.#context.random, this.#context.idMac);
      const envelopeEnds = (Math.min(question.askedAt, now + CLOCK_SKEW_SECONDS * 1000) + ASK_LIFE_MS) as EpochMs;
      const deadline = (now + (kind === "stream" ? STREAM_LIFE_MS : HOLD_LIFE_DEFAULT_MS)) as EpochMs;
      db.insert(t.holds)
        .values({
          id,
          path: token.node,
          session: token.session,
          callId,
          slug,
          instance,
          level,
          kind,
          amount: cost,
          day,
          admittedAt: now,
          envelopeEnds,
          deadline,
        })
        .run();
      this.#alarms.schedule("holds", "", deadline);
      if (live.value.session.slug === null) this.#firstUse(question, now);
      if (level === "sensitive")
        this.#audit.append("call.admitted", token.session, { id, node: token.node, slug, instance, cost }, now);
      this.#context.afterCommit(() =>
        this.#book.move({ path: token.node, agent: live.value.agent?.id ?? null, day }, { held: cost, settled: 0 }),
      );
      return ok({ hold: id, held: cost, remaining: remaining.value, expires: envelopeEnds });
    });
  }

  /** The same call asked twice (a stub that retried on its own) is told what it was told. */
  #again(hold: HoldRow, { token, cost }: AdmitQuestion, levels: readonly Level[]): Result<Admission, Denial> {
    if (hold.path !== token.node || hold.amount !== cost) return err({ reason: "idempotency_conflict" });
    return ok({
      hold: hold.id as HoldId,
      held: cost,
      remaining: remainingOf(levels),
      expires: hold.envelopeEnds as EpochMs,
    });
  }

  /** The tree of caps over a live node. */
  levels(path: NodePath, live: LiveLine, now: EpochMs): Level[] {
    return this.#book.levels(path, live.agent, live.caps, now);
  }

  budgetOf(path: NodePath, live: LiveLine, now: EpochMs): BudgetView {
    const levels = this.levels(path, live, now);
    const own = levels.at(-1) as Level;
    return { cap: own.cap, settled: own.settled, held: own.held, remaining: remainingOf(levels) };
  }

  leash(token: VerifiedToken): Result<{ live: LiveLine; budget: BudgetView }, Denial> {
    return this.#context.decide(() => {
      const now = this.#context.now();
      this.#book.today(now);
      const live = this.#lines.requireLive(token, now);
      return live.ok ? ok({ live: live.value, budget: this.budgetOf(token.node, live.value, now) }) : live;
    });
  }

  settle(question: SettleQuestion): Result<Settled, Denial> {
    const settled = this.#end(question, "settled");
    if (!settled.ok && settled.denial.reason === "hold_mismatch" && settled.denial.fault === "too_much") {
      const { fault } = settled.denial;
      this.#context.commit(() =>
        this.#audit.append("hold.refused", null, { hold: question.hold, fault }, this.#context.now()),
      );
    }
    return settled;
  }

  void(question: { hold: HoldId; callId: string }): Result<Settled, Denial> {
    return this.#end({ ...question, cost: 0 as Micros, failed: true }, "voided");
  }

  #end(
    question: { hold: HoldId; callId: string; cost: Micros | null; failed: boolean },
    outcome: HoldOutcome,
  ): Result<Settled, Denial> {
    return this.#context.decide<Settled>(() => {
      const now = this.#context.now();
      this.#book.today(now);
      const { db } = this.#context;
      const hold = db.select().from(t.holds).where(eq(t.holds.id, question.hold)).get();
      if (hold === undefined || hold.callId !== question.callId)
        return err({ reason: "hold_mismatch", fault: "unknown" });
      const before = db.select().from(t.outcomes).where(eq(t.outcomes.holdId, hold.id)).get();
      if (before !== undefined && before.outcome === outcome && before.cost === (question.cost ?? hold.amount))
        return ok({ cost: before.cost as Micros, repeated: true });
      const cost = decideOutcome(
        { amount: hold.amount as Micros, outcome: before?.outcome ?? null },
        outcome,
        question.cost,
      );
      if (!cost.ok) return cost;
      this.#post(hold, outcome, cost.value, question.failed, now);
      return ok({ cost: cost.value, repeated: false });
    });
  }

  /** The hold's one ending, with everything that follows from it. Call inside a decision. */
  #post(hold: HoldRow, outcome: HoldOutcome, cost: Micros, failed: boolean, now: EpochMs): void {
    const { db } = this.#context;
    const path = hold.path as NodePath;
    db.insert(t.outcomes).values({ holdId: hold.id, outcome, cost, at: now }).run();
    this.addCost(path, cost, hold.day);
    if (outcome !== "voided") this.#count(hold, cost, failed, now);
    if (outcome === "expired")
      this.#audit.append("hold.expired", hold.session, { hold: hold.id, node: path, cost }, now);
    const agent = this.#agentOf(path);
    this.#context.afterCommit(() =>
      this.#book.move({ path, agent, day: hold.day }, { held: -hold.amount, settled: cost }),
    );
  }

  /** A node's own settled total, in the row. Call inside a decision; memory is moved by whoever calls. */
  addCost(path: NodePath, cost: number, day: number): void {
    if (cost === 0) return;
    const { db } = this.#context;
    const node = db.select().from(t.nodes).where(eq(t.nodes.path, path)).get();
    if (node !== undefined)
      db.update(t.nodes)
        .set(addSettled(node, cost, cost, day))
        .where(eq(t.nodes.path, path))
        .run();
  }

  #agentOf(path: NodePath): string | null {
    return (
      this.#context.db
        .select({ client: t.sessions.clientId })
        .from(t.sessions)
        .where(eq(t.sessions.id, sessionOf(path)))
        .get()?.client ?? null
    );
  }

  #firstUse({ token, slug, instance }: AdmitQuestion, now: EpochMs): void {
    this.#context.db.update(t.sessions).set({ slug, instance }).where(eq(t.sessions.id, token.session)).run();
    this.#audit.append("session.used", token.session, { slug, instance }, now);
  }

  /** One invocation: into its minute where calls are counted, else a row of its own. Sockets are told of at their close. */
  #count(hold: HoldRow, cost: number, failed: boolean, now: EpochMs): void {
    if (hold.kind === "socket") return;
    const { path, session, slug, instance } = hold;
    const facts = {
      node: path,
      slug,
      instance,
      calls: 1,
      errors: failed ? 1 : 0,
      cost,
      firstAt: hold.admittedAt,
      lastAt: now,
    };
    if (hold.kind === "stream" || hold.level !== "counted") {
      this.#audit.append("call.settled", session, { ...facts, id: hold.id, kind: hold.kind, level: hold.level }, now);
      return;
    }
    const minute = Math.floor(hold.admittedAt / 60_000);
    const table = t.tallies;
    this.#context.db
      .insert(table)
      .values({
        path,
        slug,
        instance,
        minute,
        session,
        calls: 1,
        errors: facts.errors,
        cost,
        firstAt: facts.firstAt,
        lastAt: now,
      })
      .onConflictDoUpdate({
        target: [table.path, table.slug, table.instance, table.minute],
        set: {
          calls: sql`${table.calls} + 1`,
          errors: sql`${table.errors} + ${facts.errors}`,
          cost: sql`${table.cost} + ${cost}`,
          lastAt: now,
        },
      })
      .run();
    this.#alarms.schedule("tallies", "", (Math.max(now, (minute + 1) * 60_000) + TALLY_DELAY_MS) as EpochMs);
  }

  /** Reports minutes that are over, or every minute of one session when it ends. Call inside a decision. */
  reportTallies(session: string | null, now: EpochMs): void {
    const { db } = this.#context;
    const over = Math.floor((now - TALLY_DELAY_MS) / 60_000) - 1;
    const rows = db
      .select()
      .from(t.tallies)
      .where(session === null ? lte(t.tallies.minute, over) : eq(t.tallies.session, session))
      .limit(500)
      .all();
    for (const { path, slug, instance, minute, calls, errors, cost, firstAt, lastAt, session: id } of rows) {
      this.#audit.append(
        "calls.counted",
        id,
        { node: path, slug, instance, minute, calls, errors, cost, firstAt, lastAt },
        now,
      );
      db.delete(t.tallies)
        .where(
          and(
            eq(t.tallies.path, path),
            eq(t.tallies.slug, slug),
            eq(t.tallies.instance, instance),
            eq(t.tallies.minute, minute),
          ),
        )
        .run();
    }
    const next =
      db
        .select({ minute: min(t.tallies.minute) })
        .from(t.tallies)
        .get()?.minute ?? null;
    if (next !== null)
      this.#alarms.schedule("tallies", "", Math.max(now + 100, (next + 1) * 60_000 + TALLY_DELAY_MS) as EpochMs);
  }

  /** Charges in full what was never settled, and forgets outcomes that no retry can ask for. The alarm's work. */
  expireHolds(): void {
    const now = this.#context.now();
    this.#context.commit(() => {
      this.#book.today(now);
      const { db } = this.#context;
      const open = and(lte(t.holds.deadline, now), isNull(t.outcomes.holdId));
      const late = db
        .select({ hold: t.holds })
        .from(t.holds)
        .leftJoin(t.outcomes, eq(t.outcomes.holdId, t.holds.id))
        .where(open)
        .limit(500)
        .all();
      for (const { hold } of late) this.#post(hold, "expired", hold.amount as Micros, true, now);
      const old = db
        .select({ id: t.outcomes.holdId })
        .from(t.outcomes)
        .where(lte(t.outcomes.at, now - OUTCOME_KEPT_MS))
        .limit(1_000)
        .all();
      for (const { id } of old) {
        db.delete(t.outcomes).where(eq(t.outcomes.holdId, id)).run();
        db.delete(t.holds).where(eq(t.holds.id, id)).run();
      }
      const next =
        db
          .select({ at: min(t.holds.deadline) })
          .from(t.holds)
          .leftJoin(t.outcomes, eq(t.outcomes.holdId, t.holds.id))
          .where(isNull(t.outcomes.holdId))
          .get()?.at ?? null;
      const purge =
        db
          .select({ at: min(t.outcomes.at) })
          .from(t.outcomes)
          .get()?.at ?? null;
      const times = [next, purge === null ? null : purge + OUTCOME_KEPT_MS].filter((at) => at !== null);
      if (times.length > 0) this.#alarms.schedule("holds", "", Math.max(now + 1_000, Math.min(...times)) as EpochMs);
    });
  }
}

function remainingOf(levels: readonly Level[]): Micros | null {
  const left = levels.flatMap(({ cap, settled, held }) => (cap === null ? [] : [Math.max(0, cap - settled - held)]));
  return left.length === 0 ? null : (Math.min(...left) as Micros);
}
