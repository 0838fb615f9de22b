/**
 * Opens the identity envelope of one request, at the agent's own door. The gate has checked the token; this checks that
 * it was the gate which asked, for this very object, method and path, and that the envelope has not ended. Whatever is
 * wrong is the same null: a caller that has no envelope learns nothing from the answer.
 */
import { decodeBase64url } from "../../core/base64url.ts";
import type { EpochMs } from "../../core/ids.ts";
import {
  DELEGATION_HEADER,
  IDENTITY_HEADER,
  importIdentityKey,
  openIdentity,
  type Identity,
  type IdentityKey,
} from "../../core/wire/identity.ts";
import { isInternalHeader } from "../../core/wire/http.ts";

/** The secrets of an agents' Worker: its current key, and while it is rotated the one that comes or goes. */
export interface IdentitySecrets {
  readonly LEGATE_IDENTITY_KEY?: string;
  readonly LEGATE_IDENTITY_KEY_ALSO?: string;
}

export interface Opened {
  readonly identity: Identity;
  /** As it was sent: what `connect` and `settle` take as proof of who serves the call. */
  readonly envelope: string;
  /** The gate's token for the agent's own calls; null where its entry may call nobody. */
  readonly delegation: string | null;
}

/**
 * @returns the keys that are set
 * @throws Error when one is set and is no key, or none is: an agent without a key must not start
 */
export async function importKeys(secrets: IdentitySecrets): Promise<readonly IdentityKey[]> {
  const keys: IdentityKey[] = [];
  for (const text of [secrets.LEGATE_IDENTITY_KEY, secrets.LEGATE_IDENTITY_KEY_ALSO]) {
    if (text === undefined || text === "") continue;
    const bytes = decodeBase64url(text);
    if (bytes === null || bytes.length !== 32) throw new Error("LEGATE_IDENTITY_KEY is not 32 bytes in base64url");
    keys.push(await importIdentityKey(bytes));
  }
  if (keys.length === 0) throw new Error("LEGATE_IDENTITY_KEY is not set; npm run keys -- identity <worker> prints it");
  return keys;
}

/**
 * @param object name of the Durable Object that was asked
 * @returns what the gate says of the call, or null unless it says it of exactly this request to exactly this object
 */
export async function openEnvelope(
  request: Request,
  keys: readonly IdentityKey[],
  object: string | undefined,
  now: EpochMs,
): Promise<Opened | null> {
  const envelope = request.headers.get(IDENTITY_HEADER);
  if (envelope === null || object === undefined) return null;
  const identity = await openIdentity(envelope, keys, now);
  if (identity === null || identity.method !== request.method) return null;
  const { pathname, search } = new URL(request.url);
  if (identity.path !== pathname + search) return null;
  if (object !== `${identity.subject}.${identity.instance}` && object !== `shared.${identity.instance}`) return null;
  return { identity, envelope, delegation: request.headers.get(DELEGATION_HEADER) };
}

/**
 * The request as the agent's own code sees it: without Legate's headers, so that none is logged or passed on by
 * accident, and without those by which the base class would take orders.
 */
export function withoutInternals(request: Request, url: string = request.url): Request {
  const clean = new Request(url, request);
  for (const name of [...clean.headers.keys()]) if (isInternalHeader(name)) clean.headers.delete(name);
  return clean;
}
