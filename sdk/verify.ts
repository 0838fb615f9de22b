/**
 * `legate/verify`: for a resource server that takes Legate's tokens on any platform with `fetch` and WebCrypto. It holds
 * its own audience's key (`npm run keys -- audience <name>`), checks a token where it is, and asks the issuer only if it
 * is told to.
 *
 * Without `introspect` a stop reaches this server when the token ends (5 minutes at most), and a chain that carries a
 * `budget` is refused, for only the authority can count. With it every check is one request to the issuer, which knows
 * what has ended, and whose answer can take rights away but never add any.
 */
import { decodeBase64url } from "../core/base64url.ts";
import type { Denial } from "../core/denial.ts";
import type { EpochSeconds, NodePath, SessionId, UserId } from "../core/ids.ts";
import { FOREIGN_AUDIENCE_LIFE_MAX_SECONDS, HEADER_VALUE_MAX_BYTES } from "../core/limits.ts";
import { err, ok, type Result } from "../core/result.ts";
import type { ActorLink } from "../core/token/chain.ts";
import { headerSegment } from "../core/token/format.ts";
import { importMacKey, SECRET_BYTES, type MacKey } from "../core/token/mac.ts";
import { meet, parseScope } from "../core/token/scope.ts";
import { verifyToken, type VerifiedToken, type Verifier } from "../core/token/verify.ts";

/** How to ask the issuer whether a token still holds (RFC 7662). */
export interface IntrospectOptions {
  /**
   * Makes a fresh client assertion (RFC 7523, `private_key_jwt`) of the client that stands beside this audience in
   * `legate.config.ts`; its `aud` is the issuer, its `jti` is used once.
   */
  readonly clientAssertion: () => Promise<string>;
  /** In place of the platform's `fetch`: a service binding's, or a test's. */
  readonly fetch?: (request: Request) => Promise<Response>;
}

export interface VerifierOptions {
  /** The deployment's `LEGATE_ISSUER`, as it stands in `iss`: no slash at the end. */
  readonly issuer: string;
  /** This server's name in `legate.config.ts`, audiences. */
  readonly audience: string;
  /** As `npm run keys -- audience <name>` prints them, each `kid.key`; two while a secret is rotated. */
  readonly keys: readonly string[];
  readonly introspect?: IntrospectOptions;
  /** Milliseconds since 1970; `Date.now` unless given. */
  readonly now?: () => number;
}

/** What a verified token says. */
export interface VerifiedAccess {
  /** The user on whose behalf all is done. */
  readonly subject: UserId;
  /** Root → current; only the last decides, and only if `proven` did a key vouch for it. Empty for a person. */
  readonly actors: readonly ActorLink[];
  readonly clientId: string;
  readonly session: SessionId;
  /** The place in the delegation tree: what to log, and what `POST /holds` charges. */
  readonly node: NodePath;
  readonly scope: ReadonlySet<string>;
  readonly tier: VerifiedToken["tier"];
  /** Epoch seconds; nothing may be served on this token's word after it. */
  readonly expires: EpochSeconds;
}

/** Why not. `introspection_*` and `token_inactive` are this module's own, the others Legate's (docs/token.md). */
export type AccessDenial =
  | Extract<
      Denial,
      {
        reason: "credentials_missing" | "token_invalid" | "token_expired" | "delegation_not_redeemed" | "scope_missing";
      }
    >
  /** The chain names the agents behind the gate that it may call, and this server is none of them. */
  | { readonly reason: "audience_forbidden"; readonly allowed: readonly string[] }
  | { readonly reason: "token_inactive" }
  | { readonly reason: "introspection_required"; readonly because: "budget" }
  | { readonly reason: "introspection_unavailable"; readonly detail: string };

export interface VerifyOptions {
  /** Scopes that this access needs, all of them. */
  readonly scope?: readonly string[];
}

export interface ResourceVerifier {
  /**
   * @param token the token itself, or a request whose `Authorization: Bearer` carries it
   * @returns what it grants, or why it does not; never throws for anything that was sent
   */
  verify(token: string | Request, options?: VerifyOptions): Promise<Result<VerifiedAccess, AccessDenial>>;
}

const ANSWER_MAX_BYTES = 65_536;
const DEADLINE_MS = 5_000;
const KEY_PATTERN = /^([A-Za-z0-9_-]{8})\.([A-Za-z0-9_-]{43})$/;
const BEARER_PATTERN = /^Bearer +([A-Za-z0-9_.-]+)$/i;

/**
 * @throws TypeError for options that could never verify anything, or that would verify too much
 */
export function createVerifier(options: VerifierOptions): ResourceVerifier {
  const { issuer, audience, introspect } = options;
  if (!isIssuer(issuer))
    throw new TypeError("issuer must be an https origin (http on a loopback address) without a slash at the end");
  if (audience === "" || audience === issuer)
    throw new TypeError("audience must be this server's own name; the issuer's key belongs to Legate alone");
  if (options.keys.length === 0) throw new TypeError("keys is empty; npm run keys -- audience <name> prints them");
  const raw = options.keys.map(parseKey);
  const now = (): EpochSeconds => Math.floor((options.now ?? Date.now)() / 1000) as EpochSeconds;
  // Kept as a value, never as a promise: one that another request began may never settle (workerd, connection reset).
  let verifier: Verifier | null = null;

  return {
    async verify(token, { scope: required = [] } = {}) {
      const text = typeof token === "string" ? token : bearerOf(token);
      if (text === null) return err({ reason: "credentials_missing" });
      verifier ??= await importVerifier(issuer, audience, raw);
      const verified = await verifyToken(text, verifier, now());
      // verifyToken has two denials; the type of all of them is wider.
      if (!verified.ok) return err(verified.denial as AccessDenial);
      const local = verified.value;
      if (local.delegatedTo !== null) return err({ reason: "delegation_not_redeemed", delegatedTo: local.delegatedTo });
      if (local.agents !== null) return err({ reason: "audience_forbidden", allowed: [...local.agents] });
      if (introspect === undefined && local.segments.some(({ budget }) => budget !== null)) {
        return err({ reason: "introspection_required", because: "budget" });
      }
      const asked = introspect === undefined ? ok(accessOf(local)) : await ask(issuer, text, local, introspect, now);
      if (!asked.ok) return asked;
      const missing = required.filter((name) => !asked.value.scope.has(name));
      return missing.length > 0 ? err({ reason: "scope_missing", required, missing }) : asked;
    },
  };
}

function isIssuer(text: string): boolean {
  if (!URL.canParse(text)) return false;
  const { protocol, hostname, origin } = new URL(text);
  const isLoopback = hostname === "localhost" || hostname === "127.0.0.1" || hostname === "[::1]";
  return origin === text && (protocol === "https:" || (protocol === "http:" && isLoopback));
}

function parseKey(text: string): { readonly kid: string; readonly bytes: Uint8Array<ArrayBuffer> } {
  const [, kid, key] = KEY_PATTERN.exec(text) ?? [];
  const bytes = key === undefined ? null : decodeBase64url(key);
  // The key is not repeated in the message: messages are logged.
  if (kid === undefined || bytes === null || bytes.length !== SECRET_BYTES) {
    throw new TypeError("a key is written kid.key, as npm run keys -- audience <name> prints it");
  }
  return { kid, bytes };
}

async function importVerifier(
  issuer: string,
  audience: string,
  raw: readonly ReturnType<typeof parseKey>[],
): Promise<Verifier> {
  const keys = new Map<string, MacKey>();
  for (const { kid, bytes } of raw) keys.set(headerSegment(kid), await importMacKey(bytes));
  return { issuer, audience, keys, lifeMaxSeconds: FOREIGN_AUDIENCE_LIFE_MAX_SECONDS };
}

/** Two Authorization headers arrive joined by a comma, which no token has: then there is none. */
function bearerOf(request: Request): string | null {
  const header = request.headers.get("authorization");
  if (header === null || header.length > HEADER_VALUE_MAX_BYTES) return null;
  return BEARER_PATTERN.exec(header)?.[1] ?? null;
}

function accessOf({ subject, actors, clientId, session, node, scope, tier, exp }: VerifiedToken): VerifiedAccess {
  return { subject, actors, clientId, session, node, scope, tier, expires: exp };
}

/** Asks the issuer; its answer can end or narrow what the token says, and is believed no further. */
async function ask(
  issuer: string,
  token: string,
  local: VerifiedToken,
  { clientAssertion, fetch: ownFetch }: IntrospectOptions,
  now: () => EpochSeconds,
): Promise<Result<VerifiedAccess, AccessDenial>> {
  const unavailable = (detail: string) => err({ reason: "introspection_unavailable" as const, detail });
  let answer: Record<string, unknown> | null;
  try {
    const body = new URLSearchParams({
      token,
      token_type_hint: "access_token",
      client_assertion_type: "urn:ietf:params:oauth:client-assertion-type:jwt-bearer",
      client_assertion: await clientAssertion(),
    });
    const request = new Request(`${issuer}/oauth/introspect`, {
      method: "POST",
      body,
      headers: { accept: "application/json" },
      redirect: "manual", // a redirect is an answer we did not ask for, and would carry the token along
      signal: AbortSignal.timeout(DEADLINE_MS), // covers the body too
    });
    const response = await (ownFetch ?? fetch)(request);
    if (response.status !== 200) {
      await response.body?.cancel();
      return unavailable(`the issuer answered ${response.status}`);
    }
    answer = await readObject(response);
  } catch {
    return unavailable("the issuer could not be asked"); // the error's text could hold the assertion or the token
  }
  if (answer === null) return unavailable("the issuer's answer is no JSON object of at most 64 KiB");
  if (answer["active"] !== true || answer["sub"] !== local.subject) return err({ reason: "token_inactive" });
  const scope = typeof answer["scope"] === "string" ? parseScope(answer["scope"]) : null;
  if (scope === null) return unavailable("the issuer's answer has no scope");
  const exp = typeof answer["exp"] === "number" ? Math.min(local.exp, answer["exp"]) : local.exp;
  // Asking took time.
  const at = now();
  if (!(exp > at)) return err({ reason: "token_expired", exp: exp as EpochSeconds, now: at });
  return ok({ ...accessOf(local), scope: meet(scope, local.scope), expires: exp as EpochSeconds });
}

async function readObject(response: Response): Promise<Record<string, unknown> | null> {
  const reader = response.body?.getReader();
  if (reader === undefined) return null;
  const decoder = new TextDecoder("utf-8", { fatal: true });
  let text = "";
  for (let size = 0; ;) {
    const { done, value } = await reader.read();
    if (done) break;
    size += value.length;
    if (size > ANSWER_MAX_BYTES) {
      await reader.cancel();
      return null;
    }
    text += decoder.decode(value, { stream: true });
  }
  const answer: unknown = JSON.parse(text + decoder.decode());
  return typeof answer === "object" && answer !== null && !Array.isArray(answer)
    ? (answer as Record<string, unknown>)
    : null;
}
