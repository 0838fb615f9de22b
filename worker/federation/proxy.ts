/**
 * `/federation/aws/<alias>/proxy/<host>/<path>`: the request, signed with the role's credential and sent to a service that
 * the role lists, for agents that should never hold one. Bodies stream both ways. What comes back is never active on this
 * origin, and no header in either direction carries a credential.
 */
import { AwsV4Signer } from "aws4fetch";
import { permitRole } from "../../core/credential/permit.ts";
import type { AwsRole } from "../../core/credential/roles.ts";
import type { AwsCredential } from "../../core/credential/sts.ts";
import type { Denial } from "../../core/denial.ts";
import { PROXY_BODY_MAX_BYTES } from "../../core/limits.ts";
import { err, ok, type Result } from "../../core/result.ts";
import { ANSWER_HEADERS } from "../../core/wire/http.ts";
import type { Answer, Call, SessionCaller } from "../call.ts";
import { SECURITY_HEADERS } from "../respond.ts";
import { obtain } from "./credentials.ts";

const SENT_HEADERS = new Set([
  "accept",
  "cache-control",
  "content-disposition",
  "content-encoding",
  "content-language",
  "content-md5",
  "content-type",
  "if-match",
  "if-modified-since",
  "if-none-match",
  "if-unmodified-since",
  "range",
]);
/** What a signature is made of is ours: a caller's own would be another identity. */
const SIGNING = /^x-amz-(?:security-token|date|content-sha256|algorithm|credential|signature|signedheaders|expires)$/i;
const BODILESS = new Set([204, 205, 304]);
const POLICY = "sandbox; default-src 'none'; frame-ancestors 'none'; base-uri 'none'";

export async function proxy(call: Call, { token }: SessionCaller): Promise<Answer> {
  const { alias = "" } = call.params;
  const permitted = permitRole(call.edge.config, call.edge.issuer, token, "aws", alias);
  if (!permitted.ok) return permitted;
  const role = permitted.value;
  if (role.provider !== "aws") return err({ reason: "not_found" });
  const target = targetOf(call.url, role); // before anything is exchanged for it
  if (!target.ok) return target;
  const body = await bodyOf(call.request, role);
  if (!body.ok) return body;
  const obtained = await obtain(call.edge, token, "aws", alias);
  if (!obtained.ok) return obtained;
  const { secrets } = obtained.value.view;
  if (secrets.provider !== "aws") return err({ reason: "internal" });
  const request = await signed(call.request, target.value, body.value, role, secrets);
  try {
    return ok(cleaned(await reach(request)));
  } catch {
    return err({ reason: "exchange_failed", kind: "retry", code: "connection", retryAfterMs: 1_000 });
  }
}

/**
 * A connection that was kept open may be closed by the other side just as it is used again (seen with Ceph, 2026-11). What
 * only reads is asked once more; anything else may have been done, and is the caller's to repeat.
 */
async function reach(request: Request): Promise<Response> {
  if (request.method !== "GET" && request.method !== "HEAD") return fetch(request);
  try {
    return await fetch(request.clone());
  } catch (failure) {
    if (request.signal.aborted) throw failure;
    return fetch(request);
  }
}

/** The listed origin whose host the path names, with what follows as its path. */
function targetOf(url: URL, { proxy }: AwsRole): Result<string, Denial> {
  const [, host = "", path = "/"] = /\/proxy\/([^/]*)(\/.*)?$/.exec(url.pathname) ?? [];
  const origin = proxy?.origins.find((listed) => new URL(listed).host === host);
  if (origin === undefined) return err({ reason: "target_invalid", target: host });
  for (const name of url.searchParams.keys())
    if (SIGNING.test(name)) return err({ reason: "request_invalid", detail: "Send no signature of your own." });
  // aws4fetch reads a plus in a path as a space (1.0.20); spelt out, everyone reads it alike.
  return ok(`${origin}${path.replaceAll("+", "%2B")}${url.search}`);
}

/** S3 takes a body that is not part of the signature, so it streams; other services want its hash first. */
async function bodyOf(request: Request, { proxy }: AwsRole): Promise<Result<BodyInit | null, Denial>> {
  if (request.body === null) return ok(null);
  const length = Number(request.headers.get("content-length") ?? NaN);
  if (proxy?.service === "s3") {
    if (!Number.isSafeInteger(length))
      return err({ reason: "request_invalid", detail: "A body needs its Content-Length." });
    return ok(request.body.pipeThrough(new FixedLengthStream(length)));
  }
  const chunks: Uint8Array<ArrayBuffer>[] = [];
  let size = 0;
  for await (const chunk of request.body as ReadableStream<Uint8Array<ArrayBuffer>>) {
    size += chunk.byteLength;
    if (size > PROXY_BODY_MAX_BYTES) return err({ reason: "body_too_large", limitBytes: PROXY_BODY_MAX_BYTES });
    chunks.push(chunk);
  }
  return ok(await new Blob(chunks).arrayBuffer());
}

async function signed(
  sent: Request,
  url: string,
  body: BodyInit | null,
  role: AwsRole,
  { accessKeyId, secretAccessKey, sessionToken }: AwsCredential,
): Promise<Request> {
  const headers = new Headers();
  for (const [name, value] of sent.headers) {
    if (SENT_HEADERS.has(name) || (name.startsWith("x-amz-") && !SIGNING.test(name))) headers.set(name, value);
  }
  const signer = new AwsV4Signer({
    method: sent.method,
    url,
    headers,
    ...(body === null || body instanceof ReadableStream ? {} : { body }),
    accessKeyId,
    secretAccessKey,
    sessionToken,
    service: role.proxy?.service ?? "s3",
    region: role.region,
  });
  const { headers: all, url: to } = await signer.sign();
  return new Request(to, { method: sent.method, headers: all, body, redirect: "manual", signal: sent.signal });
}

function cleaned(answer: Response): Response {
  const headers = new Headers(SECURITY_HEADERS);
  headers.set("content-security-policy", POLICY);
  headers.set("cache-control", "no-store");
  for (const [name, value] of answer.headers) {
    if (ANSWER_HEADERS.has(name) || name === "etag" || name === "last-modified") headers.set(name, value);
    else if (name.startsWith("x-amz-") && !SIGNING.test(name)) headers.set(name, value);
  }
  headers.set("cache-control", "no-store");
  return new Response(BODILESS.has(answer.status) ? null : answer.body, { status: answer.status, headers });
}
