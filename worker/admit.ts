/**
 * Step 5 of a call's way: from the isolate's lease where it has one, 0 hops; else one question to the user's object,
 * on which the reports of slices that are over ride. A refused call looks into the slices once more before it answers.
 */
import type { Denial } from "../core/denial.ts";
import type { EpochMs, HoldId, Micros, UserId } from "../core/ids.ts";
import { ENVELOPE_SLACK_MS, REPORT_DELAY_MS } from "../core/limits.ts";
import { err, ok, type Result } from "../core/result.ts";
import type { RateView } from "../core/wire/answers.ts";
import type { AdmitQuestion } from "../core/wire/questions.ts";
import type { HeldSlice } from "../core/budget/lease.ts";
import type { Call } from "./call.ts";
import type { Edge } from "./env.ts";
import { originOf } from "./inbound.ts";
import { Leases, type Taken } from "./leases.ts";

/** What admitted a call: its own hold row, or a slice. */
export interface Admitted {
  readonly source:
    | { readonly kind: "hold"; readonly hold: HoldId }
    | { readonly kind: "slice"; readonly slice: HeldSlice };
  readonly held: Micros;
  readonly remaining: Micros | null;
  readonly rate: RateView | null;
  /** End of the envelope. */
  readonly expires: EpochMs;
}

/** The isolate's leases: values alone. */
export const leases = new Leases();

/** The question as the gate has it: what the isolate's memory adds, and where the request came from, only the object needs. */
export type Ask = Omit<AdmitQuestion, "lease" | "reports" | "origin">;

/** A counted call over HTTP is one of many; everything else asks for itself. */
function mayLease({ level, kind }: Ask): boolean {
  return level === "counted" && kind === "http";
}

/** @returns at once where a slice of the isolate's own covers the call; else what comes of asking */
export function admit(call: Call, ask: Ask): Result<Admitted, Denial> | Promise<Result<Admitted, Denial>> {
  const { request, edge, ctx } = call;
  const { token, slug, instance, callId, cost, askedAt } = ask;
  reportOverdue(edge, ctx, askedAt);
  const taken = mayLease(ask) ? leases.take(token, slug, instance, callId, cost, askedAt) : null;
  if (taken === null) return admitByAsking(call, ask);
  if (taken.renew) ctx.waitUntil(renew(edge, ctx, { ...ask, origin: originOf(request) }));
  return ok(fromSlice(taken, cost));
}

/** @returns the admission, or the refusal: of the object, of a leased refusal, or of the isolate by itself */
async function admitByAsking({ request, edge, ctx }: Call, ask: Ask): Promise<Result<Admitted, Denial>> {
  const { token, slug, instance, callId, cost, askedAt } = ask;
  const isLeased = mayLease(ask);
  const refused = leases.refusal(token, slug, cost, askedAt);
  if (refused !== null) return err(refused);
  const question = { ...ask, origin: originOf(request), lease: isLeased ? leases.demand(token, slug, askedAt) : null };
  const answer = await askObject(edge, ctx, question);
  if (answer.ok && answer.value.kind === "hold") return ok(answer.value.admitted);
  const again = isLeased ? leases.take(token, slug, instance, callId, cost, edge.now()) : null;
  if (again !== null) return ok(fromSlice(again, cost));
  if (answer.ok) return err({ reason: "authority_unavailable" }); // the slice was over before it arrived: nothing was done
  leases.noteRefusal(token, slug, cost, answer.denial, edge.now(), edge.config.limits.leaseMs);
  return answer;
}

function fromSlice({ slice, remaining, rate }: Taken, held: Micros): Admitted {
  const expires = (slice.endsAt + ENVELOPE_SLACK_MS) as EpochMs;
  return { source: { kind: "slice", slice }, held, remaining, rate, expires };
}

/** One question to the object. A slice that it grants is kept, and its end is a timer as well as a time. */
async function askObject(
  edge: Edge,
  ctx: ExecutionContext,
  question: Omit<AdmitQuestion, "reports">,
): Promise<Result<{ kind: "hold"; admitted: Admitted } | { kind: "slice" }, Denial>> {
  const { token, slug, askedAt } = question;
  const reports = leases.drain(token.subject);
  const answer = await edge.ask(token.subject, (authority) => authority.admit({ ...question, reports }));
  if (!answer.ok) {
    if (answer.denial.reason === "authority_unavailable") leases.putBack(token.subject, reports, edge.now());
    return answer;
  }
  const { hold, slice, held, remaining, rate, expires } = answer.value;
  if (hold !== null)
    return ok({ kind: "hold", admitted: { source: { kind: "hold", hold }, held, remaining, rate, expires } });
  if (slice === null) return err({ reason: "internal" });
  const before = remaining === null ? null : ((remaining + question.cost) as Micros);
  const kept = leases.keep(token, slug, slice, askedAt, before, rate);
  ctx.waitUntil(watch(edge, question, kept));
  return ok({ kind: "slice" });
}

/** The end of a slice by a timer, which holds its real time where a clock does not; then the last word on it, if it had none to ride on. */
async function watch(
  edge: Edge,
  { token, slug }: Pick<AdmitQuestion, "token" | "slug">,
  slice: HeldSlice,
): Promise<void> {
  await sleep(slice.grant.termMs);
  leases.expire(token, slug, slice, edge.now());
  await sleep(REPORT_DELAY_MS);
  if (leases.overdue(edge.now()).includes(token.subject)) await report(edge, token.subject);
}

/** Asks ahead for a fast caller. What comes of it is found in memory by whoever calls next; nobody waits for it. */
async function renew(edge: Edge, ctx: ExecutionContext, ask: Omit<AdmitQuestion, "lease" | "reports">): Promise<void> {
  const { token, slug } = ask;
  const now = edge.now();
  const lease = { ...leases.demand(token, slug, now), ranOut: true };
  const answer = await askObject(edge, ctx, { ...ask, askedAt: now, lease });
  if (!answer.ok) leases.renewalFailed(token, slug);
}

/** Slices that found no call to ride on are reported by the next request of anyone, after its answer. */
export function reportOverdue(edge: Edge, ctx: ExecutionContext, now: EpochMs): void {
  for (const user of leases.overdue(now)) ctx.waitUntil(report(edge, user));
}

async function report(edge: Edge, user: UserId): Promise<void> {
  const reports = leases.drain(user);
  if (reports.length === 0) return;
  const told = await edge.ask(user, (authority) => authority.report(reports));
  if (!told.ok) leases.putBack(user, reports, edge.now());
}

function sleep(ms: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, ms));
}
