/**
 * The isolate's leases: slices by node and entry, refusals, and what is still to be reported (DESIGN.md §4). Admission
 * from here touches no storage and makes no call. Values alone: no request waits for a promise that another began, and
 * whatever is lost with the isolate was counted when it was granted.
 */
import { HeldSlice, type Demand, type SliceGrant, type SliceReport } from "../core/budget/lease.ts";
import type { Denial } from "../core/denial.ts";
import { lineOf, type CallId, type EpochMs, type Micros, type Slug, type UserId } from "../core/ids.ts";
import {
  LEASED_NODES_MAX,
  LEASED_REFUSALS_MAX,
  REFUSALS_SECOND_MAX,
  REPORT_DELAY_MS,
  REPORTS_CALL_MAX,
} from "../core/limits.ts";
import type { VerifiedToken } from "../core/token/verify.ts";
import type { RateView } from "../core/wire/answers.ts";

/** One node at one entry. */
interface Slot {
  readonly user: UserId;
  slices: HeldSlice[];
  demand: Demand;
  /** End of the slice that `demand` was seen of. */
  demandEndsAt: number;
  /** As the object said at the last grant, less what was spent since. */
  remaining: number | null;
  rate: RateView | null;
  /** Calls in the second that began at `second`: whether renewing ahead is worth it. */
  second: number;
  calls: number;
  isRenewing: boolean;
}

interface Refusal {
  readonly denial: Denial;
  readonly until: EpochMs;
  /** For calls that cost at least this. */
  readonly cost: Micros;
}

/** A slice that is over, until it is told of: a call of it that ends meanwhile is still told of with it. */
interface Pending {
  readonly report: () => SliceReport;
  readonly since: EpochMs;
}

/** A call that a slice admitted. */
export interface Taken {
  readonly slice: HeldSlice;
  readonly remaining: Micros | null;
  readonly rate: RateView | null;
  /** Renew ahead, after the answer: fast callers should not wait for the object. */
  readonly renew: boolean;
}

/** Below this many calls a second the next slice is asked for when it is needed. */
const RENEW_AHEAD_CALLS_SECOND = 20;
const UNUSED_SLACK_MS = 200;
const NO_DEMAND: Demand = { calls: 0, ranOut: false };

export class Leases {
  readonly #slots = new Map<string, Slot>();
  readonly #refusals = new Map<string, Refusal>();
  readonly #pending = new Map<UserId, Pending[]>();
  /** Refusals of the current second, by what `refusedNodesOf` names. */
  readonly #refused = new Map<string, { second: number; count: number }>();
  #clock = 0 as EpochMs;
  #nextSweep = 0;

  /**
   * Takes one call from a live slice of the node at that entry.
   *
   * @param now the isolate's clock; one that went back makes every slice void
   */
  take(token: VerifiedToken, slug: Slug, instance: string, callId: CallId, cost: Micros, now: EpochMs): Taken | null {
    this.#observe(now);
    const slot = this.#slots.get(keyOf(token, slug));
    if (slot === undefined) return null;
    if (slot.second !== Math.floor(now / 1000)) {
      slot.second = Math.floor(now / 1000);
      slot.calls = 0;
    }
    slot.calls++;
    const slice = slot.slices.find((held) => held.take(callId, instance, cost, now));
    if (slice === undefined) return null;
    if (slot.remaining !== null) slot.remaining = Math.max(0, slot.remaining - cost);
    const renew =
      !slot.isRenewing &&
      slot.calls > RENEW_AHEAD_CALLS_SECOND &&
      slot.slices.every((held) => !held.isLive(now) || held.isRunningLow());
    if (renew) slot.isRenewing = true;
    // The windows were charged for the whole slice: what is left of it may still be called.
    const rate = slot.rate === null ? null : { ...slot.rate, remaining: slot.rate.remaining + slice.callsLeft };
    return { slice, remaining: slot.remaining as Micros | null, rate, renew };
  }

  /** What the isolate saw of the node's calls, for the size of the next slice. Closes what is used up. */
  demand(token: VerifiedToken, slug: Slug, now: EpochMs): Demand {
    const slot = this.#slots.get(keyOf(token, slug));
    if (slot === undefined) return NO_DEMAND;
    this.#closeEnded(slot, now);
    return slot.demand;
  }

  /** Keeps a slice that was granted; the least recently granted node goes when there are too many. */
  keep(
    token: VerifiedToken,
    slug: Slug,
    grant: SliceGrant,
    askedAt: EpochMs,
    remaining: Micros | null,
    rate: RateView | null,
  ): HeldSlice {
    const key = keyOf(token, slug);
    const slot: Slot = this.#slots.get(key) ?? {
      user: token.subject,
      slices: [],
      demand: NO_DEMAND,
      demandEndsAt: 0,
      remaining,
      rate,
      second: 0,
      calls: 0,
      isRenewing: false,
    };
    this.#slots.delete(key);
    this.#slots.set(key, slot);
    const held = new HeldSlice(grant, askedAt);
    slot.slices.push(held);
    slot.remaining = remaining;
    slot.rate = rate;
    slot.isRenewing = false;
    this.#nextSweep = Math.min(this.#nextSweep === 0 ? Infinity : this.#nextSweep, held.endsAt);
    if (this.#slots.size > LEASED_NODES_MAX) {
      const [oldest, least] = this.#slots.entries().next().value as [string, Slot];
      for (const slice of least.slices) this.#close(least, slice);
      this.#slots.delete(oldest);
    }
    return held;
  }

  /** The renewal that was begun did not bring a slice. */
  renewalFailed(token: VerifiedToken, slug: Slug): void {
    const slot = this.#slots.get(keyOf(token, slug));
    if (slot !== undefined) slot.isRenewing = false;
  }

  /** A timer of its term has fired: whatever the clock says, it is over. */
  expire(token: VerifiedToken, slug: Slug, slice: HeldSlice, now: EpochMs): void {
    this.#observe(now); // what is to be reported waits from now on, not from the last call that was seen
    slice.voidNow();
    const slot = this.#slots.get(keyOf(token, slug));
    if (slot !== undefined && slot.slices.includes(slice)) this.#close(slot, slice);
  }

  /** A refusal that was leased and covers this call, or the isolate's own 429 for a caller that was refused too often. */
  refusal(token: VerifiedToken, slug: Slug, cost: Micros, now: EpochMs): Denial | null {
    const second = Math.floor(now / 1000);
    for (const path of lineOf(token.node)) {
      const ended = this.#refusals.get(path);
      if (ended !== undefined && ended.until > now) return ended.denial;
    }
    if (refusedNodesOf(token).some(({ name, most }) => this.#isRefusedTooOften(name, most, second)))
      return { reason: "rate_limited", retryAfterMs: 1_000 - (now % 1_000) };
    const own = this.#refusals.get(keyOf(token, slug)) ?? this.#refusals.get(token.subject);
    if (own === undefined || own.until <= now || cost < own.cost) return null;
    const { denial } = own;
    return "retryAfterMs" in denial ? { ...denial, retryAfterMs: own.until - now } : denial;
  }

  /**
   * Remembers what the object refused, for as long as it must be so.
   *
   * @param termMs how long what may change meanwhile is believed: the deployment's lease
   */
  noteRefusal(token: VerifiedToken, slug: Slug, cost: Micros, denial: Denial, now: EpochMs, termMs: number): void {
    if (denial.reason === "authority_unavailable" || denial.reason === "internal") return; // says nothing of the caller
    for (const { name } of refusedNodesOf(token)) this.#countRefusal(name, now);
    const lasting = lastingOf(denial, token, now, termMs);
    if (lasting === null) return;
    const key = denial.reason === "ended" ? denial.node : isOfUser(denial) ? token.subject : keyOf(token, slug);
    this.#refusals.delete(key);
    this.#refusals.set(key, { denial, until: lasting, cost: isOfUser(denial) ? (0 as Micros) : cost });
    if (this.#refusals.size > LEASED_REFUSALS_MAX) this.#refusals.delete(this.#refusals.keys().next().value as string);
  }

  #countRefusal(name: string, now: EpochMs): void {
    const second = Math.floor(now / 1000);
    const known = this.#refused.get(name);
    if (known?.second === second) known.count++;
    else {
      this.#refused.delete(name);
      this.#refused.set(name, { second, count: 1 });
      if (this.#refused.size > LEASED_REFUSALS_MAX) this.#refused.delete(this.#refused.keys().next().value as string);
    }
  }

  #isRefusedTooOften(name: string, most: number, second: number): boolean {
    const refused = this.#refused.get(name);
    return refused !== undefined && refused.second === second && refused.count >= most;
  }

  /** Reports to ride on a call to that user's object. Whoever takes them sends them, or puts them back. */
  drain(user: UserId): readonly SliceReport[] {
    const pending = this.#pending.get(user);
    if (pending === undefined) return [];
    const riding = pending.splice(0, REPORTS_CALL_MAX);
    if (pending.length === 0) this.#pending.delete(user);
    return riding.map(({ report }) => report());
  }

  putBack(user: UserId, reports: readonly SliceReport[], now: EpochMs): void {
    if (reports.length === 0) return;
    const pending = this.#pending.get(user) ?? [];
    this.#pending.set(user, [...reports.map((report) => ({ report: () => report, since: now })), ...pending]);
  }

  /** Users whose reports found nothing to ride on: the next request of anyone sends them. Sweeps when something has ended. */
  overdue(now: EpochMs): readonly UserId[] {
    this.#observe(now);
    if (this.#nextSweep !== 0 && now >= this.#nextSweep) this.#sweep(now);
    if (this.#pending.size === 0) return [];
    const users: UserId[] = [];
    for (const [user, pending] of this.#pending)
      if (pending.some(({ since }) => now - since >= REPORT_DELAY_MS)) users.push(user);
    return users;
  }

  #sweep(now: EpochMs): void {
    let next = Infinity;
    for (const slot of this.#slots.values()) {
      this.#closeEnded(slot, now);
      for (const slice of slot.slices) next = Math.min(next, slice.endsAt - UNUSED_SLACK_MS);
    }
    this.#nextSweep = next === Infinity ? 0 : Math.max(next, now + 50);
  }

  /** What is over, and what nobody has used for almost all of its time: its units are wanted elsewhere. */
  #closeEnded(slot: Slot, now: EpochMs): void {
    for (const slice of [...slot.slices]) {
      const isUnused = now - slice.lastTakenAt >= slice.grant.termMs - UNUSED_SLACK_MS;
      if (!slice.isLive(now) || isUnused || slice.isUsedUp) this.#close(slot, slice);
    }
  }

  #close(slot: Slot, slice: HeldSlice): void {
    slot.slices = slot.slices.filter((other) => other !== slice);
    // Of slices that lived side by side, the one that was used most tells what the next one is for.
    if (slice.askedAt >= slot.demandEndsAt || slice.demand.calls >= slot.demand.calls) {
      slot.demand = slice.demand;
      slot.demandEndsAt = slice.endsAt;
    }
    const pending = this.#pending.get(slot.user) ?? [];
    slice.voidNow();
    pending.push({ report: () => slice.close(), since: this.#clock });
    this.#pending.set(slot.user, pending);
  }

  /** A clock that went back makes every slice void: its end can't be told any more. */
  #observe(now: EpochMs): void {
    if (now < this.#clock) {
      for (const slot of this.#slots.values()) for (const slice of slot.slices) this.#close(slot, slice);
      this.#refusals.clear();
      this.#nextSweep = 0;
    }
    this.#clock = now;
  }
}

/** By path and what its narrowed segments say: another content under the same path is another caller's mistake. */
const keys = new WeakMap<VerifiedToken, string>();
function keyOf(token: VerifiedToken, slug: Slug): string {
  let node = keys.get(token);
  if (node === undefined) {
    node =
      token.segments.length === 0
        ? token.node
        : `${token.node} ${token.segments.map(({ content }) => content).join("")}`;
    keys.set(token, node);
  }
  return `${slug} ${node}`;
}

/**
 * Where a refusal of that token counts, and how many of a second are too many there. What was narrowed offline counts at
 * every node that it was narrowed to, and at the grant above those with a bound of its own, ten times as high: a
 * sub-agent that is refused on purpose is shut out long before it, and whoever handed it its token is not.
 */
function refusedNodesOf({
  grant,
  segments,
}: VerifiedToken): readonly { readonly name: string; readonly most: number }[] {
  if (segments.length === 0) return [{ name: grant, most: REFUSALS_SECOND_MAX }];
  const narrowed = segments.map(({ path }) => ({ name: path as string, most: REFUSALS_SECOND_MAX }));
  return [...narrowed, { name: `below ${grant}`, most: 10 * REFUSALS_SECOND_MAX }];
}

function isOfUser({ reason }: Denial): boolean {
  return reason === "user_disabled" || reason === "locked";
}

/** Refusals that nothing lifts but time, or an act that may come at any moment: believed for a term. */
const BELIEVED_FOR_A_TERM: ReadonlySet<Denial["reason"]> = new Set(["user_disabled", "locked", "budget_exhausted"]);

/** Until when a refusal holds; null for what may be different at once. */
function lastingOf(denial: Denial, token: VerifiedToken, now: EpochMs, termMs: number): EpochMs | null {
  if (denial.reason === "ended") return (token.exp * 1000) as EpochMs;
  if (BELIEVED_FOR_A_TERM.has(denial.reason)) return (now + termMs) as EpochMs;
  if (denial.reason === "rate_limited") return (now + denial.retryAfterMs) as EpochMs;
  if (denial.reason === "budget_held" || denial.reason === "delegation_limit")
    return (now + Math.min(denial.retryAfterMs, termMs)) as EpochMs; // an end of anything makes room at once
  return null;
}
