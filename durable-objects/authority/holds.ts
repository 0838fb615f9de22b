/**
 * Hold rows: the most that a call may cost, what was charged to it on the way, and its one ending. A hold row is never
 * edited; money moves by new rows. Strict calls, streams and sockets have one, and the work of resource servers.
 */
import { and, eq, inArray, isNull, lte, min } from "drizzle-orm";
import { dayOf, decideHold, decideOutcome, leftOf, startOf, type HoldOutcome } from "../../core/budget/ledger.ts";
import type { Denial } from "../../core/denial.ts";
import { makeOwnedId, type EpochMs, type HoldId, type Micros, type NodePath } from "../../core/ids.ts";
import {
  ASK_LIFE_MS,
  CHARGES_HOLD_MAX,
  CLOCK_SKEW_SECONDS,
  HOLD_LIFE_DEFAULT_MS,
  STREAM_LIFE_MS,
} from "../../core/limits.ts";
import { err, ok, type Result } from "../../core/result.ts";
import type { HoldEnd, HoldQuestion, HoldView } from "../../core/wire/holds.ts";
import type * as answers from "../../core/wire/answers.ts";
import type * as questions from "../../core/wire/questions.ts";
import * as t from "../../drizzle/authority/schema.ts";
import type { Alarms } from "./alarms.ts";
import type { Audit } from "./audit.ts";
import type { BudgetBook } from "./budget-book.ts";
import type { Chargeable, Charging } from "./charging.ts";
import type { Context } from "./context.ts";
import { once } from "./idempotency.ts";
import type { Lines } from "./line.ts";
import type { Rates } from "./rates.ts";
import type { Refusals } from "./refusals.ts";
import type { Tallies } from "./tallies.ts";

export type HoldRow = typeof t.holds.$inferSelect;

const OUTCOME_KEPT_MS = 86_400_000;

export class Holds {
  readonly #context: Context;
  readonly #lines: Lines;
  readonly #book: BudgetBook;
  readonly #charging: Charging;
  readonly #rates: Rates;
  readonly #tallies: Tallies;
  readonly #audit: Audit;
  readonly #refusals: Refusals;
  readonly #alarms: Alarms;

  constructor(parts: {
    context: Context;
    lines: Lines;
    book: BudgetBook;
    charging: Charging;
    rates: Rates;
    tallies: Tallies;
    audit: Audit;
    refusals: Refusals;
    alarms: Alarms;
  }) {
    this.#context = parts.context;
    this.#lines = parts.lines;
    this.#book = parts.book;
    this.#charging = parts.charging;
    this.#rates = parts.rates;
    this.#tallies = parts.tallies;
    this.#audit = parts.audit;
    this.#refusals = parts.refusals;
    this.#alarms = parts.alarms;
  }

  /** A hold row for this call alone. Call inside a decision. */
  open(
    question: questions.AdmitQuestion,
    line: Chargeable,
    now: EpochMs,
  ): Result<Omit<answers.Admission, "remaining">, Denial> {
    const { token, callId, slug, instance, level, kind, cost: amount } = question;
    const rate = this.#rates.charge(line.charge, 1, now);
    if (!rate.ok) return rate;
    const id = makeOwnedId("hld", this.#context.user, this.#context.random, this.#context.idMac);
    const envelopeEnds = (Math.min(question.askedAt, now + CLOCK_SKEW_SECONDS * 1000) + ASK_LIFE_MS) as EpochMs;
    const deadline = (now + (kind === "stream" ? STREAM_LIFE_MS : HOLD_LIFE_DEFAULT_MS)) as EpochMs;
    const { node: path, session } = token;
    const { day } = line.place;
    this.#context.db
      .insert(t.holds)
      .values({
        id,
        path,
        session,
        callId,
        slug,
        instance,
        level,
        kind,
        amount,
        day,
        admittedAt: now,
        envelopeEnds,
        deadline,
      })
      .run();
    this.#alarms.schedule("holds", "", deadline);
    if (level === "sensitive")
      this.#audit.append("call.admitted", session, { id, node: path, slug, instance, cost: amount }, now);
    this.#context.afterCommit(() => this.#book.move(line.place, { held: amount }));
    return ok({ hold: id, slice: null, rate: rate.value, held: amount, expires: envelopeEnds });
  }

  /** A hold for a resource server: the same decision, for a token that was exchanged for its audience. */
  holdFor({ token, audience, cost, ttlSeconds, idempotency }: HoldQuestion): Result<HoldView, Denial> {
    return this.#context.decide(() => {
      const now = this.#context.now();
      this.#book.today(now);
      return once<HoldView>(this.#context, idempotency, now, () => {
        const live = this.#lines.requireLive(token, now, audience);
        if (!live.ok) return live;
        const line = this.#charging.line(token.node, audience, live.value, now);
        const room = decideHold(line.levels, cost, this.#charging.earliestEnd(now), now);
        if (!room.ok) return room;
        const rate = this.#rates.charge(line.charge, 1, now);
        if (!rate.ok) return rate;
        const id = makeOwnedId("hld", this.#context.user, this.#context.random, this.#context.idMac);
        const expires = (now + ttlSeconds * 1_000) as EpochMs;
        const { path, day } = line.place;
        const facts = { slug: audience, instance: "", level: "strict", kind: "http" } as const;
        // No agent of ours serves it: there is no envelope, and its own id is its call's.
        const times = { admittedAt: now, envelopeEnds: now, deadline: expires };
        const row = { id, path, session: token.session, callId: id, ...facts, amount: cost, day, ...times };
        this.#context.db.insert(t.holds).values(row).run();
        this.#alarms.schedule("holds", "", expires);
        this.#context.afterCommit(() => this.#book.move(line.place, { held: cost }));
        return ok({ hold: id, held: cost, remaining: room.value, expires });
      });
    });
  }

  /** Ends what `holdFor` made, for the audience that it made it for. */
  endFor({ hold, audience }: HoldEnd, outcome: "settled" | "voided", cost: Micros): Result<answers.Settled, Denial> {
    const row = this.#find({ hold, callId: hold });
    if (row === undefined || row.slug !== audience) return err({ reason: "hold_mismatch", fault: "unknown" });
    const ended = this.#end({ hold, callId: hold, cost, failed: false }, outcome);
    if (!ended.ok && ended.denial.reason === "hold_mismatch") this.#refusals.note(hold, ended.denial.fault);
    return ended;
  }

  settle(question: questions.SettleQuestion): Result<answers.Settled, Denial> {
    const settled = this.#end(question, "settled");
    if (!settled.ok && settled.denial.reason === "hold_mismatch" && settled.denial.fault === "too_much")
      this.#refusals.note(question.hold ?? question.callId, "too_much");
    return settled;
  }

  void(question: { hold: HoldId | null; callId: string }): Result<answers.Settled, Denial> {
    return this.#end({ ...question, cost: 0 as Micros, failed: true }, "voided");
  }

  #end(
    question: { hold: HoldId | null; callId: string; cost: Micros | null; failed: boolean },
    outcome: HoldOutcome,
  ): Result<answers.Settled, Denial> {
    return this.#context.decide<answers.Settled>(() => {
      const now = this.#context.now();
      this.#book.today(now);
      const { db } = this.#context;
      const hold = this.#find(question);
      if (hold === undefined) return err({ reason: "hold_mismatch", fault: "unknown" });
      const { charged, amount } = this.#chargesOf(hold);
      // What was charged on the way is spent: an end that names nothing more is an end at that.
      const actual =
        outcome === "settled" && charged > 0 ? (Math.max(charged, question.cost ?? 0) as Micros) : question.cost;
      const before = db.select().from(t.outcomes).where(eq(t.outcomes.holdId, hold.id)).get();
      if (before !== undefined && before.outcome === outcome && before.cost === (actual ?? amount))
        return ok({ cost: before.cost as Micros, repeated: true });
      const cost = decideOutcome({ amount, outcome: before?.outcome ?? null }, outcome, actual);
      if (!cost.ok) return cost;
      if (outcome === "voided" && charged > 0) return err({ reason: "hold_mismatch", fault: "settled" });
      this.#post(hold, outcome, cost.value, question.failed, now);
      return ok({ cost: cost.value, repeated: false });
    });
  }

  /** By its own id, or by its call's where a report made it; both must be the call's. */
  #find({ hold, callId }: { hold: HoldId | null; callId: string }): HoldRow | undefined {
    const row = this.#context.db.select().from(t.holds).where(eq(t.holds.callId, callId)).get();
    return row !== undefined && (hold === null || row.id === hold) ? row : undefined;
  }

  #chargesOf(hold: HoldRow): { charged: Micros; amount: Micros; count: number } {
    const rows = this.#context.db.select().from(t.charges).where(eq(t.charges.holdId, hold.id)).all();
    const charged = rows.reduce((sum, { micros }) => sum + micros, 0) as Micros;
    const amount = rows.reduce((sum, { enlarged }) => sum + enlarged, hold.amount) as Micros;
    return { charged, amount, count: rows.length };
  }

  /** Adds to an open call's cost; what is more than held enlarges the hold first, or is refused and the hold stands. */
  charge({ hold: id, callId, id: chargeId, micros }: questions.ChargeQuestion): Result<answers.Charged, Denial> {
    const charged = this.#context.decide<answers.Charged>(() => {
      const now = this.#context.now();
      this.#book.today(now);
      const { db } = this.#context;
      const hold = this.#find({ hold: id, callId });
      if (hold === undefined) return err({ reason: "hold_mismatch", fault: "unknown" });
      const ended = db.select().from(t.outcomes).where(eq(t.outcomes.holdId, hold.id)).get();
      if (ended !== undefined) return err({ reason: "hold_mismatch", fault: ended.outcome });
      const live = this.#lines.requireLivePath(hold.path as NodePath, now);
      if (!live.ok) return live;
      const line = this.#charging.line(hold.path as NodePath, hold.slug, live.value, now);
      const known = db
        .select()
        .from(t.charges)
        .where(and(eq(t.charges.holdId, hold.id), eq(t.charges.id, chargeId)))
        .get();
      const before = this.#chargesOf(hold);
      const remaining = leftOf(line.levels)?.micros ?? null;
      if (known !== undefined)
        return known.micros === micros
          ? ok({ charged: before.charged, held: before.amount, remaining })
          : err({ reason: "idempotency_conflict" });
      if (before.count >= CHARGES_HOLD_MAX)
        return err({ reason: "quota_reached", what: "charges", limit: CHARGES_HOLD_MAX });
      const total = before.charged + micros;
      const enlarged = Math.max(0, total - before.amount) as Micros;
      const room =
        enlarged === 0 ? ok(remaining) : decideHold(line.levels, enlarged, this.#charging.earliestEnd(now), now);
      if (!room.ok) return room;
      // What enlarges a hold counts in the day in which it was granted, whenever its call began; no day is counted back.
      const at = Math.max(now, startOf(line.place.day));
      db.insert(t.charges).values({ holdId: hold.id, id: chargeId, micros, enlarged, at }).run();
      this.#context.afterCommit(() => this.#book.move(line.place, { held: enlarged }));
      return ok({ charged: total as Micros, held: (before.amount + enlarged) as Micros, remaining: room.value });
    });
    if (!charged.ok && charged.denial.reason !== "idempotency_conflict") this.#refusals.note(id, charged.denial.reason);
    return charged;
  }

  /** The hold's one ending, with everything that follows from it. Call inside a decision. */
  #post(hold: HoldRow, outcome: HoldOutcome, cost: Micros, failed: boolean, now: EpochMs): void {
    const path = hold.path as NodePath;
    const agent = this.#charging.agentOf(hold.session);
    this.#context.db.insert(t.outcomes).values({ holdId: hold.id, outcome, cost, at: now }).run();
    let left = cost as number;
    for (const { day, amount } of this.#partsOf(hold)) {
      const settled = Math.min(left, amount);
      left -= settled;
      this.#charging.addCost(path, settled, day);
      this.#context.afterCommit(() => this.#book.move({ path, agent, day }, { held: -amount, settled }));
    }
    if (outcome !== "voided") this.#count(hold, cost, failed, now);
    if (outcome === "expired")
      this.#audit.append("hold.expired", hold.session, { hold: hold.id, node: path, cost }, now);
  }

  /** What is set aside for a hold, by the day in which it was granted, the first one first. */
  #partsOf(hold: HoldRow): { day: number; amount: number }[] {
    const parts = new Map([[hold.day, hold.amount]]);
    const charges = this.#context.db.select().from(t.charges).where(eq(t.charges.holdId, hold.id)).all();
    for (const { at, enlarged } of charges) {
      const day = Math.max(hold.day, dayOf(at as EpochMs));
      if (enlarged > 0) parts.set(day, (parts.get(day) ?? 0) + enlarged);
    }
    return [...parts].map(([day, amount]) => ({ day, amount })).sort((a, b) => a.day - b.day);
  }

  /** One invocation: into its minute where calls are counted, else a row of its own. Sockets are told of at their close. */
  #count(hold: HoldRow, cost: number, failed: boolean, now: EpochMs): void {
    if (hold.kind === "socket") return;
    const { session, slug, instance, kind, level, id } = hold;
    const path = hold.path as NodePath;
    const facts = { slug, instance, calls: 1, errors: failed ? 1 : 0, cost };
    const firstAt = hold.admittedAt as EpochMs;
    if (kind === "http" && level === "counted")
      return this.#tallies.add({ ...facts, path, session, firstAt, lastAt: now }, now);
    const body = { ...facts, node: path, firstAt, lastAt: now, id, callKind: kind, level };
    this.#audit.append("call.settled", session, body, now);
  }

  /** Charges in full what was never settled, and forgets outcomes that no retry can ask for. The alarm's work. */
  expireHolds(): void {
    const now = this.#context.now();
    this.#context.commit(() => {
      this.#book.today(now);
      const { db } = this.#context;
      const open = db.select({ hold: t.holds }).from(t.holds).leftJoin(t.outcomes, eq(t.outcomes.holdId, t.holds.id));
      const late = open
        .where(and(lte(t.holds.deadline, now), isNull(t.outcomes.holdId)))
        .limit(500)
        .all();
      for (const { hold } of late) this.#post(hold, "expired", this.#chargesOf(hold).amount, true, now);
      this.#forgetOutcomes(now);
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

  #forgetOutcomes(now: EpochMs): void {
    const { db } = this.#context;
    const old = lte(t.outcomes.at, now - OUTCOME_KEPT_MS);
    const ids = db.select({ id: t.outcomes.holdId }).from(t.outcomes).where(old).limit(1_000).all();
    for (let i = 0; i < ids.length; i += 50) {
      const batch = ids.slice(i, i + 50).map(({ id }) => id);
      db.delete(t.charges).where(inArray(t.charges.holdId, batch)).run();
      db.delete(t.outcomes).where(inArray(t.outcomes.holdId, batch)).run();
      db.delete(t.holds).where(inArray(t.holds.id, batch)).run();
    }
  }
}
