/**
 * Signs web-identity tokens with the first key of LEGATE_OIDC_KEYS; the others are published only. Rotation is an order:
 * a new key behind the current one (prepare, deploy), in front of it (activate, deploy), the old one gone (retire).
 */
import { encodeBase64url } from "../../../core/base64url.ts";
import { encodeObject } from "../../../core/token/format.ts";

export interface Signer {
  /** Part of every cache key: a credential is bound to the key that it was asked for with. */
  readonly kid: string;
  sign(claims: Readonly<Record<string, unknown>>): Promise<string>;
}

const ES256 = { name: "ECDSA", namedCurve: "P-256", hash: "SHA-256" } as const;
const encoder = new TextEncoder();

/**
 * @param text LEGATE_OIDC_KEYS: a JSON array of private JWKs, the current one first
 * @returns null where there is none, or the first is no private P-256 key with a `kid`; nothing of it is ever shown
 */
export async function signerOf(text: string | undefined): Promise<Signer | null> {
  try {
    const [jwk] = JSON.parse(text || "[]") as JsonWebKey[];
    const { kty, crv, x, y, d } = jwk ?? {};
    const kid = (jwk as { kid?: unknown } | undefined)?.kid;
    if (kty !== "EC" || crv !== "P-256" || typeof kid !== "string" || !x || !y || !d) return null;
    const key = await crypto.subtle.importKey("jwk", { kty, crv, x, y, d }, ES256, false, ["sign"]);
    const header = encodeObject({ alg: "ES256", typ: "JWT", kid });
    return {
      kid,
      async sign(claims) {
        const signed = `${header}.${encodeObject(claims)}`;
        const signature = await crypto.subtle.sign(ES256, key, encoder.encode(signed));
        return `${signed}.${encodeBase64url(new Uint8Array(signature))}`;
      },
    };
  } catch {
    return null;
  }
}
