/**
 * The end of a call: what it cost goes back to the user's object, exactly once, after the answer and never in its way.
 * An agent's own word is `Legate-Cost` and nothing else; one that is no cost, or more than was held, is not believed,
 * and then, like where nothing was said, all that was held is charged.
 */
import type { Denial } from "../core/denial.ts";
import type { CallId, HoldId, Micros, UserId } from "../core/ids.ts";
import type { Result } from "../core/result.ts";
import { HEADER, parseCost } from "../core/wire/http.ts";
import type { Admitted } from "./admit.ts";
import type { Edge } from "./env.ts";

const RETRY_MS = 200;

/** An admitted call that must end: settled, or voided where it was not forwarded. */
export interface OpenCall {
  readonly edge: Edge;
  readonly ctx: ExecutionContext;
  readonly user: UserId;
  readonly callId: CallId;
  readonly slug: string;
  readonly admitted: Admitted;
}

/** @returns what the agent says the call cost; null charges all that was held */
export function costOf(answer: Response, { edge, slug, callId, admitted }: OpenCall): Micros | null {
  const said = answer.headers.get(HEADER.cost);
  if (said === null) return null;
  const cost = parseCost(said);
  if (cost !== null && cost <= admitted.held) return cost as Micros;
  edge.event("cost_refused", [slug, callId, cost === null ? "malformed" : "too_much"]);
  return null;
}

/**
 * Says what the call cost: to its slice, or to the object. One more try where the object was out of reach; after that the
 * hold expires by itself.
 */
export function settle(open: OpenCall, cost: Micros | null, failed: boolean): void {
  const { edge, user, callId, admitted } = open;
  const { source } = admitted;
  if (source.kind === "slice" && source.slice.settle(callId, cost, failed, edge.now())) return;
  tell(open, (hold) => edge.ask(user, (authority) => authority.settle({ hold, callId, cost, failed })));
}

/** Only for what was not forwarded. */
export function voidHold(open: OpenCall): void {
  const { user, callId, admitted } = open;
  const { source } = admitted;
  if (source.kind === "slice" && source.slice.giveBack(callId)) return;
  tell(open, (hold) => open.edge.ask(user, (authority) => authority.void({ hold, callId })));
}

/**
 * To the object: by the call's own hold, or by its id where its slice's report left it running; that row is there as soon
 * as the report is.
 */
function tell(
  { ctx, admitted: { source } }: OpenCall,
  end: (hold: HoldId | null) => Promise<Result<unknown, Denial>>,
): void {
  const hold = source.kind === "hold" ? source.hold : null;
  ctx.waitUntil(
    repeatedly(hold === null ? 5 : 2, async () => {
      const told = await end(hold);
      if (told.ok) return true;
      const { denial } = told;
      const isOnItsWay = hold === null && denial.reason === "hold_mismatch" && denial.fault === "unknown";
      return denial.reason !== "authority_unavailable" && !isOnItsWay;
    }),
  );
}

/** @param attempt answers whether that was it */
async function repeatedly(times: number, attempt: () => Promise<boolean>): Promise<void> {
  for (let left = times; left > 0; left--) {
    if (await attempt()) return;
    if (left > 1) await new Promise((resolve) => setTimeout(resolve, RETRY_MS));
  }
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
