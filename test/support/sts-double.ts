// An STS for what no real one does on demand: AWS's codes, silence, half answers. It checks what AWS checks (signature by
// the issuer's published keys, audience, times, the form's grammar) and writes AWS's XML, which the official client reads.
import { createLocalJWKSet, decodeProtectedHeader, jwtVerify, type JSONWebKeySet, type JWTPayload } from "jose";

const NAMESPACE = "https://sts.amazonaws.com/doc/2011-06-15/";

/** What the next exchange does instead of succeeding. */
export type Fault =
  | { readonly code: string; readonly status: number }
  | { readonly raw: string; readonly status: number; readonly headers?: Readonly<Record<string, string>> }
  | { readonly expiresInSeconds: number }
  | { readonly endless: number }
  | { readonly half: true }
  | { readonly drop: true };

export interface Exchange {
  readonly form: Readonly<Record<string, string>>;
  readonly claims: JWTPayload | null;
  readonly kid: string | undefined;
  readonly at: number;
}

export class StsDouble {
  readonly exchanges: Exchange[] = [];
  readonly faults: Fault[] = [];
  /** Every request that reached it, by method and path. */
  readonly requests: string[] = [];
  delayMs = 0;
  /** Done while an exchange is under way, before its answer. */
  meanwhile: (() => Promise<void>) | null = null;
  #made = 0;
  readonly #jwks: () => Promise<JSONWebKeySet>;
  readonly #audience: string;

  /** @param jwks what the issuer publishes at that moment */
  constructor(jwks: () => Promise<JSONWebKeySet>, audience = "sts.amazonaws.com") {
    this.#jwks = jwks;
    this.#audience = audience;
  }

  readonly handle = async (request: Request): Promise<Response> => {
    this.requests.push(`${request.method} ${new URL(request.url).pathname}`);
    const form = Object.fromEntries(new URLSearchParams(new TextDecoder().decode(await request.arrayBuffer())));
    const claims = await this.#claimsOf(form["WebIdentityToken"] ?? "");
    const kid = claims === null ? undefined : decodeProtectedHeader(form["WebIdentityToken"] ?? "").kid;
    this.exchanges.push({ form, claims, kid, at: Date.now() });
    const fault = this.faults.shift();
    await this.meanwhile?.();
    if (this.delayMs > 0) await new Promise((resolve) => setTimeout(resolve, this.delayMs));
    if (fault !== undefined && !("expiresInSeconds" in fault)) return faulty(fault);
    if (request.method !== "POST" || form["Action"] !== "AssumeRoleWithWebIdentity")
      return errorXml("InvalidAction", 400);
    if (claims === null) return errorXml("InvalidIdentityToken", 400);
    const seconds = Number(form["DurationSeconds"] ?? 3_600);
    if (!(seconds >= 900 && seconds <= 43_200)) return errorXml("ValidationError", 400);
    if (!/^[\w+=,.@-]{2,64}$/.test(form["RoleSessionName"] ?? "")) return errorXml("ValidationError", 400);
    if ((form["Policy"] ?? "").length > 2_048) return errorXml("PackedPolicyTooLarge", 400);
    return this.#assumed(form, fault?.expiresInSeconds ?? seconds);
  };

  async #claimsOf(token: string): Promise<JWTPayload | null> {
    try {
      const keys = createLocalJWKSet(await this.#jwks());
      const { payload } = await jwtVerify(token, keys, { audience: this.#audience, algorithms: ["ES256", "RS256"] });
      return payload;
    } catch {
      return null;
    }
  }

  #assumed(form: Readonly<Record<string, string>>, seconds: number): Response {
    const n = ++this.#made;
    const expiration = new Date(Date.now() + seconds * 1000).toISOString();
    return xml(
      200,
      `<AssumeRoleWithWebIdentityResponse xmlns="${NAMESPACE}"><AssumeRoleWithWebIdentityResult>
  <Credentials><AccessKeyId>ASIADOUBLE${String(n).padStart(10, "0")}</AccessKeyId>
  <SecretAccessKey>double-secret-${n}-planted/+=</SecretAccessKey>
  <SessionToken>double-session-${n}-planted</SessionToken><Expiration>${expiration}</Expiration></Credentials>
  <AssumedRoleUser><Arn>${form["RoleArn"] ?? ""}</Arn><AssumedRoleId>AROADOUBLE:x</AssumedRoleId></AssumedRoleUser>
</AssumeRoleWithWebIdentityResult><ResponseMetadata><RequestId>r-${n}</RequestId></ResponseMetadata></AssumeRoleWithWebIdentityResponse>`,
    );
  }
}

function xml(status: number, body: string): Response {
  return new Response(body, { status, headers: { "content-type": "text/xml" } });
}

export function errorXml(code: string, status: number): Response {
  return xml(
    status,
    `<ErrorResponse xmlns="${NAMESPACE}"><Error><Type>Sender</Type><Code>${code}</Code><Message>planted words, never passed on</Message></Error><RequestId>r</RequestId></ErrorResponse>`,
  );
}

function faulty(fault: Exclude<Fault, { expiresInSeconds: number }>): Response {
  if ("code" in fault) return errorXml(fault.code, fault.status);
  if ("raw" in fault)
    return new Response(fault.raw, { status: fault.status, ...(fault.headers ? { headers: fault.headers } : {}) });
  if ("drop" in fault) throw new TypeError("connection dropped");
  if ("half" in fault) {
    const start = new TextEncoder().encode("<AssumeRoleWithWebIdentityResponse><Assume");
    // Never ends: only a deadline over the body does.
    return new Response(new ReadableStream({ start: (controller) => controller.enqueue(start) }), { status: 200 });
  }
  let left = fault.endless;
  const chunk = new Uint8Array(65_536).fill(120);
  const pull = (controller: ReadableStreamDefaultController<Uint8Array>) => {
    if (left <= 0) return controller.close();
    left -= chunk.length;
    controller.enqueue(chunk);
  };
  return new Response(new ReadableStream({ pull }), { status: 200 });
}
