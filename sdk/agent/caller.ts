/**
 * Who calls, for as long as the call runs: kept per call by AsyncLocalStorage, so that two calls inside one object never
 * see each other's caller, whatever they await. Nothing here decides anything; the gate has.
 */
import { AsyncLocalStorage } from "node:async_hooks";
import type { Tier } from "../../core/config.ts";
import type { CallId, Micros, NodePath, SessionId, Slug, UserId } from "../../core/ids.ts";
import { decodeObject, splitToken } from "../../core/token/format.ts";
import type { ActorLink } from "../../core/token/chain.ts";
import type { Identity } from "../../core/wire/identity.ts";

/** What an agent may know of whoever called it. */
export interface Caller {
  /** The user on whose behalf all is done. */
  readonly subject: UserId;
  readonly tier: Tier;
  /** Root → current; empty where the person calls in person. `proven: false`: no key vouches for that link. */
  readonly actors: readonly ActorLink[];
  readonly scope: readonly string[];
  readonly session: SessionId;
  /** The place in the delegation tree that the call is charged to. */
  readonly node: NodePath;
  /** Micros left there when the call was admitted; null where nothing caps it. */
  readonly remaining: Micros | null;
  readonly callId: CallId;
  /** W3C Trace Context of the call. */
  readonly traceparent: string;
  readonly slug: Slug;
  readonly instance: string;
}

/** One call as the mixin knows it. */
export interface CallContext {
  readonly caller: Caller;
  readonly delegation: string | null;
  /** Proof for `settle`; null on a message, which was charged when it was admitted. */
  readonly envelope: string | null;
  /** Proof for `charge` where a socket is served; null where the envelope is. */
  readonly handle: string | null;
}

export const calls = new AsyncLocalStorage<CallContext>();

/** @throws Error outside of a call: alarms and schedules act for nobody */
export function currentCall(): CallContext {
  const context = calls.getStore();
  if (context === undefined) throw new Error("there is no caller here: this code does not run inside a call");
  return context;
}

export function callerOf(identity: Identity): Caller {
  const { subject, tier, actors, scope, session, node, remaining, callId, traceparent, slug, instance } = identity;
  return { subject, tier, actors, scope, session, node, remaining, callId, traceparent, slug, instance };
}

/** What one claim of a token says, for a holder that was handed the token by the gate itself; proves nothing. */
function unsafeClaim(token: string, name: "iss" | "exp"): unknown {
  const parts = splitToken(token);
  return parts === null ? undefined : decodeObject(parts.payload)?.value[name];
}

/** Whether the gate's token for our own calls has less than a minute left, or is not there. */
export function needsDelegation(token: string | null, nowMs: number): boolean {
  const exp = token === null ? undefined : unsafeClaim(token, "exp");
  return typeof exp !== "number" || exp * 1000 - nowMs < 60_000;
}

/**
 * A request to another agent behind the gate, on behalf of the caller.
 *
 * @param target a path like `/agents/researcher/default/lookup?q=…`, or such a URL of this deployment
 * @returns the request with the gate's own token; the chain goes on as the gate proved it
 * @throws Error when this agent's entry lists no `calls`, or the target is not an agent of this deployment
 */
export function delegatedRequest(
  { caller, delegation }: CallContext,
  target: string | URL,
  init?: RequestInit,
): Request {
  const issuer = delegation === null ? undefined : unsafeClaim(delegation, "iss");
  if (delegation === null || typeof issuer !== "string")
    throw new Error(`${caller.slug} may call nobody for this caller: list the callee in its entry's "calls"`);
  const url = new URL(target, issuer);
  if (url.origin !== issuer || !url.pathname.startsWith("/agents/"))
    throw new Error("legateFetch reaches agents of this deployment only: /agents/<slug>/<instance>/…");
  const headers = new Headers(init?.headers);
  headers.set("authorization", `Bearer ${delegation}`);
  headers.set("traceparent", caller.traceparent);
  return new Request(url, { ...init, headers, redirect: "manual" });
}
