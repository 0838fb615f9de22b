/**
 * The hot path, as a list: split, find the key, count, check the chain of MACs, read the claims, read the blocks, check
 * the window. `verifyToken` never throws, reads no clock, and is given its keys before it is given a token: nothing in a
 * token chooses how the token is checked.
 */
import { decodeBase64url } from "../base64url.ts";
import { isTier, type Tier } from "../config.ts";
import type { Denial, TokenFault } from "../denial.ts";
import {
  childOf,
  depthOf,
  isEpochSeconds,
  isNodePath,
  isSlug,
  isUserId,
  sessionOf,
  type AgentId,
  type EpochSeconds,
  type Micros,
  type NodePath,
  type SessionId,
  type UserId,
} from "../ids.ts";
import {
  ACTORS_MAX,
  AGENTS_MAX,
  BLOCKS_MAX,
  CLOCK_SKEW_SECONDS,
  SEGMENTS_MAX,
  TOKEN_LENGTH_MAX_BYTES,
} from "../limits.ts";
import { err, ok, type Result } from "../result.ts";
import { contentOf, decodeBlock, type Block } from "./block.ts";
import { bearerLink, flattenAct, type ActorLink } from "./chain.ts";
import { bytesOf, decodeObject, splitToken, type TokenClaims } from "./format.ts";
import { chainMatches, type MacKey } from "./mac.ts";
import { meet, parseScope } from "./scope.ts";

/** What decides before any token is read: one issuer, one audience, its live keys. */
export interface Verifier {
  readonly issuer: string;
  readonly audience: string;
  /** The exact header segment of each live key (`headerSegment(kid)`). */
  readonly keys: ReadonlyMap<string, MacKey>;
  /** Longest `exp - iat` that this kind of token is minted with, in seconds. */
  readonly lifeMaxSeconds: number;
}

/** A node that a block of this token names: what the authority records when it first hears of it. */
export interface Segment {
  readonly path: NodePath;
  readonly content: string;
  readonly exp: EpochSeconds;
  readonly budget: Micros | null;
}

/** A token whose every MAC was checked. Rights are the meet of the whole chain. */
export interface VerifiedToken {
  readonly subject: UserId;
  readonly tier: Tier;
  /** The current proven actor of the plain token: `agt_…`, `<issuer>/agents/<slug>`, or the subject in person. */
  readonly clientId: string;
  readonly session: SessionId;
  /** The grant's path, as minted. */
  readonly grant: NodePath;
  /** The node that this token acts for: the grant's path and the blocks'. */
  readonly node: NodePath;
  /** Root → current; empty where a person acts in person. */
  readonly actors: readonly ActorLink[];
  readonly scope: ReadonlySet<string>;
  /** Slugs that may be called; null is no caveat. */
  readonly agents: ReadonlySet<string> | null;
  /** The end of this token: its window, or a caveat's `exp` if that comes first. */
  readonly exp: EpochSeconds;
  /** The least `exp` of the blocks alone: binds what is redeemed from here, as the window does not. */
  readonly caveatExp: EpochSeconds | null;
  readonly segments: readonly Segment[];
  /** Set when the last block is a named delegation: good for redeeming alone. */
  readonly delegatedTo: AgentId | null;
}

const CLAIMS = new Set([
  "iss",
  "aud",
  "sub",
  "iat",
  "exp",
  "jti",
  "gid",
  "scope",
  "client_id",
  "act",
  "agents",
  "tier",
  "cnf",
]);

function invalid(fault: TokenFault): Result<never, Denial> {
  return err({ reason: "token_invalid", fault });
}

/**
 * Checks a plain or narrowed token.
 *
 * @param text the token as it was sent
 * @param verifier issuer, audience and keys, chosen before the token is read
 * @param now the host's clock
 * @returns the verified token, or `token_invalid` (with its fault, for the audit trail alone) or `token_expired`
 * @see docs/token.md; RFC 9068 §4, RFC 8725 §3
 */
export async function verifyToken(
  text: string,
  verifier: Verifier,
  now: EpochSeconds,
): Promise<Result<VerifiedToken, Denial>> {
  if (text.length > TOKEN_LENGTH_MAX_BYTES) return invalid("too_long");
  const parts = splitToken(text);
  if (parts === null) return invalid("grammar");
  if (parts.blocks.length > BLOCKS_MAX) return invalid("too_deep");
  const key = verifier.keys.get(parts.header);
  if (key === undefined) return invalid("header");
  const bytes = bytesOf(text, parts);
  const signature = bytes === null ? null : decodeBase64url(bytes.signature);
  if (bytes === null || signature === null) return invalid("grammar");
  const unsafe = decodeObject(bytes.payload);
  const unsafeGid = unsafe?.value["gid"];
  if (unsafe === null || typeof unsafeGid !== "string") return invalid("claims");
  // Counted before any HMAC, so that a long chain costs nobody but its sender.
  if (depthOf(unsafeGid as NodePath) + parts.blocks.length > SEGMENTS_MAX) return invalid("too_deep");

  if (!(await chainMatches(key, bytes.head, bytes.blocks, signature))) return invalid("signature");

  const plain = readVerifiedClaims(unsafe.value as unknown as TokenClaims, verifier, now);
  if (!plain.ok || parts.blocks.length === 0) return plain;
  return readVerifiedBlocks(plain.value, parts.blocks, now);
}

function readVerifiedClaims(claims: TokenClaims, verifier: Verifier, now: EpochSeconds): Result<VerifiedToken, Denial> {
  if (claims.iss !== verifier.issuer) return invalid("issuer");
  if (claims.aud !== verifier.audience) return invalid("audience");
  for (const name in claims) if (!CLAIMS.has(name)) return invalid("claims");
  const { sub, iat, exp, jti, gid, client_id: client, tier = "free", agents } = claims;
  if (!isEpochSeconds(iat) || !isEpochSeconds(exp) || exp - iat > verifier.lifeMaxSeconds) return invalid("claims");
  if (typeof sub !== "string" || !isUserId(sub) || !isNodePath(gid) || typeof jti !== "string" || !isTier(tier))
    return invalid("claims");
  // An owned id repeats its user's random part: a grant of one user's tree can't name another as its subject.
  if (gid.slice(4, 24) !== sub.slice(4, 24)) return invalid("claims");
  if (typeof claims.scope !== "string" || typeof client !== "string") return invalid("claims");
  const scope = parseScope(claims.scope);
  const actors = flattenAct(claims.act, verifier.issuer);
  if (scope === null || actors === null) return invalid("claims");
  // The client is the current actor, or the person where none acts: two members that must agree. A minted chain ends
  // in a proven link; only blocks add others.
  const current = actors.at(-1) ?? { sub, proven: true };
  if (client !== current.sub || !current.proven) return invalid("claims");
  if (
    agents !== undefined &&
    !(
      Array.isArray(agents) &&
      agents.length <= AGENTS_MAX &&
      agents.every((slug) => typeof slug === "string" && isSlug(slug))
    )
  )
    return invalid("claims");
  // Nothing here can check possession yet, and a bound token without its proof is a stolen one (RFC 9449 §7).
  if (claims.cnf !== undefined) return invalid("proof_of_possession");
  if (iat > now + CLOCK_SKEW_SECONDS) return invalid("not_yet_valid");
  if (exp <= now) return err({ reason: "token_expired", exp, now });
  return ok({
    subject: sub,
    tier,
    clientId: client,
    session: sessionOf(gid),
    grant: gid,
    node: gid,
    actors,
    scope,
    agents: agents === undefined ? null : new Set(agents),
    exp,
    caveatExp: null,
    segments: [],
    delegatedTo: null,
  });
}

function readVerifiedBlocks(
  plain: VerifiedToken,
  texts: readonly string[],
  now: EpochSeconds,
): Result<VerifiedToken, Denial> {
  let { node, scope, agents, exp, caveatExp, delegatedTo } = plain;
  const actors = [...plain.actors];
  const segments: Segment[] = [];
  for (const text of texts) {
    if (delegatedTo !== null) return invalid("after_named_delegation");
    const block: Block | null = decodeBlock(text);
    if (block === null) return invalid("block");
    node = childOf(node, block.n);
    if (block.exp !== undefined) caveatExp = Math.min(block.exp, caveatExp ?? Infinity) as EpochSeconds;
    if (caveatExp !== null && caveatExp < exp) exp = caveatExp;
    if (block.scope !== undefined) scope = meet(scope, parseScope(block.scope) ?? []);
    if (block.agents !== undefined) agents = agents === null ? new Set(block.agents) : meet(agents, block.agents);
    if (block.act !== undefined) actors.push(bearerLink(actors.at(-1)?.sub ?? plain.subject, block.act));
    if (block.for !== undefined) delegatedTo = block.for;
    if (actors.length > ACTORS_MAX) return invalid("too_deep");
    segments.push({ path: node, content: contentOf(block), exp, budget: block.budget ?? null });
  }
  if (exp <= now) return err({ reason: "token_expired", exp, now });
  return ok({ ...plain, node, actors, scope, agents, exp, caveatExp, segments, delegatedTo });
}
