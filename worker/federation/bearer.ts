/**
 * AWS SDKs send AWS_CONTAINER_AUTHORIZATION_TOKEN as the whole `Authorization` header (read in @aws-sdk, 2026-11): under
 * `/federation/` a token is taken with and without `Bearer ` before it. Nowhere else.
 */
import type { Answer, Call, SessionRoute } from "../call.ts";
import { asSession } from "../callers.ts";

const BARE_TOKEN = /^[A-Za-z0-9_-]+(?:\.[A-Za-z0-9_-]+){2,}$/;

export function asFederated(call: Call, row: SessionRoute): Promise<Answer> {
  const sent = call.request.headers.get("authorization");
  if (sent === null || !BARE_TOKEN.test(sent)) return asSession(call, row);
  const headers = new Headers(call.request.headers);
  headers.set("authorization", `Bearer ${sent}`);
  return asSession({ ...call, request: new Request(call.request, { headers }) }, row);
}
