/**
 * What comes in, made safe to look at: headers and query members that only Legate may set are removed, the caller's one
 * proof is read by an exact grammar and verified, and a browser's origin is compared. No decision about a call is made
 * here, and nothing of a request is believed but what a MAC covers.
 */
import type { Denial } from "../core/denial.ts";
import { toEpochSeconds, type EpochMs } from "../core/ids.ts";
import { USER_AGENT_LENGTH_MAX } from "../core/limits.ts";
import { err, ok, type Result } from "../core/result.ts";
import type { TokenKey } from "../core/token/keyring.ts";
import { RememberedTokens } from "../core/token/remembered.ts";
import { verifyToken, type VerifiedToken } from "../core/token/verify.ts";
import { COOKIE_NAME, INTERNAL_QUERY, isInternalHeader } from "../core/wire/http.ts";
import { ticketIn } from "../core/wire/frames.ts";
import type { Origin, TicketTarget } from "../core/wire/questions.ts";
import type { SessionCaller } from "./call.ts";
import type { Edge } from "./env.ts";

const MISSING: Result<never, Denial> = err({ reason: "credentials_missing" });
const MALFORMED: Result<never, Denial> = err({ reason: "token_invalid", fault: "grammar" });

/** @returns the request without internal headers, and its URL without internal query members; itself where it had none */
export function strip(request: Request): { readonly request: Request; readonly url: URL } {
  const url = new URL(request.url);
  let changed = false;
  for (const name of url.search === "" ? [] : INTERNAL_QUERY) {
    if (!url.searchParams.has(name)) continue;
    url.searchParams.delete(name);
    changed = true;
  }
  const internal: string[] = [];
  request.headers.forEach((_, name) => {
    if (isInternalHeader(name)) internal.push(name);
  });
  if (internal.length === 0 && !changed) return { request, url };
  const headers = new Headers(request.headers);
  for (const name of internal) headers.delete(name);
  return { request: new Request(url, new Request(request, { headers })), url };
}

/** Where a request came from, as the platform told the edge: bounded, and printable whatever it was. */
export function originOf(request: Request): Origin {
  const ip = request.headers.get("cf-connecting-ip");
  const userAgent = request.headers.get("user-agent");
  return {
    ip: ip !== null && /^[0-9A-Fa-f.:]{2,45}$/.test(ip) ? ip : null,
    userAgent: userAgent === null ? null : userAgent.replaceAll(/\p{C}/gu, "").slice(0, USER_AGENT_LENGTH_MAX),
  };
}

/**
 * One `Authorization: Bearer <token>`, one space, nothing around it (RFC 6750 §2.1). The runtime joins repeated headers
 * with ", " (measured 2026-11), which is no token's character: two of them are refused like any other misspelling.
 */
const BEARER_PATTERN = /^Bearer ([A-Za-z0-9._-]+)$/i;
const COOKIE_VALUE_PATTERN = /^[A-Za-z0-9._-]+$/;
const OUR_COOKIES = new RegExp(`(?:^|[;,])[ \\t]*${COOKIE_NAME}=`, "g");

interface Proof {
  readonly via: SessionCaller["via"];
  readonly text: string;
}

/** A Bearer wins over a cookie, which is then not read at all: nobody acts as two callers. */
function proofOf(headers: Headers): Result<Proof, Denial> {
  const authorization = headers.get("authorization");
  if (authorization !== null) {
    const text = BEARER_PATTERN.exec(authorization)?.[1];
    return text === undefined ? MALFORMED : ok({ via: "bearer", text });
  }
  const cookies = headers.get("cookie");
  if (cookies === null) return MISSING;
  const count = cookies.match(OUR_COOKIES)?.length ?? 0;
  if (count === 0) return MISSING;
  if (count > 1) return MALFORMED; // a second one was planted: which is whose, nobody can say
  for (const part of cookies.split(";")) {
    const [name, ...rest] = part.trim().split("=");
    const text = rest.join("=");
    if (name === COOKIE_NAME && COOKIE_VALUE_PATTERN.test(text)) return ok({ via: "cookie", text });
  }
  return MALFORMED;
}

/** The isolate's memory, one for each key: values alone, no promise that another request could be waiting for. */
const memories = new WeakMap<TokenKey, RememberedTokens>();

function memoryOf(key: TokenKey): RememberedTokens {
  let memory = memories.get(key);
  if (memory === undefined) memories.set(key, (memory = new RememberedTokens()));
  return memory;
}

/** @returns the token if these very bytes were verified before, in this isolate and by that key, and it has not expired */
function remembered(text: string, key: TokenKey, now: EpochMs): VerifiedToken | null {
  return memoryOf(key).lookup(text, toEpochSeconds(now));
}

/**
 * Verifies with a key that was chosen before the token is read; remembered tokens cost a look-up.
 *
 * @returns the token, or `token_invalid`, `token_expired`
 */
export async function verifyRemembered(
  text: string,
  key: TokenKey,
  now: EpochMs,
): Promise<Result<VerifiedToken, Denial>> {
  const known = remembered(text, key, now);
  return known === null ? verifyAndRemember(text, key, now) : ok(known);
}

async function verifyAndRemember(text: string, key: TokenKey, now: EpochMs): Promise<Result<VerifiedToken, Denial>> {
  const verified = await verifyToken(text, key.verifier, toEpochSeconds(now));
  if (verified.ok) memoryOf(key).remember(text, verified.value);
  return verified;
}

/** The caller's proof, read and verified; `via` is known even of a proof that failed. */
export async function identify(
  request: Request,
  edge: Edge,
  now: EpochMs,
): Promise<{ readonly via: SessionCaller["via"] | null; readonly token: Result<VerifiedToken, Denial> }> {
  const proof = proofOf(request.headers);
  if (!proof.ok) return { via: null, token: proof };
  const { via, text } = proof.value;
  const key = via === "bearer" ? edge.sessionKey : edge.cookieKey;
  const known = remembered(text, key, now);
  return { via, token: known === null ? await verifyAndRemember(text, key, now) : ok(known) };
}

/**
 * The same for a knock at a socket, which may offer a one-use ticket as its proof. A ticket beside an `Authorization` is
 * refused, for nobody acts as two callers; a browser's own cookie, which it always sends, is not read then. The page is
 * compared before the ticket is used up.
 *
 * @param target what the ticket must have been bought for; null where none is taken
 */
export async function identifyKnock(
  request: Request,
  url: URL,
  edge: Edge,
  now: EpochMs,
  target: TicketTarget | null,
): Promise<{ readonly via: SessionCaller["via"] | null; readonly token: Result<VerifiedToken, Denial> }> {
  const text = ticketIn(request.headers.get("sec-websocket-protocol"));
  if (text === null || target === null) return identify(request, edge, now);
  if (text === undefined || request.headers.has("authorization")) return { via: null, token: MALFORMED };
  if (!isNotFromForeignPage(request, url, edge)) return { via: "ticket", token: foreignOrigin(request) };
  const { redeemTicket } = await import("./tickets.ts");
  return { via: "ticket", token: await redeemTicket(edge, text, target, request.headers.get("origin")) };
}

/** @returns whether scripts of that origin may use a person's cookie and read answers */
export function isAllowedOrigin(origin: string, edge: Edge): boolean {
  return origin === edge.issuer || edge.config.origins.has(origin);
}

/**
 * Whether a request with a cookie was made by a page of this deployment's, or by one it allows (DESIGN.md §5). Where a
 * browser says nothing at all, the answer is no: a cookie without a browser is a copied one.
 */
export function isFromOwnPage(request: Request, url: URL, edge: Edge): boolean {
  const origin = request.headers.get("origin");
  const isSameOrigin = request.headers.get("sec-fetch-site") === "same-origin";
  if (origin === null) return isSameOrigin;
  return isAllowedOrigin(origin, edge) || (isSameOrigin && origin === url.origin);
}

/** For requests without a cookie: false only where a browser names a page that is not ours. */
export function isNotFromForeignPage(request: Request, url: URL, edge: Edge): boolean {
  const site = request.headers.get("sec-fetch-site");
  return request.headers.has("origin")
    ? isFromOwnPage(request, url, edge)
    : site === null || site === "same-origin" || site === "none";
}

export function foreignOrigin(request: Request): Result<never, Denial> {
  return err({ reason: "origin_forbidden", origin: request.headers.get("origin") });
}
