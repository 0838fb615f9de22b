// Keys that sign web-identity tokens: private JWKs for LEGATE_OIDC_KEYS. Each carries a certificate of itself, signed by
// itself (RFC 7517 §4.7): AWS needs none, Ceph takes no key without one. Nobody trusts it for anything else.
import { createHash, generateKeyPairSync, randomBytes, sign } from "node:crypto";

/** DER, as much of it as one certificate needs (ITU-T X.690). */
const der = (tag, ...parts) => {
  const body = Buffer.concat(parts);
  const { length } = body;
  const head = length < 128 ? [length] : length < 256 ? [0x81, length] : [0x82, length >> 8, length & 255];
  return Buffer.concat([Buffer.from([tag, ...head]), body]);
};
const SEQUENCE = 0x30;
const ECDSA_SHA256 = der(SEQUENCE, der(0x06, Buffer.from("2a8648ce3d040302", "hex")));
const COMMON_NAME = der(0x06, Buffer.from("550403", "hex"));
const named = (name) => der(SEQUENCE, der(0x31, der(SEQUENCE, COMMON_NAME, der(0x0c, Buffer.from(name)))));
const FROM = der(0x18, Buffer.from("20250101000000Z"));
const FOR_EVER = der(0x18, Buffer.from("99991231235959Z")); // RFC 5280 §4.1.2.5: no expiry; the key is retired, not the paper

function certificate(publicKey, privateKey, name) {
  const serial = Buffer.concat([Buffer.from([1]), randomBytes(15)]);
  const tbs = der(
    SEQUENCE,
    der(0xa0, der(0x02, Buffer.from([2]))),
    der(0x02, serial),
    ECDSA_SHA256,
    named(name),
    der(SEQUENCE, FROM, FOR_EVER),
    named(name),
    publicKey.export({ type: "spki", format: "der" }),
  );
  const signature = sign("sha256", tbs, { key: privateKey, dsaEncoding: "der" });
  return der(SEQUENCE, tbs, ECDSA_SHA256, der(0x03, Buffer.from([0]), signature));
}

/**
 * A new ES256 key.
 * @returns {Record<string, unknown>} a private JWK
 */
export function newOidcKey() {
  const { publicKey, privateKey } = generateKeyPairSync("ec", { namedCurve: "P-256" });
  const { kty, crv, x, y, d } = privateKey.export({ format: "jwk" });
  // RFC 7638: the thumbprint names the key.
  const kid = createHash("sha256").update(JSON.stringify({ crv, kty, x, y })).digest("base64url").slice(0, 16);
  const x5c = [certificate(publicKey, privateKey, `Legate ${kid}`).toString("base64")];
  return { kty, crv, x, y, d, kid, alg: "ES256", use: "sig", x5c };
}

/**
 * One step of a rotation; each is a deploy. Whoever checks tokens must have seen a key before it signs.
 * @param {Record<string, unknown>[]} keys LEGATE_OIDC_KEYS, the one that signs first
 * @param {string} step prepare: a new key behind. activate: the newest in front. retire: all but the one in front gone.
 * @returns {Record<string, unknown>[] | null} null for a step there is none of
 */
export function rotated(keys, step) {
  if (step === "prepare") return [...keys, newOidcKey()];
  if (step === "activate") return keys.length < 2 ? null : [...keys.slice(-1), ...keys.slice(0, -1)];
  return step === "retire" ? keys.slice(0, 1) : null;
}
