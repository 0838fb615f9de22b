/** Whether a verified token may ask for a role's credentials at all: scope, tier, actors. What lives is the object's to say. */
import { tierReaches, type LegateConfig } from "../config.ts";
import type { Denial } from "../denial.ts";
import { err, ok, type Result } from "../result.ts";
import { clearActor } from "../token/clear.ts";
import type { VerifiedToken } from "../token/verify.ts";
import type { Provider, Role } from "./roles.ts";

/**
 * @returns the role, or a denial: an alias that does not exist is refused like one that the caller has no scope for
 */
export function permitRole(
  config: LegateConfig,
  issuer: string,
  token: VerifiedToken,
  provider: Provider,
  alias: string,
): Result<Role, Denial> {
  const scope = `${provider}:${alias}`;
  const role = config.roles.get(scope);
  if (token.delegatedTo !== null) return err({ reason: "delegation_not_redeemed", delegatedTo: token.delegatedTo });
  if (role === undefined || !token.scope.has(scope))
    return err({ reason: "scope_missing", required: [scope], missing: [scope] });
  if (!tierReaches(token.tier, role.requiredTier))
    return err({ reason: "tier_too_low", required: role.requiredTier, tier: token.tier });
  const actor = clearActor(token, role.actors, issuer);
  return actor.ok ? ok(role) : actor;
}
