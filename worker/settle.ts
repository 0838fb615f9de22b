/**
 * The end of a call: what it cost goes back to the user's object, exactly once, after the answer and never in its way.
 * An agent's own word is `Legate-Cost` and nothing else; one that is no cost, or more than was held, is not believed,
 * and then, like where nothing was said, all that was held is charged.
 */
import type { CallId, Micros, UserId } from "../core/ids.ts";
import { HEADER, parseCost } from "../core/wire/http.ts";
import type { Admission } from "../core/wire/rpc.ts";
import type { Edge } from "./env.ts";

/** An admitted call that must end: settled, or voided where it was not forwarded. */
export interface OpenCall {
  readonly edge: Edge;
  readonly ctx: ExecutionContext;
  readonly user: UserId;
  readonly callId: CallId;
  readonly slug: string;
  readonly admission: Admission;
}

/** @returns what the agent says the call cost; null charges all that was held */
export function costOf(answer: Response, { edge, slug, callId, admission }: OpenCall): Micros | null {
  const said = answer.headers.get(HEADER.cost);
  if (said === null) return null;
  const cost = parseCost(said);
  if (cost !== null && cost <= admission.held) return cost as Micros;
  edge.event("cost_refused", [slug, callId, cost === null ? "malformed" : "too_much"]);
  return null;
}

/** Says what the call cost. One more try where the object was out of reach; after that the hold expires by itself. */
export function settle(open: OpenCall, cost: Micros | null, failed: boolean): void {
  const { edge, ctx, user, callId, admission } = open;
  ctx.waitUntil(
    twice(async () => {
      const told = await edge.ask(user, (authority) =>
        authority.settle({ hold: admission.hold, callId, cost, failed }),
      );
      return told.ok || told.denial.reason !== "authority_unavailable";
    }),
  );
}

/** Only for what was not forwarded. */
export function voidHold(open: OpenCall): void {
  const { edge, ctx, user, callId, admission } = open;
  ctx.waitUntil(
    twice(async () => {
      const told = await edge.ask(user, (authority) => authority.void({ hold: admission.hold, callId }));
      return told.ok || told.denial.reason !== "authority_unavailable";
    }),
  );
}

async function twice(attempt: () => Promise<boolean>): Promise<void> {
  if (!(await attempt())) await attempt();
}

/**
 * Leads a body through, chunk by chunk, and settles when it has ended or was given up; nothing is buffered. A client
 * that leaves looks like an end (measured on workerd 2026-11): what was served is charged the same.
 *
 * @returns the body to answer with
 */
export function settleAtEnd(
  body: ReadableStream,
  open: OpenCall,
  cost: Micros | null,
  failed: boolean,
): ReadableStream {
  const { readable, writable } = new IdentityTransformStream();
  open.ctx.waitUntil(
    body.pipeTo(writable).then(
      () => settle(open, cost, failed),
      () => settle(open, cost, true),
    ),
  );
  return readable;
}
