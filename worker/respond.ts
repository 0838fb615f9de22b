/**
 * The one place where values become HTTP answers: JSON bodies, denials, and the headers that every answer carries.
 */
import { denialBody, denialToWire, type Denial } from "../core/denial.ts";

/** On every answer, an agent's included (OWASP ASVS 5.0, 3.4). */
export const SECURITY_HEADERS: Readonly<Record<string, string>> = {
  "strict-transport-security": "max-age=63072000; includeSubDomains",
  "x-content-type-options": "nosniff",
  "referrer-policy": "no-referrer",
  "cross-origin-resource-policy": "same-origin",
  "content-security-policy": "default-src 'none'; frame-ancestors 'none'; base-uri 'none'",
};

const JSON_TYPE = "application/json; charset=utf-8";

/**
 * @param body anything that JSON can say; nothing secret unless the answer's purpose is to hand it over
 * @param headers added to the standard ones
 */
export function json(body: unknown, status = 200, headers: Readonly<Record<string, string>> = {}): Response {
  return new Response(JSON.stringify(body), {
    status,
    headers: { ...SECURITY_HEADERS, "content-type": JSON_TYPE, "cache-control": "no-store", ...headers },
  });
}

export function empty(status = 204, headers: Readonly<Record<string, string>> = {}): Response {
  return new Response(null, { status, headers: { ...SECURITY_HEADERS, "cache-control": "no-store", ...headers } });
}

export interface DenialShape {
  /** RFC 6749 §5.2 under `/oauth/`, ours elsewhere. */
  readonly shape: "legate" | "oauth";
  /** RFC 9728 §5.1: where a client finds how to authenticate here. */
  readonly resourceMetadata: string | null;
}

/** @returns the answer for a refusal: its status, stable code, one sentence, and the headers that belong to it */
export function denied(denial: Denial, { shape, resourceMetadata }: DenialShape): Response {
  const wire = denialToWire(denial);
  const headers: Record<string, string> = {};
  if (wire.retryAfterSeconds !== null) headers["retry-after"] = String(wire.retryAfterSeconds);
  if (denial.reason === "rate_limited" && wire.retryAfterSeconds !== null) {
    // What clients knew before there was a draft; the reset is in seconds, like Retry-After.
    if (denial.limit !== undefined) headers["x-ratelimit-limit"] = String(denial.limit);
    headers["x-ratelimit-remaining"] = "0";
    headers["x-ratelimit-reset"] = String(wire.retryAfterSeconds);
    if (denial.window !== undefined) headers["ratelimit"] = `"${denial.window}";r=0;t=${wire.retryAfterSeconds}`;
  }
  if (wire.allow !== null) headers["allow"] = wire.allow.join(", ");
  if (wire.challenge !== null) {
    const metadata = resourceMetadata === null ? [] : [`resource_metadata="${resourceMetadata}"`];
    const attributes = [wire.challenge, ...metadata].filter((attribute) => attribute !== "");
    headers["www-authenticate"] = attributes.length === 0 ? "Bearer" : `Bearer ${attributes.join(", ")}`;
  }
  return json(denialBody(wire, shape), wire.status, headers);
}
