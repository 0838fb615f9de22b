/**
 * Stands between everyone who asks and the object, tells the model what was answered, and judges each answer by it: what
 * was granted lies within every cap above, what was refused had to be, a hold ends once, the same question has the same
 * answer. Judging happens at once, so that a failing history ends where it went wrong.
 */
import type { Denial } from "../../core/denial.ts";
import { isAtOrBelow, type EpochMs, type Micros, type NodePath } from "../../core/ids.ts";
import { HOLD_LIFE_DEFAULT_MS } from "../../core/limits.ts";
import type { SliceReport } from "../../core/budget/lease.ts";
import type { Result } from "../../core/result.ts";
import type { Admission, Charged, Settled } from "../../core/wire/answers.ts";
import type { AdmitQuestion, ChargeQuestion, SettleQuestion } from "../../core/wire/questions.ts";
import type { AuthorityRpc } from "../../core/wire/rpc.ts";
import type { ObjectHost } from "./host.ts";
import type { Model, ModelHold, ModelLevel } from "./model.ts";
import type { RateEntry } from "./rate-log.ts";
import type { Timeline } from "./timeline.ts";
import { must, Violation } from "./violation.ts";

const OUTCOME_KEPT_MS = 86_400_000;

export class Witness {
  readonly #host: ObjectHost;
  readonly #timeline: Timeline;
  readonly #model: Model;
  readonly rateLog: RateEntry[] = [];
  /** Everything that isolates have told: what may be delivered again. */
  readonly told: SliceReport[] = [];
  readonly hasRates: boolean;

  constructor(host: ObjectHost, timeline: Timeline, model: Model, hasRates: boolean) {
    this.#host = host;
    this.#timeline = timeline;
    this.#model = model;
    this.hasRates = hasRates;
  }

  /** What isolates and agents can ask. */
  get authority(): AuthorityRpc {
    return {
      admit: (question: AdmitQuestion) => this.admit(question),
      report: (reports: readonly SliceReport[]) => this.report(reports),
      settle: (question: SettleQuestion) => this.settle(question),
      void: (question: { hold: string; callId: string }) => this.void(question),
    } as unknown as AuthorityRpc;
  }

  #now(): EpochMs {
    return this.#timeline.objectNow as EpochMs;
  }

  async #ask<T>(method: string, args: readonly unknown[], now: number): Promise<Result<T, Denial>> {
    return (await this.#host.ask(method, args, now)) as Result<T, Denial>;
  }

  async admit(question: AdmitQuestion): Promise<Result<Admission, Denial>> {
    const now = this.#now();
    this.told.push(...question.reports);
    let result: Result<Admission, Denial>;
    try {
      result = await this.#ask<Admission>("admit", [question], now);
    } catch (thrown) {
      await this.#afterThrow(question.reports, now);
      throw thrown;
    }
    this.#model.look(now);
    this.#takeIn(question.reports, now);
    this.#judgeAdmission(question, result, now);
    return result;
  }

  async report(reports: readonly SliceReport[]): Promise<Result<null, Denial>> {
    const now = this.#now();
    this.told.push(...reports);
    try {
      const result = await this.#ask<null>("report", [reports], now);
      if (reports.length > 0) this.#model.look(now); // else no sums were asked for
      this.#takeIn(reports, now);
      return result;
    } catch (thrown) {
      await this.#afterThrow(reports, now);
      throw thrown;
    }
  }

  /** Reports are one transaction: whether it was committed before something threw is seen by the rows that are gone. */
  async #afterThrow(reports: readonly SliceReport[], now: number): Promise<void> {
    const rows = new Set((await this.#host.rows("select id from slices")).map(({ id }) => String(id)));
    const open = this.#model.slices.filter(
      (slice) => slice.end === "open" && reports.some(({ id }) => id === slice.id),
    );
    if (open.some(({ id }) => !rows.has(id))) this.#takeIn(reports, now);
  }

  #takeIn(reports: readonly SliceReport[], now: number): void {
    for (const report of reports) {
      const slice = this.#model.slices.find(({ id }) => id === report.id);
      if (slice === undefined || slice.end !== "open") continue;
      const held = report.running.reduce((sum, call) => sum + call.held, 0);
      slice.report = report;
      if (report.settled + held > slice.units || report.calls > slice.calls) {
        slice.end = "lost";
        slice.settled = slice.units;
        continue;
      }
      slice.end = "reported";
      slice.settled = report.settled;
      const entry = this.rateLog.find((each) => each.slice === slice.id);
      if (entry !== undefined) entry.calls = report.calls;
      for (const { callId, held: amount } of report.running)
        this.#model.holds.push({
          id: null,
          callId,
          path: slice.path,
          agent: slice.agent,
          parts: [{ day: slice.day, amount }],
          amount,
          charged: 0,
          charges: new Map(),
          deadline: now + HOLD_LIFE_DEFAULT_MS,
          endedAt: null,
          outcome: null,
          cost: 0,
        });
    }
  }

  #judgeAdmission(question: AdmitQuestion, result: Result<Admission, Denial>, now: number): void {
    const model = this.#model;
    const path = question.token.node;
    const { cost } = question;
    const asked = model.holds.find(({ callId }) => callId === question.callId);
    if (!this.#judgeLife(path, result, now)) return;
    if (asked !== undefined) return this.#judgeAgain(asked, question, result);
    const levels = model.levels(path, cost, now);
    this.#judgeRoom(levels, cost, result);
    if (!result.ok) return;
    const { slice, hold } = result.value;
    must((slice === null) !== (hold === null), "I4", () => "an admission is a slice or a hold, never both or none");
    must(result.value.held === cost, "I2", () => `${cost} were asked for and ${result.value.held} held`);
    this.#judgeRemaining(levels, result.value.remaining);
    const node = model.nodes.get(path);
    const agent = node?.agent ?? "";
    // Buckets keep the latest time at which they were charged: a clock that went back since adds nothing.
    const at = Math.max(now, this.rateLog.at(-1)?.at ?? 0);
    this.rateLog.push({ at, path, agent, calls: slice?.calls ?? 1, slice: slice?.id ?? null });
    if (slice !== null) {
      must(
        slice.calls >= 1 && slice.units === slice.calls * cost,
        "I2",
        () => `a slice of ${slice.units} for ${slice.calls} calls of ${cost}`,
      );
      this.#mustFit(model.levels(path, slice.units, now), slice.units, "slice");
      model.slices.push({
        id: slice.id,
        path,
        agent,
        day: model.day,
        units: slice.units,
        calls: slice.calls,
        grantedAt: now,
        trueAt: this.#timeline.now,
        termMs: slice.termMs,
        endsAt: now + slice.termMs,
        isLapsed: false,
        end: "open",
        settled: 0,
        report: null,
      });
    } else if (hold !== null) {
      const life = question.kind === "stream" ? 3_600_000 : HOLD_LIFE_DEFAULT_MS;
      model.holds.push({
        id: hold,
        callId: question.callId,
        path,
        agent,
        parts: [{ day: model.day, amount: cost }],
        amount: cost,
        charged: 0,
        charges: new Map(),
        deadline: now + life,
        endedAt: null,
        outcome: null,
        cost: 0,
      });
    }
  }

  /** @returns whether there is more to judge */
  #judgeLife(path: NodePath, result: Result<unknown, Denial>, now: number): boolean {
    const isLive = this.#model.isLive(path, now);
    if (isLive) {
      must(result.ok || result.denial.reason !== "ended", "I17", () => `${path} lives, and was refused as ended`);
      return true;
    }
    must(!result.ok, "I7", () => `${path} has ended, and was served`);
    return false;
  }

  #judgeAgain(asked: ModelHold, question: AdmitQuestion, result: Result<Admission, Denial>): void {
    const isSame = asked.path === question.token.node;
    if (!isSame) return must(!result.ok, "I4", () => `call ${asked.callId} was admitted at two nodes`);
    if (asked.charges.size > 0 || asked.id === null) return; // enlarged, or made by a report: nobody asks for it again
    must(
      result.ok ? result.value.hold === asked.id : asked.amount !== question.cost,
      "I4",
      () => `call ${asked.callId}, asked again, was answered ${JSON.stringify(result)}`,
    );
  }

  /** 402, 429 or yes: the model knows which, but for the rates. */
  #judgeRoom(levels: readonly ModelLevel[], cost: number, result: Result<unknown, Denial>): void {
    const exhausted = levels.find(({ cap, settled, lost }) => cap !== null && settled + lost + cost > cap);
    const blocked = levels.find(({ cap, after }) => cap !== null && after > cap);
    const table = (): string => `${JSON.stringify(result)} with ${JSON.stringify(levels)} for ${cost}`;
    if (result.ok) {
      must(exhausted === undefined, "I1", table);
      return this.#mustFit(levels, cost, "call");
    }
    const { reason } = result.denial;
    if (reason === "budget_exhausted") must(exhausted !== undefined, "402 only where nothing can make room", table);
    else if (reason === "budget_held")
      must(exhausted === undefined && blocked !== undefined, "429 only where something is in the way", table);
    else if (reason === "rate_limited") must(this.hasRates && exhausted === undefined, "I16", table);
    else throw new Violation("an answer that nothing explains", table());
  }

  /** What is granted stays within every cap; what uses up a reservation commits nothing more. */
  #mustFit(levels: readonly ModelLevel[], units: number, what: string): void {
    for (const level of levels)
      must(
        level.cap === null || level.after <= level.cap || level.after === level.committed,
        "I1",
        () => `a ${what} of ${units} was granted over the cap of ${level.id}: ${JSON.stringify(level)}`,
      );
  }

  #judgeRemaining(levels: readonly ModelLevel[], remaining: Micros | null): void {
    const capped = levels.filter(({ cap }) => cap !== null);
    const hasReservations = [...this.#model.nodes.values()].some(({ reserved }) => reserved > 0);
    if (hasReservations) return;
    const least = capped.length === 0 ? null : Math.min(...capped.map(({ cap, after }) => (cap ?? 0) - after));
    must(remaining === least, "I2", () => `${remaining} remain by the answer, ${least} by the model`);
  }

  async settle(question: SettleQuestion): Promise<Result<Settled, Denial>> {
    const now = this.#now();
    const result = await this.#ask<Settled>("settle", [question], now);
    this.#model.look(now);
    this.#judgeEnd("settled", question.hold, question.callId, question.cost, result, now);
    return result;
  }

  async void(question: { hold: string; callId: string }): Promise<Result<Settled, Denial>> {
    const now = this.#now();
    const result = await this.#ask<Settled>("void", [question], now);
    this.#model.look(now);
    this.#judgeEnd("voided", question.hold, question.callId, 0, result, now);
    return result;
  }

  #judgeEnd(
    outcome: "settled" | "voided",
    id: string | null,
    callId: string,
    said: number | null,
    result: Result<Settled, Denial>,
    now: number,
  ): void {
    const hold = this.#model.holds.find((each) => each.callId === callId && (id === null || each.id === id));
    if ((hold?.endedAt ?? now) + OUTCOME_KEPT_MS <= now) return; // may be forgotten by now
    const cost =
      outcome === "voided" ? 0 : Math.max(hold?.charged ?? 0, said ?? (hold?.charged ? 0 : (hold?.amount ?? 0)));
    const expected = expectEnd(hold, outcome, cost);
    const seen = result.ok ? { cost: result.value.cost, repeated: result.value.repeated } : faultOf(result.denial);
    must(
      JSON.stringify(seen) === JSON.stringify(expected),
      "I3",
      () => `${outcome} of ${callId} at ${said}: ${JSON.stringify(seen)}, not ${JSON.stringify(expected)}`,
    );
    if (!result.ok || result.value.repeated || hold === undefined) return;
    hold.outcome = outcome;
    hold.cost = cost;
    hold.endedAt = now;
  }

  async charge(question: ChargeQuestion): Promise<Result<Charged, Denial>> {
    const now = this.#now();
    const result = await this.#ask<Charged>("charge", [question], now);
    this.#model.look(now);
    const hold = this.#model.holds.find((each) => each.callId === question.callId);
    if (hold === undefined || hold.outcome !== null) {
      must(!result.ok, "I3", () => `a hold that has ended was charged: ${JSON.stringify(result)}`);
      return result;
    }
    if (!this.#judgeLife(hold.path, result, now)) return result;
    const known = hold.charges.get(question.id);
    if (known !== undefined) {
      must(
        result.ok === (known === question.micros),
        "I4",
        () => `charge ${question.id} again: ${JSON.stringify(result)}`,
      );
      return result;
    }
    const total = hold.charged + question.micros;
    const more = Math.max(0, total - hold.amount);
    if (more > 0) this.#judgeRoom(this.#model.levels(hold.path, more, now), more, result);
    else must(result.ok, "I3", () => `a charge within the hold was refused: ${JSON.stringify(result)}`);
    if (!result.ok) return result;
    hold.charges.set(question.id, question.micros);
    hold.charged = total;
    hold.amount += more;
    if (more > 0) hold.parts.push({ day: this.#model.day, amount: more });
    must(result.value.charged === total && result.value.held === hold.amount, "I2", () => JSON.stringify(result));
    return result;
  }

  /** The alarm has run: holds and slices may have ended, each only when its time was over, and in full. */
  async alarm(): Promise<void> {
    const now = this.#now();
    const looks = await this.#host.rows(
      `select 1 from due where kind in ('holds', 'slices', 'fold') and at <= ${now} limit 1`,
    );
    let failure: unknown = null;
    try {
      await this.#host.alarm(now);
    } catch (thrown) {
      failure = thrown;
    }
    if (looks.length > 0) this.#model.look(now); // else nothing of the alarm asked for sums
    // A task that failed does not fail the alarm: its row says that it is tried again.
    const postponed = await this.#host.rows("select 1 from due where kind = 'holds' and tries > 0");
    await this.#noticeEnds(now, failure === null && postponed.length === 0);
    if (failure !== null) throw failure as Error;
  }

  async #noticeEnds(now: number, isComplete: boolean): Promise<void> {
    const ended = await this.#host.rows(
      "select h.call_id as call, o.outcome as outcome, o.cost as cost from outcomes o join holds h on h.id = o.hold_id where o.outcome = 'expired'",
    );
    for (const { call, outcome, cost } of ended) {
      const hold = this.#model.holds.find(({ callId }) => callId === call);
      if (hold === undefined || hold.outcome !== null) continue;
      must(hold.deadline <= now && cost === hold.amount, "I3", () => `${String(call)} expired early, or not in full`);
      hold.outcome = outcome as "expired";
      hold.cost = cost;
      hold.endedAt = now;
    }
    const rows = new Set((await this.#host.rows("select id from slices")).map(({ id }) => String(id)));
    for (const slice of this.#model.slices) {
      if (slice.end !== "open" || rows.has(slice.id)) continue;
      must(slice.grantedAt + 60_000 <= now, "I2", () => `slice ${slice.id} was given up early`);
      slice.end = "lost";
      slice.settled = slice.units;
    }
    if (isComplete)
      for (const hold of this.#model.holds)
        must(hold.outcome !== null || hold.deadline + 60_000 > now, "I3", () => `${hold.callId} never expires`);
    await this.noticeStops();
  }

  /** Marks that nobody was told of: of what has expired, and where the object threw after its commit. */
  async noticeStops(): Promise<void> {
    for (const { path } of await this.#host.rows("select path from stops"))
      if (!this.#model.stops.some((stop) => stop.path === path))
        this.#model.stops.push({ path: path as NodePath, fenceTrue: Infinity });
  }

  /** Grants that nobody was told of, and caps that were set, where the object threw after its commit. */
  async noticeCaps(): Promise<void> {
    for (const { id, cap } of await this.#host.rows("select id, cap from agents"))
      this.#model.capAgent(String(id), Number(cap));
    const nodes = await this.#host.rows(
      `select n.path as path, n.cap as cap, n.reserved as reserved, n.live_until_seconds as ends, s.client_id as agent
         from nodes n join sessions s on s.id = n.session`,
    );
    for (const row of nodes) {
      const path = row["path"] as NodePath;
      const cap = row["cap"] as number | null;
      const known = this.#model.nodes.get(path);
      if (known !== undefined) this.#model.capNode(known, cap);
      else
        this.#model.nodes.set(path, {
          path,
          agent: String(row["agent"]),
          cap,
          capMost: cap,
          reserved: Number(row["reserved"] ?? 0),
          endsAt: Number(row["ends"]) * 1_000,
        });
    }
  }

  /** Everything that lies at or below a path has ended; the fence is told in true time. */
  stopped(path: NodePath, fenceAt: number): void {
    const fenceTrue = this.#timeline.now + Math.max(0, fenceAt - this.#timeline.objectNow);
    if (!this.#model.stops.some((stop) => isAtOrBelow(path, stop.path))) this.#model.stops.push({ path, fenceTrue });
  }
}

function expectEnd(hold: ModelHold | undefined, outcome: "settled" | "voided", cost: number): unknown {
  if (hold === undefined) return "unknown";
  if (hold.outcome === outcome && hold.cost === cost) return { cost, repeated: true };
  if (hold.outcome !== null) return hold.outcome;
  if (cost > hold.amount) return "too_much";
  if (outcome === "voided" && hold.charged > 0) return "settled";
  return { cost, repeated: false };
}

function faultOf(denial: Denial): string {
  return denial.reason === "hold_mismatch" ? denial.fault : denial.reason;
}
