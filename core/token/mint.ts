/**
 * Writing tokens: `mintToken` for whoever holds an audience's key, `narrowToken` for whoever holds a token. Narrowing
 * asks nobody and can only take away.
 */
import { encodeBase64url, decodeBase64url } from "../base64url.ts";
import type { RandomBytes } from "../ids.ts";
import { makeSegment } from "../ids.ts";
import { BLOCKS_MAX, TOKEN_LENGTH_MAX_BYTES } from "../limits.ts";
import { encodeBlock, type Block } from "./block.ts";
import { encodeObject, headerSegment, splitToken, type TokenClaims } from "./format.ts";
import { hmac, importMacKey, type MacKey } from "./mac.ts";

/**
 * @param key of the audience that `claims.aud` names
 * @param kid of the root secret that the key was derived from
 * @returns a plain session token: an RFC 9068 JWT
 */
export async function mintToken(key: MacKey, kid: string, claims: TokenClaims): Promise<string> {
  const head = `${headerSegment(kid)}.${encodeObject(claims)}`;
  return `${head}.${encodeBase64url(await hmac(key, head))}`;
}

/** What a holder may take away; `n` is drawn where it is not given (give the same one again after renewing). */
export type Narrowing = Omit<Block, "n"> & { readonly n?: string };

/**
 * @param text a token that its holder may use; one that ends in a named delegation can't be narrowed further
 * @param narrowing scope, agents, exp (epoch seconds), budget (micros), and one of `act` or `for`
 * @returns the narrowed token, acceptable to every verifier that would accept the first
 * @throws TypeError when the text is no token, the block no block, or the result longer than any verifier takes
 */
export async function narrowToken(text: string, narrowing: Narrowing, random: RandomBytes): Promise<string> {
  const parts = splitToken(text);
  const signature = parts === null ? null : decodeBase64url(parts.signature);
  if (parts === null || signature === null) throw new TypeError("not a Legate session token");
  if (parts.blocks.length >= BLOCKS_MAX) throw new TypeError(`a token carries at most ${BLOCKS_MAX} blocks`);
  const block = encodeBlock({ ...narrowing, n: narrowing.n ?? makeSegment(random) });
  const link = await hmac(await importMacKey(signature), block);
  const narrowed = `${text.slice(0, text.lastIndexOf("."))}.${block}.${encodeBase64url(link)}`;
  if (narrowed.length > TOKEN_LENGTH_MAX_BYTES)
    throw new TypeError(`a token is at most ${TOKEN_LENGTH_MAX_BYTES} bytes long`);
  return narrowed;
}
