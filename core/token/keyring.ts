/**
 * What a deployment's secrets give: one key per purpose and live secret. The first secret signs, both verify, which is
 * how a secret is rotated without a gap (DESIGN.md §3, Rotation). The shell keeps the value, never the promise of one:
 * a promise that another request began may never settle (workerd, connection reset).
 */
import { decodeBase64url, encodeBase64url } from "../base64url.ts";
import type { EpochSeconds } from "../ids.ts";
import { COOKIE_LIFE_SECONDS, FOREIGN_AUDIENCE_LIFE_MAX_SECONDS, TOKEN_LIFE_MAX_SECONDS } from "../limits.ts";
import { headerSegment, type TokenClaims } from "./format.ts";
import { deriveBytes, hmac, hmacMatches, importMacKey, keyIdOf, LABEL, type Secret, type MacKey } from "./mac.ts";
import { mintToken } from "./mint.ts";
import type { Verifier } from "./verify.ts";

export interface LiveSecret {
  readonly kid: string;
  readonly secret: Secret;
}

/** Signs and verifies one kind of token. */
export interface TokenKey {
  readonly verifier: Verifier;
  mint(claims: Omit<TokenClaims, "iss" | "aud">): Promise<string>;
}

/** Seals what only this deployment reads again: handles, tickets, cursors, devices. */
export interface SealKey {
  /** @returns the seal, base64url */
  seal(message: string): Promise<string>;
  /** Whether that is the seal of that message, under any live secret. */
  isSeal(seal: string, message: string): Promise<boolean>;
}

/** @param secrets the one that signs first, then those that only verify */
export function liveSecrets(secrets: readonly Secret[]): Promise<readonly LiveSecret[]> {
  return Promise.all(secrets.map(async (secret) => ({ kid: await keyIdOf(secret), secret })));
}

async function tokenKey(
  live: readonly LiveSecret[],
  label: string,
  issuer: string,
  audience: string,
  lifeMaxSeconds: number,
): Promise<TokenKey> {
  const keys = new Map<string, MacKey>();
  for (const { kid, secret } of live) {
    keys.set(headerSegment(kid), await importMacKey((await deriveBytes(secret, label)).revealBytes()));
  }
  const signer = live[0];
  if (signer === undefined) throw new TypeError("no signing secret");
  const signingKey = keys.get(headerSegment(signer.kid)) as MacKey;
  return {
    verifier: { issuer, audience, keys, lifeMaxSeconds },
    mint: (claims) => mintToken(signingKey, signer.kid, { iss: issuer, aud: audience, ...claims }),
  };
}

/** The issuer's own audience: what the gate and everything else of Legate's verifies with. */
export function sessionTokenKey(live: readonly LiveSecret[], issuer: string): Promise<TokenKey> {
  return tokenKey(live, LABEL.audience(issuer), issuer, issuer, TOKEN_LIFE_MAX_SECONDS);
}

/** A resource server's audience. */
export function audienceTokenKey(live: readonly LiveSecret[], issuer: string, audience: string): Promise<TokenKey> {
  return tokenKey(live, LABEL.audience(audience), issuer, audience, FOREIGN_AUDIENCE_LIFE_MAX_SECONDS);
}

/** A person's cookie: a token under a key of its own, so that it is never taken as a Bearer. */
export function cookieTokenKey(live: readonly LiveSecret[], issuer: string): Promise<TokenKey> {
  return tokenKey(live, LABEL.cookie, issuer, issuer, COOKIE_LIFE_SECONDS);
}

/** @param label of the purpose: no key serves two */
export async function sealKey(live: readonly LiveSecret[], label: string): Promise<SealKey> {
  const keys: MacKey[] = [];
  for (const { secret } of live) keys.push(await importMacKey((await deriveBytes(secret, label)).revealBytes()));
  const [first] = keys;
  if (first === undefined) throw new TypeError("no signing secret");
  return {
    seal: async (message) => encodeBase64url(await hmac(first, message)),
    async isSeal(seal, message) {
      const mac = decodeBase64url(seal);
      if (mac === null) return false;
      for (const key of keys) if (await hmacMatches(key, mac, message)) return true;
      return false;
    },
  };
}

/** The end of a new token: its window, or its grant's end if that comes first. */
export function tokenExpiry(now: EpochSeconds, lifeSeconds: number, grantExpires: EpochSeconds): EpochSeconds {
  return Math.min(now + lifeSeconds, grantExpires) as EpochSeconds;
}
