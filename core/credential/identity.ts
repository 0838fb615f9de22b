/**
 * What Legate says of a caller to a cloud: the claims of a web-identity JWT, of at most five minutes and one audience.
 * `sub` is the user's id and the role, nothing personal. The session tags show the chain in the cloud's own logs; links
 * below the nearest proven agent are left out, so that bearer links share their ancestor's credential.
 */
import { sessionOf, type EpochSeconds, type NodePath, type UserId } from "../ids.ts";
import { WEB_IDENTITY_LIFE_SECONDS } from "../limits.ts";
import type { ActorLink } from "../token/chain.ts";
import type { Role } from "./roles.ts";

export interface Tags {
  readonly "legate-root-agent": string;
  readonly "legate-agent": string;
  readonly "legate-session": string;
  readonly "legate-grant": string;
}

const TAG_LENGTH_MAX = 256;

/** AWS takes letters, digits, spaces and `_.:/=+-@` in a tag; `~`, of nodes behind the gate, becomes `@`. */
export function tagValue(text: string): string {
  return text.replaceAll("~", "@").slice(-TAG_LENGTH_MAX);
}

/** @param grant the recorded node that the credential belongs to */
export function tagsOf(user: UserId, actors: readonly ActorLink[], grant: NodePath): Tags {
  const proven = actors.filter((link) => link.proven);
  return {
    "legate-root-agent": tagValue(proven[0]?.sub ?? user),
    "legate-agent": tagValue(proven.at(-1)?.sub ?? user),
    "legate-session": tagValue(sessionOf(grant)),
    "legate-grant": tagValue(grant),
  };
}

export function subjectOf(user: UserId, role: Role): string {
  return `${user}:${role.scope}`;
}

/** @see AWS IAM, "Passing session tags using AssumeRoleWithWebIdentity" */
export function webIdentityClaims(given: {
  readonly issuer: string;
  readonly role: Role;
  readonly user: UserId;
  readonly tags: Tags;
  readonly jti: string;
  readonly now: EpochSeconds;
}): Record<string, unknown> {
  const { issuer, role, user, tags, jti, now } = given;
  const claims = {
    iss: issuer,
    sub: subjectOf(user, role),
    aud: role.audience,
    iat: now,
    exp: now + WEB_IDENTITY_LIFE_SECONDS,
    jti,
  };
  if (role.provider === "azure") return claims;
  return {
    ...claims,
    "https://aws.amazon.com/tags": {
      principal_tags: Object.fromEntries(Object.entries(tags).map(([name, value]) => [name, [value]])),
      transitive_tag_keys: Object.keys(tags),
    },
    "https://aws.amazon.com/source_identity": user,
  };
}
