/**
 * Keys of foreign issuers, remembered by the isolate as values: no promise is shared between requests, for one that
 * another request began may never settle. Who comes while keys are being fetched looks again, a few times a second. An
 * unknown `kid` forces one refresh in half a minute, however many ask; keys that are known serve on while an issuer is down.
 */
import type { Issuer } from "../../core/credential/issuers.ts";
import { isHttpsOrLoopback } from "../../core/credential/endpoint.ts";
import { JWKS_DEADLINE_MS, JWKS_KEPT_MS, JWKS_MAX_BYTES, JWKS_REFRESH_MIN_MS } from "../../core/limits.ts";

export type ForeignJwk = Readonly<Record<string, unknown>>;

interface Known {
  keys: readonly ForeignJwk[] | null;
  /** When keys were last asked for, whatever came of it. */
  triedAt: number;
  forcedAt: number;
  /** Set while a request of this isolate fetches; void after the deadline, for that request may be gone. */
  fetchingSince: number | null;
}

const LOOK_AGAIN_MS = 25;
const FAILED_PAUSE_MS = 5_000;
const known = new Map<string, Known>();

/** @returns the issuer's one key of that name that may sign with that algorithm, or null */
export async function foreignKey(issuer: Issuer, kid: unknown, alg: string): Promise<ForeignJwk | null> {
  const state = stateOf(issuer.issuer);
  await refreshIf(issuer, state, () => isOlder(state.triedAt, state.keys === null ? FAILED_PAUSE_MS : JWKS_KEPT_MS));
  const found = pick(state.keys, kid, alg);
  if (found !== null || state.keys === null) return found;
  await refreshIf(issuer, state, () => {
    const isDue = isOlder(state.forcedAt, JWKS_REFRESH_MIN_MS);
    if (isDue) state.forcedAt = Date.now(); // those behind this one do not force another
    return isDue;
  });
  return pick(state.keys, kid, alg);
}

/**
 * Waits for a fetch that another request makes, and no longer than that one may take; then fetches if that is still due.
 * Nothing is awaited between the question and the mark, so that of many who come at once one fetches.
 */
async function refreshIf(issuer: Issuer, state: Known, isDue: () => boolean): Promise<void> {
  while (state.fetchingSince !== null && !isOlder(state.fetchingSince, 2 * JWKS_DEADLINE_MS))
    await new Promise((resolve) => setTimeout(resolve, LOOK_AGAIN_MS));
  if (isDue()) await refresh(issuer, state);
}

function stateOf(issuer: string): Known {
  let state = known.get(issuer);
  if (state === undefined) known.set(issuer, (state = { keys: null, triedAt: 0, forcedAt: 0, fetchingSince: null }));
  return state;
}

/** True as well where the clock went back behind it. */
function isOlder(at: number, ms: number): boolean {
  const age = Date.now() - at;
  return age >= ms || age < 0;
}

function pick(keys: readonly ForeignJwk[] | null, kid: unknown, alg: string): ForeignJwk | null {
  const fitting = (keys ?? []).filter(
    (key) =>
      (kid === undefined || key["kid"] === kid) &&
      (key["alg"] === undefined || key["alg"] === alg) &&
      (key["use"] === undefined || key["use"] === "sig") &&
      key["kty"] !== "oct",
  );
  return fitting.length === 1 ? (fitting[0] ?? null) : null;
}

async function refresh(issuer: Issuer, state: Known): Promise<void> {
  state.fetchingSince = Date.now();
  try {
    const uri = issuer.jwksUri ?? (await discovered(issuer.issuer));
    const keys = uri === null ? null : (await getJson(uri))?.["keys"];
    // What is not a list of objects is no key set, and replaces none.
    if (Array.isArray(keys) && keys.every((key) => typeof key === "object" && key !== null))
      state.keys = keys as ForeignJwk[];
  } finally {
    state.fetchingSince = null;
    state.triedAt = Date.now();
  }
}

/** OpenID Connect Discovery §4.3: the document must name the issuer that was asked, exactly. */
async function discovered(issuer: string): Promise<string | null> {
  const document = await getJson(`${issuer.replace(/\/$/, "")}/.well-known/openid-configuration`);
  const uri = document?.["jwks_uri"];
  return document?.["issuer"] === issuer && typeof uri === "string" && isHttpsOrLoopback(uri) ? uri : null;
}

/** @returns a JSON object of at most 64 KiB, within five seconds, from that very address; null for anything else */
async function getJson(url: string): Promise<Readonly<Record<string, unknown>> | null> {
  try {
    const signal = AbortSignal.timeout(JWKS_DEADLINE_MS);
    const answer = await fetch(url, { redirect: "manual", signal, headers: { accept: "application/json" } });
    if (answer.status !== 200 || answer.body === null) {
      await answer.body?.cancel();
      return null;
    }
    const decoder = new TextDecoder();
    let text = "";
    let length = 0;
    for await (const chunk of answer.body as ReadableStream<Uint8Array>) {
      length += chunk.byteLength;
      if (length > JWKS_MAX_BYTES) return null;
      text += decoder.decode(chunk, { stream: true });
    }
    const value: unknown = JSON.parse(text);
    return typeof value === "object" && value !== null ? (value as Record<string, unknown>) : null;
  } catch {
    return null;
  }
}
