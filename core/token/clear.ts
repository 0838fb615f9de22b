/**
 * Clearing: does anything in the chain forbid this access? Each check prohibits, none permits (superfly/macaroon); the
 * first denial is the answer. What may be spent is decided later, by the authority.
 */
import { tierReaches, type ActorsRule, type AgentEntry } from "../config.ts";
import type { Denial } from "../denial.ts";
import { isAgentId } from "../ids.ts";
import { err, ok, type Result } from "../result.ts";
import { slugOfActor, type ActorLink } from "./chain.ts";
import type { VerifiedToken } from "./verify.ts";

export type Cleared = Result<null, Denial>;
const CLEAR: Cleared = ok(null);

/**
 * @param token verified; one that ends in a named delegation is good for redeeming alone
 * @param entry the registry's entry of the agent that is called
 * @param issuer this deployment
 */
export function clearAccess(token: VerifiedToken, entry: AgentEntry, issuer: string): Cleared {
  if (token.delegatedTo !== null) return err({ reason: "delegation_not_redeemed", delegatedTo: token.delegatedTo });
  if (!entry.enabled) return err({ reason: "agent_unavailable", slug: entry.slug, cause: "disabled" });
  if (!tierReaches(token.tier, entry.requiredTier))
    return err({ reason: "tier_too_low", required: entry.requiredTier, tier: token.tier });
  const missing = entry.requiredScopes.filter((scope) => !token.scope.has(scope));
  if (missing.length > 0) return err({ reason: "scope_missing", required: entry.requiredScopes, missing });
  if (token.agents !== null && !token.agents.has(entry.slug))
    return err({ reason: "agent_forbidden", slug: entry.slug, allowed: [...token.agents] });
  return clearActor(token, entry.actors, issuer);
}

/** Whether the rule takes whoever acts; for entries, and for roles of clouds. */
export function clearActor(token: VerifiedToken, { allow, unproven }: ActorsRule, issuer: string): Cleared {
  const current = token.actors.at(-1) ?? null;
  if (current !== null && !current.proven && !unproven) return err({ reason: "actor_forbidden", actor: current.sub });
  if (allow === "any") return CLEAR;
  // Who answers for the call: the current actor, or for a bearer link the proven one that it hangs from.
  const responsible = token.actors.findLast((link) => link.proven) ?? null;
  const permitted = allow === "own" ? isOwn(responsible, token, issuer) : isNamed(responsible, allow, issuer);
  return permitted ? CLEAR : err({ reason: "actor_forbidden", actor: current?.sub ?? null });
}

function isOwn(link: ActorLink | null, token: VerifiedToken, issuer: string): boolean {
  if (link === null) return true; // the user in person
  if (isAgentId(link.sub)) return link.sub.slice(4, 24) === token.subject.slice(4, 24);
  return slugOfActor(issuer, link) !== null;
}

function isNamed(link: ActorLink | null, allow: readonly string[], issuer: string): boolean {
  if (link === null) return false;
  const slug = slugOfActor(issuer, link);
  return allow.includes(slug === null ? link.sub : `~${slug}`);
}
