/** Keys of the tour's agents: made anew for each run, kept in memory alone. */

import type { ClientKey } from "../../sdk/client.ts";

/** A public JWK, with just the members of its kind. */
export interface PublicJwk {
  readonly kty: string;
  readonly crv: string;
  readonly x: string;
  readonly y?: string;
}

export interface KeyPair {
  readonly privateKey: ClientKey;
  readonly publicJwk: PublicJwk;
}

/** @param kind both that Legate takes: the tour shows one of each */
export async function makeKey(kind: "ES256" | "Ed25519"): Promise<KeyPair> {
  const algorithm = kind === "ES256" ? { name: "ECDSA", namedCurve: "P-256" } : { name: "Ed25519" };
  const pair = await crypto.subtle.generateKey(algorithm, false, ["sign", "verify"]);
  if (!("privateKey" in pair)) throw new Error("not a key pair");
  const { kty, crv, x, y } = (await crypto.subtle.exportKey("jwk", pair.publicKey)) as PublicJwk;
  return { privateKey: pair.privateKey, publicJwk: { kty, crv, x, ...(y === undefined ? {} : { y }) } };
}
