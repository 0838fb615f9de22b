/**
 * `POST /holds {token, cost, ttlSeconds}`, `/holds/:id/settle {cost}`, `/holds/:id/void`: an API that is not behind the
 * gate sets the most aside before it works, and says afterwards what it was. The token is one that was exchanged for the
 * caller's audience; a hold is ended by the audience that made it, and by its own end, when it is charged in full.
 */
import type { Denial } from "../../core/denial.ts";
import { isMicros, parseOwnedId, userOf, type HoldId, type Micros } from "../../core/ids.ts";
import { HOLD_LIFE_MAX_SECONDS, HOLD_LIFE_SECONDS } from "../../core/limits.ts";
import { err, ok, type Result } from "../../core/result.ts";
import type { Answer, Call, ClientCaller } from "../call.ts";
import { verifyForAudience } from "../oauth/audience.ts";
import { json } from "../respond.ts";
import { idempotencyOf } from "../sessions/idempotency.ts";

const NOT_FOUND: Answer = err({ reason: "not_found" });

/** A whole number, as JSON's number or in plain digits. */
function readCount(form: ClientCaller["form"], name: string, unless: number | null): Result<Micros, Denial> {
  const text = form.get(name) ?? (unless === null ? "" : String(unless));
  const count = /^(?:0|[1-9]\d{0,15})$/.test(text) ? Number(text) : NaN;
  return isMicros(count)
    ? ok(count)
    : err({ reason: "request_invalid", detail: `"${name}": a whole number is needed.` });
}

export async function hold(call: Call, caller: ClientCaller): Promise<Answer> {
  const text = caller.form.get("token");
  if (text === undefined) return err({ reason: "request_invalid", detail: '"token" is missing.' });
  const cost = readCount(caller.form, "cost", null);
  if (!cost.ok) return cost;
  const ttlSeconds = readCount(caller.form, "ttlSeconds", HOLD_LIFE_SECONDS);
  if (!ttlSeconds.ok) return ttlSeconds;
  if (ttlSeconds.value < 1 || ttlSeconds.value > HOLD_LIFE_MAX_SECONDS)
    return err({ reason: "request_invalid", detail: `"ttlSeconds": 1 to ${HOLD_LIFE_MAX_SECONDS}.` });
  const verified = await verifyForAudience(call, caller, text);
  if (verified === null || verified.token === null) return err({ reason: "token_invalid", fault: "audience" });
  const { token, audience } = verified;
  const act = { node: token.node, cost: cost.value, ttlSeconds: ttlSeconds.value };
  const idempotency = idempotencyOf(call, `${caller.client.agent.id} ${token.node}`, act);
  if (!idempotency.ok) return idempotency;
  const question = { token, audience, cost: cost.value, ttlSeconds: ttlSeconds.value, idempotency: idempotency.value };
  const held = await call.edge.ask(token.subject, (authority) => authority.hold(question));
  if (!held.ok) return held;
  const { hold: id, held: amount, remaining, expires } = held.value;
  return ok(json({ hold: id, held: amount, remaining, expiresAt: expires }, 201));
}

export async function settle(call: Call, caller: ClientCaller): Promise<Answer> {
  const cost = readCount(caller.form, "cost", null);
  if (!cost.ok) return cost;
  return end(call, caller, (authority, hold, audience) => authority.settleHold({ hold, audience, cost: cost.value }));
}

export async function voidHold(call: Call, caller: ClientCaller): Promise<Answer> {
  return end(call, caller, (authority, hold, audience) => authority.voidHold({ hold, audience }));
}

type Ending = (
  authority: import("../../core/wire/rpc.ts").AuthorityRpc,
  hold: HoldId,
  audience: string,
) => ReturnType<import("../../core/wire/holds.ts").HoldsRpc["voidHold"]>;

/** A hold of another audience's, and one that never was, are the same 404. */
async function end(call: Call, { client }: ClientCaller, ending: Ending): Promise<Answer> {
  const { edge, params } = call;
  const id = parseOwnedId("hld", params["id"] ?? "", edge.idMac);
  if (id === null) return NOT_FOUND;
  for (const { name, client: speaker } of edge.config.audiences.values()) {
    if (speaker !== client.agent.id) continue;
    const ended = await edge.ask(userOf(id, edge.idMac), (authority) => ending(authority, id, name));
    if (ended.ok) return ok(json({ hold: id, cost: ended.value.cost, repeated: ended.value.repeated }));
    const { denial } = ended;
    if (denial.reason !== "hold_mismatch" || denial.fault !== "unknown") return ended;
  }
  return NOT_FOUND;
}
