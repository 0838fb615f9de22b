/**
 * The grammar of a token (docs/token.md). Splitting decides nothing: what comes out is unsafe until its MAC is checked.
 */
import { decodeBase64url, encodeBase64url } from "../base64url.ts";
import type { EpochSeconds } from "../ids.ts";
import { TOKEN_LENGTH_MAX_BYTES } from "../limits.ts";
import type { Tier } from "../config.ts";
import { passingBytes } from "../utf8.ts";
import { SIGNATURE_LENGTH } from "./mac.ts";

const decoder = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true });
const encoder = new TextEncoder();

/** RFC 8693 §4.1, outermost the current actor. `proven: false` marks a bearer link, which no key vouches for. */
export interface ActClaim {
  readonly sub: string;
  readonly proven?: false;
  readonly act?: ActClaim;
}

/** RFC 9068 §2.2 and ours. `client_id` is the current actor; `act` is absent where a person acts in person, and then it is `sub`. */
export interface TokenClaims {
  readonly iss: string;
  readonly aud: string;
  readonly sub: string;
  readonly iat: EpochSeconds;
  readonly exp: EpochSeconds;
  readonly jti: string;
  readonly gid: string;
  readonly scope: string;
  readonly client_id: string;
  readonly act?: ActClaim;
  readonly agents?: readonly string[];
  readonly tier?: Tier;
  readonly cnf?: object;
}

/** What was sent, cut at its dots, nothing of it believed. */
export interface UnsafeParts {
  readonly header: string;
  readonly payload: string;
  readonly blocks: readonly string[];
  readonly signature: string;
}

/** The same cuts in the token's bytes: what the MACs are computed over is what is read. */
export interface UnsafeBytes {
  /** `header.payload` */
  readonly head: Uint8Array<ArrayBuffer>;
  readonly payload: Uint8Array<ArrayBuffer>;
  readonly blocks: readonly Uint8Array<ArrayBuffer>[];
  readonly signature: Uint8Array<ArrayBuffer>;
}

/** The one header a key may have, as it stands in a token: looked up whole, so that `alg`, `typ` and the rest are never read. */
export function headerSegment(kid: string): string {
  return encodeBase64url(encoder.encode(`{"alg":"HS256","typ":"at+jwt","kid":"${kid}"}`));
}

/** @returns the parts, or null when the length or the number of parts rules a token out */
export function splitToken(text: string): UnsafeParts | null {
  if (text.length > TOKEN_LENGTH_MAX_BYTES) return null;
  const first = text.indexOf(".");
  const second = text.indexOf(".", first + 1);
  const last = text.lastIndexOf(".");
  if (first <= 0 || second <= first + 1 || text.length - last - 1 !== SIGNATURE_LENGTH) return null;
  const blocks = second === last ? [] : text.slice(second + 1, last).split(".");
  return {
    header: text.slice(0, first),
    payload: text.slice(first + 1, second),
    blocks,
    signature: text.slice(last + 1),
  };
}

/**
 * Tokens' bytes are cut from a slab, because an array of its own costs more than writing it. No place is ever used twice:
 * a slab that is full is left to those who hold a piece of it.
 */
const SLAB_BYTES = 65_536;
let slab = new Uint8Array(SLAB_BYTES);
let slabUsed = 0;

/**
 * @param parts of that very text
 * @returns null where the text has a character outside ASCII: characters and bytes must be the same places
 */
export function bytesOf(text: string, { header, payload, blocks }: UnsafeParts): UnsafeBytes | null {
  if (slabUsed + TOKEN_LENGTH_MAX_BYTES * 3 > slab.length) {
    slab = new Uint8Array(SLAB_BYTES);
    slabUsed = 0;
  }
  const { written } = encoder.encodeInto(text, slab.subarray(slabUsed));
  if (written !== text.length) return null;
  const bytes = slab.subarray(slabUsed, slabUsed + written);
  slabUsed += written;
  let at = header.length + 1 + payload.length;
  const head = bytes.subarray(0, at);
  const cuts: Uint8Array<ArrayBuffer>[] = [];
  for (const block of blocks) {
    cuts.push(bytes.subarray(at + 1, at + 1 + block.length));
    at += 1 + block.length;
  }
  return {
    head,
    payload: bytes.subarray(header.length + 1, head.length),
    blocks: cuts,
    signature: bytes.subarray(at + 1),
  };
}

/**
 * Where a segment's JSON is written before it becomes text. Shared, because an array of its own is a third of the cost
 * of a segment; used and done with inside one synchronous call, so no two tokens ever meet in it.
 */
const scratch = new Uint8Array(TOKEN_LENGTH_MAX_BYTES);

/**
 * @param segment base64url, as text or as the bytes of that text
 * @returns the JSON object in it, or null; duplicates in it are not found here (see `block.ts`)
 */
export function decodeObject(
  segment: string | Uint8Array,
): { readonly json: string; readonly value: Record<string, unknown> } | null {
  const bytes = decodeBase64url(segment, segment.length <= TOKEN_LENGTH_MAX_BYTES ? scratch : undefined);
  if (bytes === null) return null;
  try {
    const json = decoder.decode(bytes);
    const value: unknown = JSON.parse(json);
    if (typeof value !== "object" || value === null || Array.isArray(value)) return null;
    return { json, value: value as Record<string, unknown> };
  } catch {
    return null; // not UTF-8, or not JSON: what it was teaches nobody anything
  }
}

export function encodeObject(value: object): string {
  return encodeBase64url(passingBytes(JSON.stringify(value)));
}
