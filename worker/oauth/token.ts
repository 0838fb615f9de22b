/**
 * `POST /oauth/token`: an agent that has just proven itself opens a session, redeems what was delegated to it, narrows
 * its own token or renews it. What a token says decides only which of these it can be; what is given is the object's
 * decision. A token of an agent behind the gate is never exchanged and never renewed (DESIGN.md §2).
 */
import type { Denial } from "../../core/denial.ts";
import { depthOf, isMicros, type Micros, type UserId } from "../../core/ids.ts";
import { err, ok, type Result } from "../../core/result.ts";
import { formatScope, parseScope } from "../../core/token/scope.ts";
import type { VerifiedToken } from "../../core/token/verify.ts";
import type { GrantView } from "../../core/wire/answers.ts";
import type { By } from "../../core/wire/questions.ts";
import type { Answer, Call, ClientCaller } from "../call.ts";
import type { Edge } from "../env.ts";
import { json } from "../respond.ts";
import { grantToken } from "./mint.ts";
import { originOf } from "../inbound.ts";

const TOKEN_EXCHANGE = "urn:ietf:params:oauth:grant-type:token-exchange";
const ACCESS_TOKEN = "urn:ietf:params:oauth:token-type:access_token";

type Form = ClientCaller["form"];

function invalid(detail: string): Result<never, Denial> {
  return err({ reason: "request_invalid", detail });
}

function invalidGrant(fault: string): Result<never, Denial> {
  return err({ reason: "grant_invalid", fault });
}

/** What is asked for, in the terms of a grant. Null: nothing was said. */
interface Asked {
  readonly scope: readonly string[] | null;
  readonly agents: readonly string[] | null;
  readonly audience: string | null;
  readonly budget: Micros | null;
  /** Set aside out of the parent's cap, for a delegation alone. */
  readonly reserve: Micros | null;
  readonly ttlSeconds: number | null;
}

export async function token(call: Call, caller: ClientCaller): Promise<Answer> {
  const grantType = caller.form.get("grant_type");
  if (grantType === undefined) return invalid('"grant_type" is missing.');
  if (grantType !== "client_credentials" && grantType !== TOKEN_EXCHANGE)
    return err({ reason: "grant_type_unsupported", grantType });
  const asked = readAsked(caller.form, call.edge);
  if (!asked.ok) return asked;
  const grant =
    grantType === TOKEN_EXCHANGE ? await exchange(call, caller, asked.value) : await open(call, caller, asked.value);
  return grant.ok ? tokenAnswer(call, grant.value) : grant;
}

/** RFC 6749 §5.1. */
export async function tokenAnswer(call: Call, grant: GrantView): Promise<Answer> {
  const minted = await grantToken(call.edge, grant, call.now);
  return ok(
    json(
      {
        access_token: minted.token,
        token_type: "Bearer",
        expires_in: minted.expiresInSeconds,
        scope: formatScope(grant.scope),
        issued_token_type: ACCESS_TOKEN,
      },
      200,
      { pragma: "no-cache" }, // RFC 6749 §5.1, beside the `no-store` that every answer of ours has
    ),
  );
}

export function readAsked(form: Form, edge: Edge): Result<Asked, Denial> {
  const scope = form.get("scope");
  const names = scope === undefined ? null : parseScope(scope);
  if (scope !== undefined && names === null) return err({ reason: "scope_invalid", scope: [] });
  const target = readTarget(form, edge);
  if (!target.ok) return target;
  const budget = readCount(form, "legate_budget");
  if (!budget.ok) return budget;
  const ttlSeconds = readCount(form, "legate_ttl");
  if (!ttlSeconds.ok) return ttlSeconds;
  const reserve = readCount(form, "legate_reserve");
  if (!reserve.ok) return reserve;
  if (reserve.value !== null && budget.value !== null && reserve.value > budget.value)
    return invalid('"legate_reserve" is part of "legate_budget", and no more.');
  return ok({
    scope: names === null ? null : [...names],
    ...target.value,
    budget: budget.value,
    reserve: reserve.value,
    ttlSeconds: ttlSeconds.value,
  });
}

/** A whole number in plain digits. */
function readCount(form: Form, name: string): Result<Micros | null, Denial> {
  const text = form.get(name);
  if (text === undefined) return ok(null);
  const count = /^(?:0|[1-9]\d{0,15})$/.test(text) ? Number(text) : NaN;
  return isMicros(count) ? ok(count) : invalid(`"${name}": a whole number, in digits.`);
}

/**
 * RFC 8707 `resource`: the issuer, which is what a token is for anyway, or one of its agents. RFC 8693 `audience`: a
 * resource server that the deployment names. Compared whole, never by prefix.
 */
function readTarget(form: Form, edge: Edge): Result<Pick<Asked, "agents" | "audience">, Denial> {
  const resource = form.get("resource");
  const audience = form.get("audience");
  const isOwnAudience = audience === undefined || audience === edge.issuer;
  if (!isOwnAudience && !edge.config.audiences.has(audience))
    return err({ reason: "target_invalid", target: audience });
  const slug = resource?.startsWith(`${edge.issuer}/agents/`) ? resource.slice(edge.issuer.length + 8) : null;
  if (resource !== undefined && resource !== edge.issuer && resource !== `${edge.issuer}/`) {
    // An agent of this deployment is nothing that another resource server could be narrowed to.
    if (slug === null || !edge.config.agents.has(slug) || !isOwnAudience)
      return err({ reason: "target_invalid", target: resource });
  }
  return ok({ agents: slug === null ? null : [slug], audience: isOwnAudience ? null : audience });
}

function byClient({ client }: ClientCaller): By {
  return { kind: "agent", id: client.agent.id, reason: null };
}

/** client_credentials: a session of the agent's owner. */
function open(call: Call, caller: ClientCaller, asked: Asked): Promise<Result<GrantView, Denial>> {
  const { audience, reserve, ...rest } = asked;
  if (reserve !== null)
    return Promise.resolve(invalid('"legate_reserve" is for delegations: a session draws on its agent.'));
  if (audience !== null) {
    // A resource server's token is an exchange: it hangs below a session that already lives.
    return Promise.resolve(err({ reason: "target_invalid", target: audience }));
  }
  const { agent, owner, stopCount } = caller.client;
  return call.edge.ask(owner, (authority) =>
    authority.open({
      kind: "agent",
      enrolment: null,
      client: { id: agent.id, stopCount },
      ...rest,
      origin: originOf(call.request),
      cookie: null,
      by: byClient(caller),
      idempotency: null,
    }),
  );
}

/** token-exchange (RFC 8693): redeem, narrow or renew. */
async function exchange(call: Call, caller: ClientCaller, asked: Asked): Promise<Result<GrantView, Denial>> {
  const { form, client } = caller;
  if (!form.has("subject_token") || caller.subject === null) return invalid('"subject_token" is missing.');
  if (form.get("subject_token_type") !== ACCESS_TOKEN) return invalid(`"subject_token_type" must be ${ACCESS_TOKEN}.`);
  if (form.has("actor_token") || form.has("actor_token_type"))
    return invalid('"actor_token" is not taken: who acts is who signed the client assertion.');
  if ((form.get("requested_token_type") ?? ACCESS_TOKEN) !== ACCESS_TOKEN)
    return invalid(`"requested_token_type" can only be ${ACCESS_TOKEN}.`);
  if (!caller.subject.ok) return invalidGrant(caller.subject.denial.reason);
  const subject = caller.subject.value;
  if (isOfGate(subject)) return invalidGrant("gate_token");
  const who = { id: client.agent.id, stopCount: client.stopCount };
  const ask = (how: "redeem" | "narrow") =>
    delegate(call.edge, subject.subject, { token: subject, client: who, how, ...asked, by: byClient(caller) });
  if (subject.delegatedTo !== null) return subject.delegatedTo === who.id ? ask("redeem") : invalidGrant("not_yours");
  // The current actor must be the client itself: a bearer link below it is a sub-agent without a key.
  if (subject.clientId !== who.id || subject.actors.at(-1)?.sub !== who.id) return invalidGrant("not_yours");
  if (Object.values(asked).some((value) => value !== null)) return ask("narrow");
  // A window of the grant itself: renewing a narrowed token would hand out what its blocks took away.
  if (subject.segments.length > 0) return invalidGrant("narrowed");
  return inGrantTerms(
    await call.edge.ask(subject.subject, (authority) => authority.renew({ token: subject, client: who })),
  );
}

/** Minted by the gate, or narrowed from what it minted: its client or a node of its path is an agent behind the gate. */
function isOfGate({ clientId, node }: VerifiedToken): boolean {
  return !/^(?:agt|usr)_/.test(clientId) || (depthOf(node) > 0 && node.includes(".~"));
}

async function delegate(
  edge: Edge,
  user: UserId,
  question: Parameters<import("../../core/wire/rpc.ts").AuthorityRpc["delegate"]>[0],
): Promise<Result<GrantView, Denial>> {
  return inGrantTerms(await edge.ask(user, (authority) => authority.delegate(question)));
}

/** At this endpoint a token that no longer serves is an invalid grant, 400 (RFC 6749 §5.2), not a challenge for a Bearer. */
function inGrantTerms<T>(result: Result<T, Denial>): Result<T, Denial> {
  if (result.ok) return result;
  const { reason } = result.denial;
  const isOfToken =
    reason === "ended" || reason === "token_invalid" || reason === "token_expired" || reason === "user_disabled";
  return isOfToken ? invalidGrant(reason) : result;
}
