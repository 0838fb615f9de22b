/**
 * `Legate-Delegation`: what the gate mints for an agent, so that it can call on behalf of its caller with a proven chain
 * (DESIGN.md §2). Never more than the caller's own chain: its scope, its end, and of the entry's `calls` only what every
 * link allows. One function for the call and for the renewal in its last minute (rpc.ts).
 */
import { encodeBase64url } from "../core/base64url.ts";
import type { AgentEntry } from "../core/config.ts";
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
import { gateActor, nestActors } from "../core/token/chain.ts";
import { formatScope } from "../core/token/scope.ts";
import type { DelegationChain } from "../core/wire/answers.ts";
import type { Edge } from "./env.ts";

/**
 * `calls` ∩ what every link allows. An agent that calls another which calls a third lists both: what is reached on a
 * caller's behalf is written down at the entry that it is reached from.
 */
export function delegable(entry: AgentEntry, agents: Iterable<string> | null): readonly Slug[] {
  const allowed = agents === null ? null : new Set(agents);
  return entry.calls.filter((slug) => allowed === null || allowed.has(slug));
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
  const agents = delegable(entry, chain.agents);
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
