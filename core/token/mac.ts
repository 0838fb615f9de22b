/**
 * Keys and the chain of HMACs (DESIGN.md §3). One root secret; every key is HKDF-SHA256 of it under a label, so that no
 * key serves two purposes and a resource server that holds its audience's key can forge for nobody else.
 *
 *   sig0 = HMAC(K, "header.payload")   sig1 = HMAC(sig0, "block1")   sig2 = HMAC(sig1, "block2")
 *
 * Nothing here remembers a key or a promise; the shell keeps the values it derived.
 */
import { decodeBase64url, encodeBase64url } from "../base64url.ts";
import { passingBytes } from "../utf8.ts";

const HMAC_SHA256 = { name: "HMAC", hash: "SHA-256" } as const;
const NO_SALT = new Uint8Array(0);
const encoder = new TextEncoder();

export const SECRET_BYTES = 32;
export const SIGNATURE_LENGTH = 43; // 32 bytes in base64url

/** 32 bytes that must never be printed. `JSON.stringify`, template strings and loggers see `[secret]`. */
export class Secret {
  readonly #bytes: Uint8Array<ArrayBuffer>;
  constructor(bytes: Uint8Array<ArrayBuffer>) {
    this.#bytes = bytes;
  }
  /** Named so that each use stands out in a review. */
  revealBytes(): Uint8Array<ArrayBuffer> {
    return this.#bytes;
  }
  toString(): string {
    return "[secret]";
  }
  toJSON(): string {
    return "[secret]";
  }
}

/**
 * @param text a configured secret: 32 random bytes in canonical base64url
 * @returns the secret, or null for anything shorter, longer, misspelt, or plainly not random
 */
export function parseSecret(text: string): Secret | null {
  const bytes = decodeBase64url(text);
  if (bytes === null || bytes.length !== SECRET_BYTES) return null;
  // 32 random bytes have fewer than 16 distinct values once in 10^14 draws; "AAAA…" and typed phrases fail here.
  return new Set(bytes).size >= 16 ? new Secret(bytes) : null;
}

/** Labels of HKDF. Their strings are part of the format. */
export const LABEL = {
  audience: (audience: string) => `legate/1/aud/${audience}`,
  cookie: "legate/1/use/cookie",
  identity: (worker: string) => `legate/1/use/identity/${worker}`,
  connection: "legate/1/use/connection",
  cursor: "legate/1/use/cursor",
  device: "legate/1/use/device",
  credentials: "legate/1/use/credentials",
  ticket: "legate/1/use/ticket",
  kid: "legate/1/use/kid",
} as const;

/**
 * HKDF-SHA256 (RFC 5869), empty salt.
 *
 * @returns 32 bytes for that label alone
 */
export async function deriveBytes(secret: Secret, label: string): Promise<Secret> {
  const root = await crypto.subtle.importKey("raw", secret.revealBytes(), "HKDF", false, ["deriveBits"]);
  const bits = await crypto.subtle.deriveBits(
    { name: "HKDF", hash: "SHA-256", salt: NO_SALT, info: encoder.encode(label) },
    root,
    SECRET_BYTES * 8,
  );
  return new Secret(new Uint8Array(bits));
}

/** Names a root secret in headers without telling anything of it: eight characters of a derived value. */
export async function keyIdOf(secret: Secret): Promise<string> {
  return encodeBase64url((await deriveBytes(secret, LABEL.kid)).revealBytes()).slice(0, 8);
}

/** An imported key, under whichever name the platform's types know it. */
export type MacKey = Awaited<ReturnType<typeof crypto.subtle.importKey>>;

export function importMacKey(bytes: Uint8Array<ArrayBuffer>): Promise<MacKey> {
  return crypto.subtle.importKey("raw", bytes, HMAC_SHA256, false, ["sign", "verify"]);
}

/** @param message text, or the bytes of it */
export async function hmac(key: MacKey, message: string | Uint8Array<ArrayBuffer>): Promise<Uint8Array<ArrayBuffer>> {
  // WebCrypto copies what it is given before it returns (§14.3.3).
  const bytes = typeof message === "string" ? passingBytes(message) : message;
  return new Uint8Array(await crypto.subtle.sign("HMAC", key, bytes));
}

/** Constant-time comparison by the platform. */
export function hmacMatches(
  key: MacKey,
  signature: Uint8Array<ArrayBuffer>,
  message: string | Uint8Array<ArrayBuffer>,
): Promise<boolean> {
  return crypto.subtle.verify("HMAC", key, signature, typeof message === "string" ? passingBytes(message) : message);
}

/**
 * Walks the chain and compares its end with what was sent.
 *
 * @param key of the audience
 * @param head the bytes of `header.payload`
 * @param blocks as they stand in the token, in order
 */
export function chainMatches(
  key: MacKey,
  head: Uint8Array<ArrayBuffer>,
  blocks: readonly Uint8Array<ArrayBuffer>[],
  signature: Uint8Array<ArrayBuffer>,
): Promise<boolean> {
  return blocks.length === 0 ? hmacMatches(key, signature, head) : narrowedChainMatches(key, head, blocks, signature);
}

async function narrowedChainMatches(
  key: MacKey,
  head: Uint8Array<ArrayBuffer>,
  blocks: readonly Uint8Array<ArrayBuffer>[],
  signature: Uint8Array<ArrayBuffer>,
): Promise<boolean> {
  let link = key;
  let message = head;
  for (const block of blocks) {
    link = await importMacKey(new Uint8Array(await crypto.subtle.sign("HMAC", link, message)));
    message = block;
  }
  return hmacMatches(link, signature, message);
}
