/**
 * What a stable code means to whoever builds an agent, and what to do about it. One sentence each, nothing of any
 * request in it; `Authority.explain` answers from here.
 */
const ADVICE: Readonly<Record<string, string>> = {
  credentials_missing: "No token came with the call; send it as Authorization: Bearer, never in a URL.",
  invalid_token: "The token is not one of this deployment, or was changed on the way; ask for a new one.",
  token_expired: "The token's window is over; renew it at /oauth/token with a fresh client assertion.",
  delegation_not_redeemed: "The token names another agent, which must exchange it at /oauth/token with its own key.",
  session_ended: "The session or a delegation above this call has ended for good; stop, and do not retry.",
  invalid_client: "The client assertion is stale, used already, or not signed with the registered key.",
  invalid_grant: "The token to exchange is not for this client, or has ended.",
  invalid_target: "The resource asked for is neither this deployment nor one of its agents.",
  tier_required: "The user's tier is too low for that agent; only an operator can raise it.",
  insufficient_scope: "The chain does not carry a scope that the agent requires; open or delegate with it.",
  invalid_scope: "A scope was asked for that is unknown, or more than the giver has.",
  agent_not_allowed: "A delegation in the chain lists the agents it reaches, and this one is not among them.",
  actor_not_allowed: "The agent's entry does not take calls from that actor.",
  origin_not_allowed: "A browser page of another origin used a person's cookie; list its origin to allow it.",
  operator_required: "Only an operator in person may do this.",
  cookie_required: "Only a signed-in person may do this; a token acts for its node alone.",
  not_found: "There is nothing there, or nothing for this caller; the two are never told apart.",
  method_not_allowed: "The path exists with other methods; the Allow header names them.",
  invalid_request: "The request is malformed; the sentence beside the code says where.",
  body_too_large: "The body is over the limit; hand large things on by reference.",
  unsupported_media_type: "The body has another content type than the route takes.",
  already_ended: "It ended before; the answer may carry the report of that.",
  idempotency_conflict: "The Idempotency-Key was used with other arguments; use a new one.",
  budget_exhausted: "The budget does not cover the call and waiting does not help; it takes a higher cap.",
  budget_leased: "What is left is set aside for open calls; try again after Retry-After.",
  rate_limited: "Too many calls; try again after Retry-After.",
  delegation_limit: "Too many live delegations in one place; let some end first.",
  quota_reached: "A fixed number of these may exist; end some first.",
  invalid_cost: "A cost is a whole number of micros, no more than was held; the hold stands until it is settled.",
  credential_too_short: "The session or delegation ends before the shortest credential would; ask with a longer one.",
  exchange_refused: "The cloud refused the exchange, and will again; the role's configuration or its trust is wrong.",
  exchange_unavailable: "The cloud's token service is out of reach or busy; try again after Retry-After.",
  authority_unavailable: "The user's authority is out of reach; nothing was done, try again.",
  agent_unavailable: "The agent is disabled, not bound, or out of reach; nothing it did is known.",
  agent_failed: "The agent answered with an error of its own; its log has the rest.",
  storage_unavailable: "Sign-in is out of reach for the moment; sessions that run are not affected.",
  internal_error: "Something failed in Legate itself; nothing more is told outside.",
};

/** @returns a sentence of advice, or null for a code that is none of Legate's */
export function explainCode(code: string): string | null {
  return Object.hasOwn(ADVICE, code) ? (ADVICE[code] ?? null) : null;
}
