/**
 * CORS by the configured origins (Fetch §3.2). The edge answers preflights itself; an origin that is not listed, and
 * `null`, gets no header at all. Nothing an agent says about CORS leaves (outbound.ts).
 */
import { EXPOSED_HEADERS } from "../core/wire/http.ts";
import type { Edge } from "./env.ts";
import { isAllowedOrigin } from "./inbound.ts";
import { empty } from "./respond.ts";

const REQUEST_HEADERS = "Authorization, Content-Type, Idempotency-Key, Last-Event-ID, Traceparent";
const PREFLIGHT_LIFE_SECONDS = "600"; // Chromium keeps one for two hours at most, and a list of origins may shrink

function allowedOrigin(request: Request, edge: Edge): string | null {
  const origin = request.headers.get("origin");
  return origin !== null && isAllowedOrigin(origin, edge) ? origin : null;
}

/** Adds what a listed origin's scripts need to read the answer; caches are told that it depends on the origin. */
export function withCors(response: Response, request: Request, edge: Edge): Response {
  if (response.status === 101) return response;
  response.headers.append("vary", "Origin");
  const origin = allowedOrigin(request, edge);
  if (origin === null) return response;
  response.headers.set("access-control-allow-origin", origin);
  response.headers.set("access-control-allow-credentials", "true");
  response.headers.set("access-control-expose-headers", EXPOSED_HEADERS);
  return response;
}

/** The answer to OPTIONS on a path that exists; `withCors` adds who may. */
export function preflight(request: Request, methods: readonly string[], edge: Edge): Response {
  const allow = [...methods, "OPTIONS"].join(", ");
  if (!request.headers.has("access-control-request-method") || allowedOrigin(request, edge) === null)
    return empty(204, { allow });
  return empty(204, {
    allow,
    "access-control-allow-methods": methods.join(", "),
    "access-control-allow-headers": REQUEST_HEADERS,
    "access-control-max-age": PREFLIGHT_LIFE_SECONDS,
  });
}
