/**
 * Sessions: a person opens, reads, caps and ends their own; a token its own node and what lies below, and it opens none.
 * An id is compared with the caller before any object is touched: foreign, invented and missing ones get one answer.
 */
import * as z from "zod/mini";
import type { Denial } from "../../core/denial.ts";
import { isAtOrBelow, parseNodePath, toEpochMs, userOf, type Micros, type NodePath } from "../../core/ids.ts";
import { err, ok, type Result } from "../../core/result.ts";
import { formatScope, parseScope } from "../../core/token/scope.ts";
import type { Reach } from "../../core/wire/questions.ts";
import { readJson } from "../body.ts";
import type { Answer, Call, SessionCaller } from "../call.ts";
import { grantToken } from "../oauth/mint.ts";
import { json } from "../respond.ts";
import { idempotencyOf } from "./idempotency.ts";
import { byCaller, livePerson, ownAgent } from "./person.ts";
import { originOf } from "../inbound.ts";

const micros = z.int().check(z.minimum(0));
const opening = z.strictObject({
  clientId: z.optional(z.string()),
  /** As in a token: names joined by spaces; or a list of them. Looked at by `scopeOf`. */
  scope: z.optional(z.unknown()),
  budget: z.optional(micros),
  ttlSeconds: z.optional(z.int().check(z.minimum(1))),
});
const change = z.strictObject({ budget: micros });

function scopeOf(asked: unknown): Result<readonly string[] | null, Denial> {
  if (asked === undefined) return ok(null);
  const isList = Array.isArray(asked) && asked.every((name) => typeof name === "string");
  if (typeof asked !== "string" && !isList)
    return err({ reason: "request_invalid", detail: '"scope": names joined by spaces, or a list of them.' });
  const names = parseScope(typeof asked === "string" ? asked : formatScope(asked));
  return names === null ? err({ reason: "scope_invalid", scope: [] }) : ok([...names]);
}

/** A session for an agent of the person's, or for the person's own programs; its token is shown this once. */
export async function open(call: Call, caller: SessionCaller): Promise<Answer> {
  const { edge, now } = call;
  const body = await readJson(call.request, opening, {});
  if (!body.ok) return body;
  const { clientId, scope: asked, budget = null, ttlSeconds = null } = body.value;
  const scope = scopeOf(asked);
  if (!scope.ok) return scope;
  const agent = clientId === undefined ? ok(null) : ownAgent(call, caller, clientId);
  if (!agent.ok) return agent;
  const act = [agent.value, scope.value === null ? null : [...scope.value].sort(), budget, ttlSeconds];
  const idempotency = idempotencyOf(call, caller.token.subject, act);
  if (!idempotency.ok) return idempotency;
  const grant = await edge.ask(caller.token.subject, (authority) =>
    authority.open({
      kind: "api",
      enrolment: null,
      client: agent.value === null ? null : { id: agent.value, stopCount: null },
      scope: scope.value,
      agents: null,
      budget: budget as Micros | null,
      ttlSeconds,
      origin: originOf(call.request),
      cookie: caller.token,
      by: byCaller(caller),
      idempotency: idempotency.value,
    }),
  );
  if (!grant.ok) return grant;
  const { session, expires } = grant.value;
  // The same key tells the same session again; a token is a window in it, and each answer opens one.
  const { token, expiresAt } = await grantToken(edge, grant.value, now);
  return ok(json({ session, token, expiresAt, sessionExpiresAt: toEpochMs(expires) }, 201));
}

/** The path in the URL, if it can be the caller's at all: a person's own tree; a token's own node and below. */
function ownPath({ edge, params }: Call, { via, token }: SessionCaller): Result<NodePath, Denial> {
  const path = parseNodePath(params["id"] ?? "", edge.idMac);
  const isOwn =
    path !== null && userOf(path, edge.idMac) === token.subject && (via === "cookie" || isAtOrBelow(path, token.node));
  return isOwn ? ok(path) : err({ reason: "not_found" });
}

/** Whether it lives is for the object to say, in the transaction of what is done with it. */
function reachOf({ via, token }: SessionCaller): Reach {
  return via === "cookie" ? { kind: "person", cookie: token } : { kind: "node", token };
}

/** Whose an idempotency key is. */
function whoseKey({ via, token }: SessionCaller): string {
  return via === "cookie" ? token.subject : token.node;
}

/** A person's sessions; a token sees one, from its own node down. */
export async function list(call: Call, caller: SessionCaller): Promise<Answer> {
  const { subject, node } = caller.token;
  if (caller.via === "bearer") {
    const own = await call.edge.ask(subject, (authority) => authority.inspect(node, reachOf(caller)));
    return own.ok ? ok(json({ sessions: [own.value] })) : own;
  }
  const person = await livePerson(call, caller);
  if (!person.ok) return person;
  const sessions = await call.edge.ask(subject, (authority) => authority.list());
  return sessions.ok ? ok(json({ sessions: sessions.value })) : sessions;
}

export async function read(call: Call, caller: SessionCaller): Promise<Answer> {
  const path = ownPath(call, caller);
  if (!path.ok) return path;
  const detail = await call.edge.ask(caller.token.subject, (authority) =>
    authority.inspect(path.value, reachOf(caller)),
  );
  return detail.ok ? ok(json(detail.value)) : detail;
}

/** Whether a cap may rise is the object's decision: a token lowers, a person does as they like with what is theirs. */
export async function setCap(call: Call, caller: SessionCaller): Promise<Answer> {
  const path = ownPath(call, caller);
  if (!path.ok) return path;
  const body = await readJson(call.request, change);
  if (!body.ok) return body;
  const idempotency = idempotencyOf(call, whoseKey(caller), { ...body.value });
  if (!idempotency.ok) return idempotency;
  const node = await call.edge.ask(caller.token.subject, (authority) =>
    authority.setCap({
      path: path.value,
      cap: body.value.budget as Micros,
      by: byCaller(caller),
      reach: reachOf(caller),
      idempotency: idempotency.value,
    }),
  );
  return node.ok ? ok(json(node.value)) : node;
}

export async function end(call: Call, caller: SessionCaller): Promise<Answer> {
  const path = ownPath(call, caller);
  if (!path.ok) return path;
  const idempotency = idempotencyOf(call, whoseKey(caller), null);
  if (!idempotency.ok) return idempotency;
  const report = await call.edge.ask(caller.token.subject, (authority) =>
    authority.revoke({
      path: path.value,
      why: "revoked",
      by: byCaller(caller),
      reach: reachOf(caller),
      wait: call.url.searchParams.get("wait") !== "0",
      idempotency: idempotency.value,
    }),
  );
  return report.ok ? ok(json(report.value)) : report;
}
