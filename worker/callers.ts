/**
 * One wrapper for each class of caller: it proves who calls before the handler is reached, and there is no other way to
 * a handler (STYLE: routes belong to a class of caller by construction). Anonymous work is bounded by address.
 */
import type { Denial } from "../core/denial.ts";
import { parseOwnedId, userOf, type AgentId } from "../core/ids.ts";
import { err, ok, type Result } from "../core/result.ts";
import { decodeObject } from "../core/token/format.ts";
import type { VerifiedToken } from "../core/token/verify.ts";
import type { PersonView } from "../core/wire/answers.ts";
import { mayTry, noteFailure } from "./anonymous.ts";
import { readFields } from "./body.ts";
import type { Answer, Call, ClientRoute, OperatorCaller, OperatorRoute, PublicRoute, SessionRoute } from "./call.ts";
import {
  foreignOrigin,
  identify,
  identifyKnock,
  isFromOwnPage,
  isNotFromForeignPage,
  originOf,
  verifyRemembered,
} from "./inbound.ts";

const ASSERTION_TYPE = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer";
const JWT_BEARER = "urn:ietf:params:oauth:grant-type:jwt-bearer";

/** Anyone. A change is limited by address, and no foreign page may make it: signing in is a change. */
export async function asPublic(call: Call, { method, handler }: PublicRoute): Promise<Answer> {
  if (method === "GET") return handler(call, null);
  if (!isNotFromForeignPage(call.request, call.url, call.edge)) return foreignOrigin(call.request);
  if (!(await call.edge.anonymousMayAsk(`public ${originOf(call.request).ip ?? ""}`)))
    return err({ reason: "rate_limited", retryAfterMs: 60_000 });
  return handler(call, null);
}

/**
 * A registered client, by an assertion that its owner's object checks and consumes (RFC 7523 §2.2, §3). An address whose
 * assertions keep failing is not listened to for a while; one that succeeds is never limited here, however many agents
 * share it.
 */
export async function asClient(call: Call, { handler }: ClientRoute): Promise<Answer> {
  const { edge, now } = call;
  const address = originOf(call.request).ip ?? "";
  const retryAfterMs = mayTry(address, now);
  if (retryAfterMs !== null) return err({ reason: "rate_limited", retryAfterMs });
  const form = await readFields(call.request, call.url.pathname.startsWith("/holds"));
  if (!form.ok) return form;
  if (form.value.get("grant_type") === JWT_BEARER && call.url.pathname === "/oauth/token") {
    // A token of a configured issuer stands in the place of the client's own assertion (RFC 7523 §2.1).
    const answer = await (await import("./federation/sessions.ts")).foreignSession(call, form.value);
    return !answer.ok && answer.denial.reason === "grant_invalid" ? noteFailure(call, answer) : answer;
  }
  const agent = unsafeClient(form.value, call);
  if (!agent.ok) return noteFailure(call, agent);
  const subject = await subjectOf(form.value, call);
  const client = await edge.ask(userOf(agent.value, edge.idMac), (authority) =>
    authority.authenticate({
      agent: agent.value,
      assertion: form.value.get("client_assertion") ?? "",
      audiences: [edge.issuer, `${edge.issuer}/`, `${edge.issuer}/oauth/token`],
      // Only an exchange acts in another user's object: whoever introspects is not noted with everyone it asks about.
      forUser: form.value.has("subject_token") && subject?.ok === true ? subject.value.subject : null,
    }),
  );
  if (!client.ok) return client.denial.reason === "client_invalid" ? noteFailure(call, client) : client;
  return handler(call, { client: client.value, form: form.value, subject });
}

function invalidClient(fault: string): Result<never, Denial> {
  return err({ reason: "client_invalid", fault });
}

/**
 * Whom the assertion claims to be: unsafe, used to find the object that holds the key and for nothing else. The id's tag
 * comes first, so that an invented one touches no object.
 */
function unsafeClient(form: ReadonlyMap<string, string>, { edge }: Call): Result<AgentId, Denial> {
  const assertion = form.get("client_assertion");
  if (assertion === undefined || form.get("client_assertion_type") !== ASSERTION_TYPE) return invalidClient("missing");
  const [, payload, , ...rest] = assertion.split(".");
  const unsafe = payload === undefined || rest.length > 0 ? null : decodeObject(payload);
  const { iss, sub } = unsafe?.value ?? {};
  if (typeof iss !== "string" || iss !== sub) return invalidClient("grammar");
  if (form.has("client_id") && form.get("client_id") !== iss) return invalidClient("client_id");
  const agent = parseOwnedId("agt", iss, edge.idMac);
  return agent === null ? invalidClient("unknown") : ok(agent);
}

async function subjectOf(
  form: ReadonlyMap<string, string>,
  { edge, now }: Call,
): Promise<Result<VerifiedToken, Denial> | null> {
  const text = form.get("subject_token") ?? form.get("token");
  return text === undefined ? null : verifyRemembered(text, edge.sessionKey, now);
}

/** A person's cookie or a session token, as the row accepts; the object is asked by the handler. */
export async function asSession(call: Call, route: SessionRoute): Promise<Answer> {
  const { method, accepts, handler } = route;
  const { via, token } = await identifyKnock(
    call.request,
    call.url,
    call.edge,
    call.now,
    route.ticketFor?.(call) ?? null,
  );
  if (!token.ok) return token;
  if (via === "cookie" && method !== "GET" && !isFromOwnPage(call.request, call.url, call.edge))
    return foreignOrigin(call.request);
  if (via === null || !accepts.includes(via))
    return err({ reason: via === "bearer" ? "cookie_required" : "credentials_missing" });
  const { delegatedTo } = token.value;
  if (delegatedTo !== null) return err({ reason: "delegation_not_redeemed", delegatedTo });
  return handler(call, { via, token: token.value });
}

/**
 * An operator in person: the cookie's session lives and the user has the tier, as that user's object says now. A session
 * token never gets here, though its user were an operator: an agent acts for its node (DESIGN.md §4).
 */
export async function asOperator(call: Call, { method, handler }: OperatorRoute): Promise<Answer> {
  const { via, token } = await identify(call.request, call.edge, call.now);
  if (via === null && call.accessJwt !== null) return asAccessOperator(call, call.accessJwt, { method, handler });
  if (!token.ok) return token;
  if (via !== "cookie") return err({ reason: "operator_required" });
  if (method !== "GET" && !isFromOwnPage(call.request, call.url, call.edge)) return foreignOrigin(call.request);
  const person = await call.edge.ask(token.value.subject, (authority) => authority.check(token.value));
  return person.ok ? asActive(call, person.value, "cookie", handler) : person;
}

/** The same by Cloudflare Access, which puts its JWT on whatever its cookie lets through: a foreign page must not ride on that. */
async function asAccessOperator(
  call: Call,
  jwt: string,
  { method, handler }: Pick<OperatorRoute, "method" | "handler">,
): Promise<Answer> {
  if (method !== "GET" && !isNotFromForeignPage(call.request, call.url, call.edge)) return foreignOrigin(call.request);
  const { accessOperator } = await import("./federation/operators.ts");
  const person = await accessOperator(call.edge, jwt);
  return person.ok ? asActive(call, person.value, "access", handler) : person;
}

function asActive(
  call: Call,
  person: PersonView,
  via: OperatorCaller["via"],
  handler: OperatorRoute["handler"],
): Promise<Answer> {
  const isOperator = person.tier === "admin" && person.state === "active";
  return isOperator ? handler(call, { operator: person, via }) : Promise.resolve(err({ reason: "operator_required" }));
}
