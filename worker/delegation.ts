/**
 * `Legate-Delegation`: what the gate mints for an agent, so that it can call on behalf of its caller with a proven chain
 * (DESIGN.md §2). Never more than the caller's own chain: its scope, its end, and of the entry's `calls` only what every
 * link allows. One function for the call and for the renewal in its last minute (rpc.ts).
 */
import { encodeBase64url } from "../core/base64url.ts";
import type { AgentEntry, LegateConfig } from "../core/config.ts";
import type { Denial } from "../core/denial.ts";
import {
  childOf,
  depthOf,
  gateSegment,
  toEpochMs,
  toEpochSeconds,
  type EpochMs,
  type EpochSeconds,
  type Slug,
} from "../core/ids.ts";
import { ACTORS_MAX, DELEGATION_LIFE_MAX_SECONDS, SEGMENTS_MAX, TOKEN_LENGTH_MAX_BYTES } from "../core/limits.ts";
import { err, ok, type Result } from "../core/result.ts";
import { gateActor, nestActors, slugOfActor } from "../core/token/chain.ts";
import { formatScope } from "../core/token/scope.ts";
import type { VerifiedToken } from "../core/token/verify.ts";
import type { DelegationChain } from "../core/wire/rpc.ts";
import type { Edge } from "./env.ts";

/**
 * What a chain with these `agents` may still reach from an entry: its `calls`, and what those call in turn. A link must
 * not take from the next one what the deployment gave it; that an agent calls its own `calls` alone is for `clearCaller`.
 *
 * @returns nothing where the entry itself may call nobody
 */
export function delegable(
  entry: AgentEntry,
  registry: LegateConfig["agents"],
  agents: Iterable<string> | null,
): readonly Slug[] {
  const allowed = agents === null ? null : new Set(agents);
  const mayReach = (slug: Slug) => allowed === null || allowed.has(slug);
  const reached = new Set(entry.calls.filter(mayReach));
  for (const slug of reached) for (const next of registry.get(slug)?.calls ?? []) if (mayReach(next)) reached.add(next);
  return [...reached];
}

/** An agent behind the gate, or a sub-agent that it named, calls nobody but its entry's `calls`, whatever its token reaches. */
export function clearCaller(token: VerifiedToken, callee: Slug, { config, issuer }: Edge): Result<null, Denial> {
  const responsible = token.actors.findLast((link) => link.proven);
  const slug = responsible === undefined ? null : slugOfActor(issuer, responsible);
  if (slug === null) return ok(null);
  const allowed = config.agents.get(slug)?.calls ?? [];
  return allowed.includes(callee) ? ok(null) : err({ reason: "agent_forbidden", slug: callee, allowed });
}

/**
 * @param chain of the caller: the plain token carries the meet of it
 * @returns a token for that agent alone, or null where it may call nobody, or where its chain would be too long
 */
export async function mintDelegation(
  edge: Edge,
  entry: AgentEntry,
  chain: DelegationChain,
  now: EpochMs,
): Promise<string | null> {
  const agents = delegable(entry, edge.config.agents, chain.agents);
  const gid = childOf(chain.node, gateSegment(entry.slug));
  const actor = gateActor(edge.issuer, entry.slug);
  const act = nestActors([...chain.actors, { sub: actor, proven: true }]);
  const exp = Math.min(toEpochSeconds(now) + DELEGATION_LIFE_MAX_SECONDS, chain.exp) as EpochSeconds;
  if (agents.length === 0 || act === undefined || toEpochMs(exp) <= now) return null;
  if (chain.actors.length >= ACTORS_MAX || depthOf(gid) > SEGMENTS_MAX) return null;
  const token = await edge.sessionKey.mint({
    sub: chain.subject,
    iat: toEpochSeconds(now),
    exp,
    jti: encodeBase64url(edge.random(16)),
    gid,
    scope: formatScope(chain.scope),
    client_id: actor,
    act,
    agents,
    tier: chain.tier,
  });
  return token.length > TOKEN_LENGTH_MAX_BYTES ? null : token;
}
