// Secrets of the tests: fixed, so that a failure replays, and as varied as random ones, for a weak secret is refused.
// LEGATE_IDENTITY_KEY is derived from LEGATE_SECRET by the same function that makes the development secrets.
import { createECDH, createHash } from "node:crypto";
import { deriveIdentityKey } from "../../scripts/lib/dev-env.mjs";

const fixed = (name: string): string => createHash("sha256").update(`legate test ${name}`).digest("base64url");

const LEGATE_SECRET = fixed("secret");

/** A private ES256 key of a name, always the same. */
export function fixedOidcKey(name: string): Record<string, string> {
  const pair = createECDH("prime256v1");
  const d = Buffer.from(fixed(name), "base64url");
  pair.setPrivateKey(d);
  const point = pair.getPublicKey();
  const [x, y] = [point.subarray(1, 33), point.subarray(33)].map((part) => part.toString("base64url")) as [
    string,
    string,
  ];
  return { kty: "EC", crv: "P-256", x, y, d: d.toString("base64url"), kid: name, alg: "ES256", use: "sig" };
}

/** LEGATE_OIDC_KEYS of the tests in workerd; deployments of other layers bring their own. */
export const TEST_OIDC_KEYS = JSON.stringify([fixedOidcKey("oidc-1"), fixedOidcKey("oidc-2")]);

export const TEST_SECRETS = {
  LEGATE_SECRET,
  LEGATE_ID_KEY: fixed("id"),
  LEGATE_SECRET_ALSO: "",
  // A code is good for a day from the second that it begins with.
  LEGATE_BOOTSTRAP: `${Math.floor(Date.now() / 1000)}.test-bootstrap-code-000001`,
};

export const TEST_IDENTITY_KEY = deriveIdentityKey(LEGATE_SECRET, "legate-agents");
