/** Operators' routes, as HTTP: queries and bodies in, the acts of acts.ts, values out. No decision is made here. */
import type { Denial } from "../../core/denial.ts";
import { isMicros } from "../../core/ids.ts";
import { err, ok, type Result } from "../../core/result.ts";
import { readJson } from "../body.ts";
import type { Answer, Call, OperatorCaller } from "../call.ts";
import { json } from "../respond.ts";
import { idempotencyOf } from "../sessions/idempotency.ts";
import { budgetChange, OperatorActs, reasonOnly, tierChange, type StopInput } from "./acts.ts";

function actsOf({ edge }: Call, { operator }: OperatorCaller): OperatorActs {
  return new OperatorActs(edge, operator.id);
}

/** Query members as the acts take them: no name twice, numbers and booleans in plain words. */
function queryOf(call: Call): Result<Record<string, unknown>, Denial> {
  const query: Record<string, unknown> = Object.create(null) as Record<string, unknown>;
  for (const [name, value] of call.url.searchParams) {
    if (name in query) return err({ reason: "request_invalid", detail: `"${name.slice(0, 40)}" stands twice.` });
    if (name === "limit" || name === "days") query[name] = /^\d{1,9}$/.test(value) ? Number(value) : value;
    else if (name === "active") query[name] = value === "true" ? true : value === "false" ? false : value;
    else query[name] = value;
  }
  return ok({ ...query });
}

/** `?wait=0` answers at the durable mark instead of after the fence. */
function waitOf(call: Call): boolean {
  return call.url.searchParams.get("wait") !== "0";
}

export async function listSessions(call: Call, caller: OperatorCaller): Promise<Answer> {
  const query = queryOf(call);
  if (!query.ok) return query;
  const page = await actsOf(call, caller).list(query.value);
  return page.ok ? ok(json({ sessions: page.value.rows, cursor: page.value.cursor })) : page;
}

export async function listAudit(call: Call, caller: OperatorCaller): Promise<Answer> {
  const query = queryOf(call);
  if (!query.ok) return query;
  const page = await actsOf(call, caller).audit(query.value);
  return page.ok ? ok(json({ rows: page.value.rows, cursor: page.value.cursor })) : page;
}

export async function listRoles(call: Call, caller: OperatorCaller): Promise<Answer> {
  const query = queryOf(call);
  if (!query.ok) return query;
  const found = await actsOf(call, caller).roles(query.value);
  return found.ok ? ok(json(found.value)) : found;
}

export async function inspectSession(call: Call, caller: OperatorCaller): Promise<Answer> {
  const found = await actsOf(call, caller).inspect(call.params["id"]);
  return found.ok ? ok(json({ session: found.value.row, live: found.value.live })) : found;
}

export async function terminateSession(call: Call, caller: OperatorCaller): Promise<Answer> {
  const body = await readJson(call.request, reasonOnly);
  if (!body.ok) return body;
  const { reason } = body.value;
  const idempotency = idempotencyOf(call, caller.operator.id, { reason });
  if (!idempotency.ok) return idempotency;
  const order = { id: call.params["id"] ?? "", reason, wait: waitOf(call) };
  const report = await actsOf(call, caller).terminate(order, idempotency.value);
  return report.ok ? ok(json(report.value)) : report;
}

async function orderOf(call: Call): Promise<Result<StopInput, Denial>> {
  const body = await readJson(call.request, reasonOnly);
  return body.ok ? ok({ user: call.params["id"] ?? "", reason: body.value.reason, wait: waitOf(call) }) : body;
}

export async function stopUser(call: Call, caller: OperatorCaller): Promise<Answer> {
  const order = await orderOf(call);
  if (!order.ok) return order;
  const stopped = await actsOf(call, caller).stopUser(order.value);
  return stopped.ok ? ok(json(stopped.value)) : stopped;
}

export async function disableUser(call: Call, caller: OperatorCaller): Promise<Answer> {
  const order = await orderOf(call);
  if (!order.ok) return order;
  const stopped = await actsOf(call, caller).disableUser(order.value);
  return stopped.ok ? ok(json(stopped.value)) : stopped;
}

export async function enableUser(call: Call, caller: OperatorCaller): Promise<Answer> {
  const order = await orderOf(call);
  if (!order.ok) return order;
  const person = await actsOf(call, caller).enableUser(order.value);
  return person.ok ? ok(json({ user: person.value })) : person;
}

export async function changeUser(call: Call, caller: OperatorCaller): Promise<Answer> {
  const body = await readJson(call.request, tierChange);
  if (!body.ok) return body;
  const { tier, reason } = body.value;
  const person = await actsOf(call, caller).setTier(call.params["id"], tier, reason);
  return person.ok ? ok(json({ user: person.value })) : person;
}

export async function changeBudget(call: Call, caller: OperatorCaller): Promise<Answer> {
  const body = await readJson(call.request, budgetChange);
  if (!body.ok) return body;
  const { cap, reason } = body.value;
  if (!isMicros(cap)) return err({ reason: "request_invalid", detail: '"cap": a whole number of micros.' });
  const changed = await actsOf(call, caller).setBudget(call.params["id"], cap, reason);
  return changed.ok ? ok(json({ id: call.params["id"], cap })) : changed;
}
