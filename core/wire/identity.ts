/**
 * The identity envelope: what the gate tells an agent about one call, signed under a key that is derived for that
 * agent's Worker (DESIGN.md §2). `kid.payload.signature`; it ends with the slice that admitted the call plus the slack.
 * The mixin checks it again, and the authority takes it as proof of who serves the call.
 */
import { decodeBase64url } from "../base64url.ts";
import type { Level, Tier } from "../config.ts";
import type { CallId, EpochMs, HoldId, Micros, NodePath, SessionId, Slug, UserId } from "../ids.ts";
import type { ActorLink } from "../token/chain.ts";
import { decodeObject, encodeObject } from "../token/format.ts";
import { hmac, hmacMatches, importMacKey, type MacKey } from "../token/mac.ts";
import { encodeBase64url } from "../base64url.ts";

export const IDENTITY_HEADER = "legate-identity";
export const DELEGATION_HEADER = "legate-delegation";

export interface Identity {
  readonly subject: UserId;
  readonly tier: Tier;
  /** Root → current. */
  readonly actors: readonly ActorLink[];
  readonly session: SessionId;
  readonly node: NodePath;
  readonly scope: readonly string[];
  /** Slugs that the chain may still call; null is no caveat. What a delegation of this agent's carries is less. */
  readonly agents: readonly string[] | null;
  /** Micros left at the binding node; null where nothing caps it. */
  readonly remaining: Micros | null;
  readonly callId: CallId;
  /** The hold row of this call; null where the entry is counted from a slice. */
  readonly hold: HoldId | null;
  readonly held: Micros;
  readonly level: Level;
  readonly traceparent: string;
  readonly slug: Slug;
  readonly instance: string;
  readonly worker: string;
  readonly method: string;
  /** Path and query as the agent sees them. */
  readonly path: string;
  /** The chain's own end: a socket closes then unless renewed. */
  readonly tokenExpires: EpochMs;
  /** After this the agent serves and registers nothing of the call. */
  readonly expires: EpochMs;
}

export interface IdentityKey {
  readonly kid: string;
  readonly key: MacKey;
}

/** @param bytes of `deriveBytes(secret, LABEL.identity(worker))`, as in that Worker's `LEGATE_IDENTITY_KEY` */
export async function importIdentityKey(bytes: Uint8Array<ArrayBuffer>): Promise<IdentityKey> {
  const key = await importMacKey(bytes);
  // The key names itself: eight characters of a MAC that nothing else computes.
  return { kid: encodeBase64url(await hmac(key, "legate/1/identity/kid")).slice(0, 8), key };
}

export async function sealIdentity(key: IdentityKey, identity: Identity): Promise<string> {
  const head = `${key.kid}.${encodeObject(identity)}`;
  return `${head}.${encodeBase64url(await hmac(key.key, head))}`;
}

/**
 * @param text the header's value
 * @param keys that this Worker has: its current one, and the one it is rotating from or to
 * @returns the identity, or null unless a key of this Worker signed exactly these bytes and it has not ended
 */
export async function openIdentity(text: string, keys: readonly IdentityKey[], now: EpochMs): Promise<Identity | null> {
  const [kid, payload, signature, ...rest] = text.split(".");
  const found = keys.find((key) => key.kid === kid);
  const mac = signature === undefined ? null : decodeBase64url(signature);
  if (found === undefined || payload === undefined || mac === null || rest.length > 0) return null;
  if (!(await hmacMatches(found.key, mac, `${kid}.${payload}`))) return null;
  const identity = decodeObject(payload)?.value as unknown as Identity | undefined;
  return identity !== undefined && identity.expires > now ? identity : null;
}
