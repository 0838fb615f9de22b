/**
 * The way of one call to a protected agent (DESIGN.md §2), as a list:
 *
 *   strip (inbound.ts) → route → verify → clear → admit → forward → settle
 *
 * Each step is a decision of core/ with its shell here; the first refusal is the answer, and nothing of an agent's is
 * touched before all of them have passed. What is admitted is settled or, where it was not forwarded, voided.
 */
import type { Level } from "../core/config.ts";
import type { Denial } from "../core/denial.ts";
import { makeCallId, toEpochMs, type Micros } from "../core/ids.ts";
import { AGENT_BODY_MAX_BYTES } from "../core/limits.ts";
import { err, ok, type Result } from "../core/result.ts";
import { clearAccess } from "../core/token/clear.ts";
import type { VerifiedToken } from "../core/token/verify.ts";
import { CLOSE, closeCodeOf, closeReason, type CloseCode } from "../core/wire/frames.ts";
import { PROOF_HEADERS, traceparentOf } from "../core/wire/http.ts";
import { DELEGATION_HEADER, IDENTITY_HEADER, sealIdentity, type Identity } from "../core/wire/identity.ts";
import type { AdmitQuestion } from "../core/wire/questions.ts";
import type { Answer, Call } from "./call.ts";
import { admit, type Ask } from "./admit.ts";
import { mintDelegation } from "./delegation.ts";
import type { AgentStub } from "./env.ts";
import { foreignOrigin, identify, identifyKnock, isFromOwnPage, isNotFromForeignPage } from "./inbound.ts";
import { objectName, type Target } from "./place.ts";
import { cleanAnswer, refusedSocket, upgraded } from "./outbound.ts";
import { costOf, settle, settleAtEnd, voidHold, type OpenCall } from "./settle.ts";

export const GATE_METHODS: readonly string[] = ["GET", "POST"];

/** One call, with what the steps before have found. */
interface Passage {
  readonly call: Call;
  readonly target: Target;
  readonly isUpgrade: boolean;
}

interface Forwardable extends Passage {
  readonly token: VerifiedToken;
  readonly agent: AgentStub;
  readonly question: Ask;
  readonly open: OpenCall;
}

export async function gate(call: Call, target: Target): Promise<Answer> {
  const passage: Passage = { call, target, isUpgrade: isWebSocketUpgrade(call.request) };
  const token = await verify(passage);
  if (!token.ok) return turnAway(token.denial, passage);
  const cleared = clearAccess(token.value, target.entry, call.edge.issuer);
  if (!cleared.ok) return cleared;
  const kind = readKind(passage);
  if (!kind.ok) return kind;
  const agent = call.edge.agent(target.entry, objectName(target, token.value.subject));
  if (agent === null) return err({ reason: "agent_unavailable", slug: target.entry.slug, cause: "unbound" });
  const question = ask(passage, token.value, kind.value);
  const admission = admit(call, question);
  const admitted = admission instanceof Promise ? await admission : admission; // a leased call waits for nothing
  if (!admitted.ok) return turnAway(admitted.denial, passage);
  const { callId } = question;
  const { edge, ctx } = call;
  const open = { edge, ctx, user: token.value.subject, callId, slug: target.entry.slug, admitted: admitted.value };
  return forward({ ...passage, token: token.value, agent, question, open });
}

function isWebSocketUpgrade(request: Request): boolean {
  return request.headers.get("upgrade")?.toLowerCase() === "websocket";
}

/** Step 3: the proof, then the page that made a browser send it. A cookie needs one of ours; a socket no foreign one. */
async function verify({ call, target, isUpgrade }: Passage): Promise<Result<VerifiedToken, Denial>> {
  const { request, url, edge, now } = call;
  const { via, token } = isUpgrade
    ? await identifyKnock(request, url, edge, now, `agent ${target.entry.slug} ${target.instance}`)
    : await identify(request, edge, now);
  if (via === "ticket") return token;
  if (!token.ok && token.denial.reason !== "token_expired") return token;
  const isWelcome =
    via === "cookie" ? isFromOwnPage(request, url, edge) : !isUpgrade || isNotFromForeignPage(request, url, edge);
  return isWelcome ? token : foreignOrigin(request);
}

/** What kind of call it is, and whether the entry takes that kind at all. */
function readKind({ call: { request }, target: { entry }, isUpgrade }: Passage): Result<AdmitQuestion["kind"], Denial> {
  const upgrade = request.headers.get("upgrade");
  if (upgrade !== null && (!isUpgrade || request.method !== "GET"))
    return err({ reason: "request_invalid", detail: "Only a GET may be upgraded, and only to websocket." });
  if (isUpgrade)
    return entry.transport === "websocket"
      ? ok("socket")
      : err({ reason: "request_invalid", detail: `The agent ${entry.slug} takes no WebSockets; call it over HTTP.` });
  if (Number(request.headers.get("content-length") ?? 0) > AGENT_BODY_MAX_BYTES)
    return err({ reason: "body_too_large", limitBytes: AGENT_BODY_MAX_BYTES });
  const asksForEvents = () => request.headers.get("accept")?.includes("text/event-stream") === true;
  return ok(entry.transport !== "http" && asksForEvents() ? "stream" : "http");
}

function ask({ call, target }: Passage, token: VerifiedToken, kind: AdmitQuestion["kind"]): Ask {
  const { entry, instance } = target;
  // Sockets and streams are at least strict when they open (DESIGN.md §2).
  const level: Level = kind !== "http" && entry.level === "counted" ? "strict" : entry.level;
  return {
    token,
    callId: makeCallId(call.edge.random),
    slug: entry.slug,
    instance,
    requiredTier: entry.requiredTier,
    level,
    kind,
    cost: entry.cost.most,
    askedAt: call.edge.now(),
  };
}

/**
 * A session that was real and is over, or has nothing left to spend, is told so by a close code where it knocks for a
 * socket: stock clients hammer a refused upgrade for ever. Everything else is refused before the upgrade.
 */
function turnAway(denial: Denial, { call, isUpgrade }: Passage): Answer {
  const close = isUpgrade ? closeOf(denial) : null;
  if (close === null) return err(denial);
  return ok(refusedSocket(close.code, close.reason, call.request.headers.get("sec-websocket-protocol")));
}

function closeOf(denial: Denial): { readonly code: CloseCode; readonly reason: string } | null {
  const { reason } = denial;
  if (reason === "token_expired") return { code: CLOSE.expired, reason: "token_expired" };
  if (reason === "user_disabled" || reason === "locked") return { code: CLOSE.terminated, reason: "session_ended" };
  if (reason === "ended") return { code: closeCodeOf(denial.why), reason: closeReason("session_ended", denial.node) };
  if (reason === "budget_exhausted")
    return { code: CLOSE.budgetSpent, reason: closeReason("budget_exhausted", denial.node) };
  return null;
}

/** Step 6. Up to the fetch nothing has left, and the hold is voided; from there on the agent may have served. */
async function forward(admitted: Forwardable): Promise<Answer> {
  const { call, target, agent, isUpgrade, open } = admitted;
  const { entry } = target;
  if (call.edge.now() >= open.admitted.expires) {
    voidHold(open); // the object answered after the envelope's end: no agent would take it
    return err({ reason: "authority_unavailable" });
  }
  const { method } = call.request;
  let headers: Headers;
  const body = method === "GET" ? null : boundedBody(call.request); // a GET's means nothing (RFC 9110 §9.3.1)
  try {
    headers = await headersFor(admitted);
  } catch {
    voidHold(open);
    return err({ reason: "internal" });
  }
  const init: RequestInit = { method, headers, redirect: "manual" };
  if (body !== null) init.body = body.stream;
  // Of a leased call, whose context nothing keeps alive, the platform ends the fetch by itself when the caller leaves.
  if (!isUpgrade && open.admitted.source.kind === "hold") init.signal = call.request.signal;
  let answer: Response;
  try {
    answer = await agent.fetch(call.url.href, init);
  } catch {
    settle(open, null, true); // it may have been served: only what was surely not forwarded is void
    return body?.overflowed() === true
      ? err({ reason: "body_too_large", limitBytes: AGENT_BODY_MAX_BYTES })
      : err({ reason: "agent_unavailable", slug: entry.slug, cause: "unreachable" });
  }
  if (body?.overflowed() === true) {
    // What the agent makes of half a body is no answer to this request.
    settle(open, null, true);
    call.ctx.waitUntil(answer.body?.cancel().catch(() => undefined) ?? Promise.resolve());
    return err({ reason: "body_too_large", limitBytes: AGENT_BODY_MAX_BYTES });
  }
  return answered(answer, admitted);
}

/** Step 7, and the cleaning of what the agent said. */
function answered(answer: Response, { call, target, isUpgrade, open }: Forwardable): Answer {
  const failed = answer.status >= 500;
  if (isUpgrade && answer.webSocket !== null) {
    settle(open, 0 as Micros, false); // its messages are admitted and charged one by one
    return ok(upgraded(answer.webSocket, call.request.headers.get("sec-websocket-protocol")));
  }
  const cost = costOf(answer, open);
  const { slug } = target.entry;
  const place = { slug, prefix: `/agents/${slug}/`, url: call.url };
  // What a slice admitted costs what its headers say, and has no row: there is no reason to watch its body go by.
  const isToldAtOnce = open.admitted.source.kind === "slice";
  if (failed || answer.body === null || isToldAtOnce || answer.headers.has("content-length")) {
    if (failed) call.ctx.waitUntil(answer.body?.cancel().catch(() => undefined) ?? Promise.resolve());
    settle(open, cost, failed);
    return cleanAnswer(answer, answer.body, open.admitted, place);
  }
  return cleanAnswer(answer, settleAtEnd(answer.body, open, cost, failed), open.admitted, place);
}

/** A length that is named was compared already, and the platform holds a body to it; one that isn't is counted here. */
function boundedBody(request: Request): { readonly stream: ReadableStream | null; overflowed(): boolean } {
  if (request.body === null || request.headers.has("content-length"))
    return { stream: request.body, overflowed: () => false };
  let length = 0;
  const counter = new TransformStream<Uint8Array, Uint8Array>({
    transform(chunk, controller) {
      length += chunk.byteLength;
      if (length > AGENT_BODY_MAX_BYTES) controller.error(new Error("body too large"));
      else controller.enqueue(chunk);
    },
  });
  return { stream: request.body.pipeThrough(counter), overflowed: () => length > AGENT_BODY_MAX_BYTES };
}

/** What the agent gets of the headers: no proof of the caller's, nothing internal from outside, and who calls, signed. */
async function headersFor(admitted: Forwardable): Promise<Headers> {
  const { call, target, token } = admitted;
  const { edge, request } = call;
  const headers = new Headers(request.headers);
  for (const name of PROOF_HEADERS) if (headers.has(name)) headers.delete(name);
  if (request.method === "GET" && headers.has("content-length")) headers.delete("content-length");
  const sent = headers.get("traceparent");
  const traceparent = traceparentOf(sent, () => edge.random(24));
  // It belongs to the trace that was not taken over.
  if (sent !== traceparent && headers.has("tracestate")) headers.delete("tracestate");
  headers.set("traceparent", traceparent);
  const [key] = edge.identityKeys.get(target.entry.worker) ?? [];
  if (key === undefined) throw new Error("an entry's Worker has no identity key");
  headers.set(IDENTITY_HEADER, await sealIdentity(key, identityOf(admitted, traceparent)));
  if (target.entry.calls.length > 0) {
    const { subject, tier, node, actors, scope, agents, exp } = token;
    const chain = { subject, tier, node, actors, scope: [...scope], agents: agents === null ? null : [...agents], exp };
    const delegation = await mintDelegation(edge, target.entry, chain, edge.now());
    if (delegation !== null) headers.set(DELEGATION_HEADER, delegation);
  }
  return headers;
}

function identityOf({ call, target, token, question, open }: Forwardable, traceparent: string): Identity {
  const { entry, instance } = target;
  const { source, remaining, held, expires } = open.admitted;
  return {
    subject: token.subject,
    tier: token.tier,
    actors: token.actors,
    session: token.session,
    node: token.node,
    scope: [...token.scope],
    agents: token.agents === null ? null : [...token.agents],
    remaining,
    callId: question.callId,
    hold: source.kind === "hold" ? source.hold : null,
    held,
    level: question.level,
    traceparent,
    slug: entry.slug,
    instance,
    worker: entry.worker,
    method: call.request.method,
    path: `${call.url.pathname}${call.url.search}`,
    tokenExpires: toEpochMs(token.exp),
    expires,
  };
}
