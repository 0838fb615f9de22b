/** Names on the wire: headers of Legate's own, and which of them may come from outside or from an agent. */

export const HEADER = {
  budget: "legate-budget",
  cost: "legate-cost",
  receipt: "legate-receipt",
  idempotencyKey: "idempotency-key",
} as const;

/** From the edge to a user's object, with a request that the edge built itself; nothing from outside ever has it. */
export const CHANNEL_HEADER = "legate-channel";

export const COOKIE_NAME = "__Host-legate";

/**
 * Prefixes that only Legate, the platform or a base class may set: removed from every request that comes in. The three
 * of the base classes carry start-up props, a room's name, and the address of a sub-agent (agents 0.32, partyserver 0.5).
 */
const INTERNAL_PATTERN = /^(?:legate-|x-legate-|x-partykit-|x-agents-|x-cf-agents-|x-auth-|cf-access-)/;

/** @param name of a request header, lower case */
export function isInternalHeader(name: string): boolean {
  return INTERNAL_PATTERN.test(name);
}

/**
 * Query members that a base class would believe: `_pk` becomes a connection's id and may repeat another's, and
 * `__agents_transport=capnweb` opens an object's methods to the socket (agents 0.32).
 */
export const INTERNAL_QUERY: readonly string[] = ["_pk", "_pkurl", "__agents_transport"];

/** Of a request, what an agent must not see besides internal headers: the caller's proofs. */
export const PROOF_HEADERS: readonly string[] = [
  "authorization",
  "proxy-authorization",
  "cookie",
  "sec-websocket-protocol",
];

/** What scripts of an allowed origin may read of an answer, besides what every script may. */
export const EXPOSED_HEADERS =
  "Legate-Budget, Legate-Receipt, RateLimit, RateLimit-Policy, Retry-After, WWW-Authenticate, X-RateLimit-Limit, X-RateLimit-Remaining, X-RateLimit-Reset";

/** What passes from an agent's answer to the caller; everything else stays behind. */
export const ANSWER_HEADERS: ReadonlySet<string> = new Set([
  "content-type",
  "content-length",
  "content-encoding",
  "content-language",
  "content-disposition",
  "content-range",
  "accept-ranges",
  "cache-control",
  "etag",
  "last-modified",
  "expires",
  "vary",
  "age",
  "link",
  "retry-after",
  "date",
]);

/**
 * `Legate-Budget: remaining=…`.
 *
 * @param remaining micros left at the binding node; null where nothing caps it
 */
export function budgetHeader(remaining: number | null): string | null {
  return remaining === null ? null : `remaining=${remaining}`;
}

/**
 * `RateLimit` and `RateLimit-Policy` (draft-ietf-httpapi-ratelimit-headers): the strictest window of those charged.
 *
 * @param rate calls a window of seconds, what is left of it, and when it is full again
 */
export function rateHeaders(rate: {
  readonly name: string;
  readonly calls: number;
  readonly seconds: number;
  readonly remaining: number;
  readonly resetMs: number;
}): { readonly ratelimit: string; readonly "ratelimit-policy": string } {
  const { name, calls, seconds, remaining, resetMs } = rate;
  return {
    ratelimit: `"${name}";r=${Math.max(0, remaining)};t=${Math.ceil(resetMs / 1000)}`,
    "ratelimit-policy": `"${name}";q=${calls};w=${seconds}`,
  };
}

/** `Legate-Cost: <micros>` as an agent reports it: a whole number in plain digits, or null. */
export function parseCost(text: string): number | null {
  if (!/^(?:0|[1-9]\d{0,15})$/.test(text)) return null;
  const cost = Number(text);
  return Number.isSafeInteger(cost) ? cost : null;
}

/** W3C Trace Context, level 2, version 00. An id of zeros only is no id. */
const TRACEPARENT_PATTERN = /^00-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}$/;

/** For runtimes without `toHex` (node 24). */
function hexOf(bytes: Uint8Array): string {
  return Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
}

/**
 * @param sent the caller's own header
 * @param random 24 bytes, for a trace of its own where the caller sent none or a malformed one
 */
export function traceparentOf(sent: string | null, random: () => Uint8Array): string {
  if (sent !== null && TRACEPARENT_PATTERN.test(sent)) return sent;
  const bytes: Uint8Array & { toHex?(): string } = random();
  const hex = bytes.toHex?.() ?? hexOf(bytes);
  return `00-${hex.slice(0, 32)}-${hex.slice(32, 48)}-00`;
}
