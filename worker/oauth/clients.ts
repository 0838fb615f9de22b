/**
 * A person's agents: registering (RFC 7591, the part of it that fits), listing, their budgets, and taking them back. All
 * of it is the person's in person, by cookie; their object keeps the registry. No secret is ever made or shown here.
 */
import * as z from "zod/mini";
import type { Denial } from "../../core/denial.ts";
import { toEpochSeconds, type Micros } from "../../core/ids.ts";
import { CLIENT_NAME_LENGTH_MAX } from "../../core/limits.ts";
import { err, ok, type Result } from "../../core/result.ts";
import { formatScope, parseScope } from "../../core/token/scope.ts";
import type { AgentView } from "../../core/wire/answers.ts";
import { readJson } from "../body.ts";
import type { Answer, Call, SessionCaller } from "../call.ts";
import { empty, json } from "../respond.ts";
import { idempotencyOf } from "../sessions/idempotency.ts";
import { byCaller, livePerson, ownAgent } from "../sessions/person.ts";
import { parsePublicJwk } from "./jwk.ts";

export const GRANT_TYPES = ["client_credentials", "urn:ietf:params:oauth:grant-type:token-exchange"] as const;
const AUTH_METHOD = "private_key_jwt";

const micros = z.int().check(z.minimum(0));
const registration = z.strictObject({
  client_name: z.string().check(
    z.minLength(1),
    z.maxLength(CLIENT_NAME_LENGTH_MAX),
    // Names are shown in consoles and terminals: no control, format or surrogate characters.
    z.refine((name) => !/\p{C}/u.test(name), "has characters that can't be shown"),
  ),
  jwks: z.strictObject({
    keys: z.array(z.unknown()).check(z.length(1, "one key, no more and no fewer")),
  }),
  scope: z.optional(z.string()),
  legate_budget: z.optional(micros),
  token_endpoint_auth_method: z.optional(z.literal(AUTH_METHOD)),
  grant_types: z.optional(z.array(z.enum(GRANT_TYPES))),
});
const change = z.strictObject({ legate_budget: micros });

/** RFC 7591 §3.2.1, as far as it goes here. */
function clientView({ id, name, key, scope, cap, createdAt }: AgentView): object {
  return {
    client_id: id,
    client_name: name,
    client_id_issued_at: toEpochSeconds(createdAt),
    jwks: { keys: [key.jwk] },
    scope: formatScope(scope),
    legate_budget: cap,
    token_endpoint_auth_method: AUTH_METHOD,
    grant_types: GRANT_TYPES,
  };
}

/** What is asked; null for all that the person's tier may hand on. */
function registeredScope(asked: string | undefined): Result<readonly string[] | null, Denial> {
  if (asked === undefined) return ok(null);
  const names = parseScope(asked);
  return names === null ? err({ reason: "scope_invalid", scope: [] }) : ok([...names]);
}

export async function register(call: Call, caller: SessionCaller): Promise<Answer> {
  const { edge } = call;
  const body = await readJson(call.request, registration);
  if (!body.ok) return body;
  const { client_name: name, jwks, scope: asked, legate_budget: budget = null } = body.value;
  const key = await parsePublicJwk(jwks.keys[0]);
  if (!key.ok) return key;
  const scope = registeredScope(asked);
  if (!scope.ok) return scope;
  const kept = { name, key: key.value, scope: scope.value, cap: budget as Micros | null };
  const { alg, jwk } = kept.key;
  const idempotency = idempotencyOf(call, caller.token.subject, [name, alg, { ...jwk }, scope.value, budget]);
  if (!idempotency.ok) return idempotency;
  const agent = await edge.ask(caller.token.subject, (authority) =>
    authority.registerAgent({ ...kept, cookie: caller.token, by: byCaller(caller), idempotency: idempotency.value }),
  );
  return agent.ok ? ok(json(clientView(agent.value), 201)) : agent;
}

export async function list(call: Call, caller: SessionCaller): Promise<Answer> {
  const person = await livePerson(call, caller);
  if (!person.ok) return person;
  const agents = await call.edge.ask(caller.token.subject, (authority) => authority.agents());
  return agents.ok ? ok(json({ clients: agents.value.map(clientView) })) : agents;
}

export async function read(call: Call, caller: SessionCaller): Promise<Answer> {
  const id = ownAgent(call, caller, call.params["id"] ?? "");
  if (!id.ok) return id;
  const person = await livePerson(call, caller);
  if (!person.ok) return person;
  const agent = await call.edge.ask(caller.token.subject, (authority) => authority.agent(id.value));
  return agent.ok ? ok(json(clientView(agent.value))) : agent;
}

/** Setting a cap twice is setting it once: no key is needed, and none is kept. */
export async function setBudget(call: Call, caller: SessionCaller): Promise<Answer> {
  const id = ownAgent(call, caller, call.params["id"] ?? "");
  if (!id.ok) return id;
  const body = await readJson(call.request, change);
  if (!body.ok) return body;
  const question = {
    id: id.value,
    cap: body.value.legate_budget as Micros,
    cookie: caller.token,
    by: byCaller(caller),
  };
  const agent = await call.edge.ask(caller.token.subject, (authority) => authority.setAgentCap(question));
  return agent.ok ? ok(json(clientView(agent.value))) : agent;
}

/** Everything that it runs ends with it, in the objects of other people too. */
export async function remove(call: Call, caller: SessionCaller): Promise<Answer> {
  const id = ownAgent(call, caller, call.params["id"] ?? "");
  if (!id.ok) return id;
  const person = await livePerson(call, caller);
  if (!person.ok) return person;
  const removed = await call.edge.ask(caller.token.subject, (authority) =>
    authority.removeAgent(id.value, byCaller(caller)),
  );
  return removed.ok ? ok(empty()) : removed;
}
