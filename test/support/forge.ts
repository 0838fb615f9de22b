// A second implementation of the token's bytes, in node:crypto and Buffer alone: what core/ writes must be what this
// writes, and what this forges core/ must refuse. It checks nothing, so it can sign what no issuer would.
import { createHash, createHmac, hkdfSync } from "node:crypto";
import type { IdMac, RandomBytes } from "../../core/ids.ts";

export const base64url = (bytes: Uint8Array | string): string => Buffer.from(bytes as string).toString("base64url");

/** HKDF-SHA256, empty salt, 32 bytes. */
export const derive = (secret: Uint8Array, label: string): Buffer =>
  Buffer.from(hkdfSync("sha256", secret, new Uint8Array(0), label, 32));

export const kidOf = (secret: Uint8Array): string => base64url(derive(secret, "legate/1/use/kid")).slice(0, 8);

/** A secret or a key that is the same in every run and has no pattern. */
export const fixedBytes = (name: string): Buffer => createHash("sha256").update(`legate test bytes: ${name}`).digest();

/** The same bytes in every run: SHA-256 of a seed and a counter. */
export function seededRandom(seed: string): RandomBytes {
  let counter = 0;
  return (length) => {
    const bytes = new Uint8Array(length);
    for (let at = 0; at < length; at += 32) {
      bytes.set(
        createHash("sha256")
          .update(`${seed}/${counter++}`)
          .digest()
          .subarray(0, length - at),
        at,
      );
    }
    return bytes;
  };
}

export const idMacOf =
  (key: Uint8Array): IdMac =>
  (text) =>
    createHmac("sha256", key).update(text).digest();

/** Signs whatever segments it is given. */
export function signSegments(key: Uint8Array, header: string, payload: string, blocks: readonly string[] = []): string {
  let link = createHmac("sha256", key).update(`${header}.${payload}`).digest();
  for (const block of blocks) link = createHmac("sha256", link).update(block).digest();
  return [header, payload, ...blocks, base64url(link)].join(".");
}

const json = (value: unknown): string => (typeof value === "string" ? value : JSON.stringify(value));

/** Signs a header, claims and blocks; a string stands for JSON text that is to be taken as it is. */
export function forge(key: Uint8Array, header: unknown, claims: unknown, blocks: readonly unknown[] = []): string {
  const segment = (value: unknown): string => base64url(json(value));
  return signSegments(key, segment(header), segment(claims), blocks.map(segment));
}

/** What a holder can do without any key: append a segment to a token, whatever it says. */
export function append(token: string, segment: string): string {
  const dot = token.lastIndexOf(".");
  const link = createHmac("sha256", Buffer.from(token.slice(dot + 1), "base64url"))
    .update(segment)
    .digest();
  return `${token.slice(0, dot)}.${segment}.${base64url(link)}`;
}
