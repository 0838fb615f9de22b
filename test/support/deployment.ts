// One fixed deployment for the tests of core/: secrets, ids and a clock that never change, so that a failure replays and
// vectors are the same bytes everywhere.
import {
  makeOwnedId,
  makeUserId,
  type AgentId,
  type EpochSeconds,
  type NodePath,
  type SessionId,
  type UserId,
} from "../../core/ids.ts";
import type { TokenClaims } from "../../core/token/format.ts";
import {
  audienceTokenKey,
  cookieTokenKey,
  liveSecrets,
  sessionTokenKey,
  type TokenKey,
} from "../../core/token/keyring.ts";
import { Secret } from "../../core/token/mac.ts";
import { fixedBytes, idMacOf, seededRandom } from "./forge.ts";

export const ISSUER = "https://legate.example.com";
export const AUDIENCE = "https://api.example.com";
export const OTHER_AUDIENCE = "https://api.example.com/v2";
export const NOW = 1_800_000_000 as EpochSeconds;

/** Current, also live, and one that was rotated out. */
export const SECRETS = { current: fixedBytes("current"), also: fixedBytes("also"), gone: fixedBytes("gone") };
export const ID_KEY = fixedBytes("id key");
export const idMac = idMacOf(ID_KEY);
const random = seededRandom("deployment");

export const ALICE: UserId = makeUserId(random, idMac);
export const BOB: UserId = makeUserId(random, idMac);
export const PLANNER: AgentId = makeOwnedId("agt", ALICE, random, idMac);
export const SEARCHER: AgentId = makeOwnedId("agt", ALICE, random, idMac);
export const BOBS_AGENT: AgentId = makeOwnedId("agt", BOB, random, idMac);
export const SESSION: SessionId = makeOwnedId("ses", ALICE, random, idMac);
export const BOBS_SESSION: SessionId = makeOwnedId("ses", BOB, random, idMac);

export const toSecret = (bytes: Uint8Array): Secret => new Secret(new Uint8Array(bytes));
const live = await liveSecrets([toSecret(SECRETS.current), toSecret(SECRETS.also)]);

export const KEYS: Readonly<Record<"session" | "cookie" | "audience" | "other", TokenKey>> = {
  session: await sessionTokenKey(live, ISSUER),
  cookie: await cookieTokenKey(live, ISSUER),
  audience: await audienceTokenKey(live, ISSUER, AUDIENCE),
  other: await audienceTokenKey(live, ISSUER, OTHER_AUDIENCE),
};
export type VerifierName = keyof typeof KEYS;

export type PlainClaims = Omit<TokenClaims, "iss" | "aud">;

/** `user -> planner[read write search]`, an hour long (five minutes where it is for an audience). */
export function claimsOf(changes: Partial<Record<keyof TokenClaims, unknown>> = {}): PlainClaims {
  return {
    sub: ALICE,
    iat: NOW,
    exp: NOW + 300,
    jti: "AAAAAAAAAAAAAAAAAAAAAA",
    gid: SESSION as string as NodePath,
    scope: "read write search",
    client_id: PLANNER,
    act: { sub: PLANNER },
    ...changes,
  } as PlainClaims;
}
