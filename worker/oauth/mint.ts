/**
 * From a grant, as the object of its user just told it, to a token: the one place in the edge where session tokens,
 * tokens for resource servers and cookies are written. A token is a window in its grant and never outlives it. What it
 * says comes from the grant alone, never from a request.
 */
import { makeCallId, toEpochMs, toEpochSeconds, type EpochMs, type EpochSeconds } from "../../core/ids.ts";
import { COOKIE_LIFE_SECONDS, FOREIGN_AUDIENCE_LIFE_MAX_SECONDS, TOKEN_LIFE_MAX_SECONDS } from "../../core/limits.ts";
import { nestActors } from "../../core/token/chain.ts";
import { audienceTokenKey, tokenExpiry, type TokenKey } from "../../core/token/keyring.ts";
import { formatScope } from "../../core/token/scope.ts";
import type { GrantView } from "../../core/wire/answers.ts";
import type { Edge } from "../env.ts";

export interface MintedToken {
  readonly token: string;
  readonly expires: EpochSeconds;
  readonly expiresAt: EpochMs;
  readonly expiresInSeconds: number;
}

async function mint(
  edge: Edge,
  key: TokenKey,
  lifeSeconds: number,
  grant: GrantView,
  now: EpochMs,
): Promise<MintedToken> {
  const iat = toEpochSeconds(now);
  const exp = tokenExpiry(iat, lifeSeconds, grant.expires);
  const act = nestActors(grant.actors);
  const token = await key.mint({
    sub: grant.subject,
    iat,
    exp,
    jti: makeCallId(edge.random),
    gid: grant.path,
    scope: formatScope(grant.scope),
    client_id: grant.clientId,
    ...(act === undefined ? {} : { act }),
    ...(grant.agents === null ? {} : { agents: grant.agents }),
    tier: grant.tier,
  });
  return { token, expires: exp, expiresAt: toEpochMs(exp), expiresInSeconds: exp - iat };
}

/** A session token of at most an hour; for a resource server's audience under that audience's key, of five minutes. */
export async function grantToken(edge: Edge, grant: GrantView, now: EpochMs): Promise<MintedToken> {
  if (grant.audience === null) return mint(edge, edge.sessionKey, TOKEN_LIFE_MAX_SECONDS, grant, now);
  const key = await audienceTokenKey(edge.secrets, edge.issuer, grant.audience);
  return mint(edge, key, FOREIGN_AUDIENCE_LIFE_MAX_SECONDS, grant, now);
}

/** A person's cookie: under a key of its own, so that nothing takes it for a Bearer. */
export function grantCookie(edge: Edge, grant: GrantView, now: EpochMs): Promise<MintedToken> {
  return mint(edge, edge.cookieKey, COOKIE_LIFE_SECONDS, grant, now);
}
