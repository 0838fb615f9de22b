/**
 * Admission of calls: a counted one with a slice for those that follow it, any other with a hold of its own. Check and
 * write are one transaction; the decision is pure (core/budget), and sums move after the commit.
 */
import { eq, sql } from "drizzle-orm";
import { decideHold, leftOf, type Level } from "../../core/budget/ledger.ts";
import { scopesWithin, tierReaches } from "../../core/config.ts";
import type { Denial } from "../../core/denial.ts";
import type { EpochMs, HoldId, Micros, NodePath } from "../../core/ids.ts";
import { CLOCK_SKEW_SECONDS, ENVELOPE_SLACK_MS } from "../../core/limits.ts";
import { err, ok, type Result } from "../../core/result.ts";
import type { VerifiedToken } from "../../core/token/verify.ts";
import type * as answers from "../../core/wire/answers.ts";
import type * as questions from "../../core/wire/questions.ts";
import * as t from "../../drizzle/authority/schema.ts";
import type { Audit } from "./audit.ts";
import type { BudgetBook } from "./budget-book.ts";
import type { Chargeable, Charging } from "./charging.ts";
import type { Context } from "./context.ts";
import type { HoldRow, Holds } from "./holds.ts";
import type { Leases } from "./leases.ts";
import type { Lines, LiveLine } from "./line.ts";
import type { Rates } from "./rates.ts";

export class Calls {
  readonly #context: Context;
  readonly #lines: Lines;
  readonly #book: BudgetBook;
  readonly #charging: Charging;
  readonly #rates: Rates;
  readonly #leases: Leases;
  readonly #holds: Holds;
  readonly #audit: Audit;
  readonly #asked: () => { get(call: { callId: string }): HoldRow | undefined };

  constructor(parts: {
    context: Context;
    lines: Lines;
    book: BudgetBook;
    charging: Charging;
    rates: Rates;
    leases: Leases;
    holds: Holds;
    audit: Audit;
  }) {
    this.#context = parts.context;
    this.#lines = parts.lines;
    this.#book = parts.book;
    this.#charging = parts.charging;
    this.#rates = parts.rates;
    this.#leases = parts.leases;
    this.#holds = parts.holds;
    this.#audit = parts.audit;
    const callId = sql.placeholder("callId");
    this.#asked = parts.context.prepared((db) => db.select().from(t.holds).where(eq(t.holds.callId, callId)));
  }

  admit(question: questions.AdmitQuestion): Result<answers.Admission, Denial> {
    this.#leases.report(question.reports);
    return this.#context.decide(() => {
      const now = this.#context.now();
      const { token, cost, callId, slug } = question;
      this.#book.today(now);
      const live = this.#lines.requireLive(token, now);
      if (!live.ok) return live;
      const { tier } = live.value.person;
      if (!tierReaches(tier, question.requiredTier))
        return err({ reason: "tier_too_low", required: question.requiredTier, tier });
      // Whole, for what it is passed on in cannot be cut here: the envelope, and the delegation that the gate mints.
      if (scopesWithin(this.#context.config, tier, token.scope).length < token.scope.size)
        return err({ reason: "token_invalid", fault: "tier" });
      const line = this.#charging.line(token.node, slug, live.value, now);
      const asked = this.#asked().get({ callId });
      if (asked !== undefined) return this.#again(asked, question, line.levels);
      const room = decideHold(line.levels, cost, this.#charging.earliestEnd(now), now);
      if (!room.ok) return room;
      const admitted =
        question.lease === null ? this.#holds.open(question, line, now) : this.#slice(question, line, now);
      if (!admitted.ok) return admitted;
      if (live.value.session.slug === null) this.#firstUse(question, now);
      return ok({ ...admitted.value, remaining: room.value });
    });
  }

  /** A slice, whose first call this is. */
  #slice(
    question: questions.AdmitQuestion,
    line: Chargeable,
    now: EpochMs,
  ): Result<Omit<answers.Admission, "remaining">, Denial> {
    const { token, cost, slug, lease } = question;
    const calls = this.#leases.size(lease ?? { calls: 0, ranOut: false }, line.levels, cost, line.charge, now);
    const rate = this.#rates.charge(line.charge, calls, now);
    if (!rate.ok) return rate;
    const place = { ...line.place, session: token.session, slug };
    const slice = this.#leases.grant(place, calls, cost, line.charge, now);
    const expires = (Math.min(question.askedAt, now + CLOCK_SKEW_SECONDS * 1000) +
      slice.termMs +
      ENVELOPE_SLACK_MS) as EpochMs;
    return ok({ hold: null, slice, rate: rate.value, held: cost, expires });
  }

  /** The same call asked twice (a stub that retried on its own) is told what it was told. */
  #again(
    hold: HoldRow,
    { token, cost }: questions.AdmitQuestion,
    levels: readonly Level[],
  ): Result<answers.Admission, Denial> {
    if (hold.path !== token.node || hold.amount !== cost) return err({ reason: "idempotency_conflict" });
    const expires = hold.envelopeEnds as EpochMs;
    const remaining = leftOf(levels)?.micros ?? null;
    return ok({ hold: hold.id as HoldId, slice: null, rate: null, held: cost, remaining, expires });
  }

  /** One message of a socket: charged at once, for its cost is final. Call inside a decision. */
  spend(path: NodePath, slug: string, cost: Micros, live: LiveLine, now: EpochMs): Result<Micros | null, Denial> {
    const line = this.#charging.line(path, slug, live, now);
    const room = decideHold(line.levels, cost, this.#charging.earliestEnd(now), now);
    if (!room.ok) return room;
    const rate = this.#rates.charge(line.charge, 1, now);
    if (!rate.ok) return rate;
    this.#post(line, cost);
    return room;
  }

  /** What a message costs beyond that: it is no call more. Call inside a decision. */
  spendMore(path: NodePath, slug: string, cost: Micros, live: LiveLine, now: EpochMs): Result<Micros | null, Denial> {
    const line = this.#charging.line(path, slug, live, now);
    const room = decideHold(line.levels, cost, this.#charging.earliestEnd(now), now);
    if (room.ok) this.#post(line, cost);
    return room;
  }

  left(path: NodePath, slug: string, live: LiveLine, now: EpochMs): Micros | null {
    return leftOf(this.#charging.line(path, slug, live, now).levels)?.micros ?? null;
  }

  #post({ place }: Chargeable, cost: Micros): void {
    this.#charging.addCost(place.path, cost, place.day);
    this.#context.afterCommit(() => this.#book.move(place, { settled: cost }));
  }

  leash(
    token: VerifiedToken,
  ): Result<{ live: LiveLine; budget: answers.BudgetView; rate: answers.RateView | null }, Denial> {
    return this.#context.decide(() => {
      const now = this.#context.now();
      this.#book.today(now);
      const live = this.#lines.requireLive(token, now);
      if (!live.ok) return live;
      // The windows that all entries share: what an entry has of its own is told where it is called.
      const { charge } = this.#charging.line(token.node, "", live.value, now);
      const budget = this.#charging.budgetOf(token.node, live.value, now);
      return ok({ live: live.value, budget, rate: this.#rates.look(charge, now) });
    });
  }

  #firstUse({ token, slug, instance }: questions.AdmitQuestion, now: EpochMs): void {
    this.#context.db.update(t.sessions).set({ slug, instance }).where(eq(t.sessions.id, token.session)).run();
    this.#audit.append("session.used", token.session, { slug, instance }, now);
  }
}
