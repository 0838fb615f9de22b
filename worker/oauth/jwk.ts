/**
 * An agent's public key, as it registers it: one JWK of a kind that Legate verifies with, nothing private in it, and
 * really a key of that kind. What is kept are the members of its kind alone (RFC 7638's), so that a key has one spelling.
 */
import { decodeBase64url } from "../../core/base64url.ts";
import type { Denial } from "../../core/denial.ts";
import { err, ok, type Result } from "../../core/result.ts";
import type { AgentKey } from "../../core/wire/questions.ts";

/** RFC 7518 §6.2.2, §6.3.2 and §6.4.1, RFC 8037 §2: what only a private or a symmetric key has. */
const PRIVATE_MEMBERS = ["d", "p", "q", "dp", "dq", "qi", "oth", "k"];
const COORDINATE_BYTES = 32;

function refused(detail: string): Result<never, Denial> {
  return err({ reason: "request_invalid", detail });
}

function isCoordinate(value: unknown): value is string {
  return typeof value === "string" && decodeBase64url(value)?.length === COORDINATE_BYTES;
}

/** A member that says what the key is for must agree with what it will be used for. */
function contradicts(jwk: Readonly<Record<string, unknown>>, alg: string): string | null {
  if (jwk["alg"] !== undefined && jwk["alg"] !== alg && !(alg === "EdDSA" && jwk["alg"] === "Ed25519")) return "alg";
  if (jwk["use"] !== undefined && jwk["use"] !== "sig") return "use";
  const operations = jwk["key_ops"];
  const mayVerify = operations === undefined || (Array.isArray(operations) && operations.includes("verify"));
  return mayVerify ? null : "key_ops";
}

/** @returns the key, or `request_invalid` with a sentence for whoever registers */
export async function parsePublicJwk(value: unknown): Promise<Result<AgentKey, Denial>> {
  const jwk: Readonly<Record<string, unknown>> = typeof value === "object" && value !== null ? { ...value } : {};
  if (PRIVATE_MEMBERS.some((name) => Object.hasOwn(jwk, name)))
    return refused(
      '"jwks": this key is private. Send only its public half, and make a new pair: this one has travelled.',
    );
  const { kty, crv, x, y } = jwk;
  const isEc = kty === "EC" && crv === "P-256" && isCoordinate(x) && isCoordinate(y);
  const isOkp = kty === "OKP" && crv === "Ed25519" && isCoordinate(x);
  if (!isEc && !isOkp)
    return refused('"jwks": one public key, either P-256 for ES256 (kty EC, crv, x, y) or Ed25519 (kty OKP, crv, x).');
  const alg = isEc ? "ES256" : "EdDSA";
  const wrong = contradicts(jwk, alg);
  if (wrong !== null) return refused(`"jwks": the key's "${wrong}" does not allow verifying ${alg} signatures.`);
  const kept: Record<string, string> = isEc ? { kty: "EC", crv: "P-256", x, y } : { kty: "OKP", crv: "Ed25519", x };
  try {
    const kind = isEc ? { name: "ECDSA", namedCurve: "P-256" } : { name: "Ed25519" };
    await crypto.subtle.importKey("jwk", { ...kept, kty: kept["kty"] ?? "" }, kind, false, ["verify"]);
  } catch {
    return refused('"jwks": these coordinates are no point of the curve.');
  }
  return ok({ alg, jwk: kept });
}
