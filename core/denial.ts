/**
 * Every refusal of Legate, as a value: one reason and its evidence. `denialToWire` is the one table that says what the
 * world sees of it: status, stable code, one human sentence, and which evidence may be shown. Reasons that would teach
 * an attacker something share a code and a sentence; the reason itself goes to the audit trail.
 */
import { credentialWire, type CredentialDenial } from "./credential/denial.ts";
import type { AgentId, EpochMs, EpochSeconds, Micros, NodePath, Slug } from "./ids.ts";
import { BODY_MAX_BYTES } from "./limits.ts";
import { assertNever } from "./result.ts";

/** Why a token was not accepted. Never shown: the wire says `invalid_token` for all of them. */
export type TokenFault =
  | "too_long"
  | "grammar"
  | "header"
  | "signature"
  | "claims"
  | "issuer"
  | "audience"
  | "not_yet_valid"
  | "block"
  | "too_deep"
  | "after_named_delegation"
  | "node_conflict"
  | "unknown_node"
  | "proof_of_possession"
  /** Its scope is above the tier that its user has now: a renewed one is not. */
  | "tier";

/** Why a session or a node of it no longer serves. */
export type EndReason =
  | "expired"
  | "signed_out"
  | "revoked"
  | "terminated"
  | "user_stopped"
  | "user_disabled"
  | "agent_stopped"
  | "agent_deleted";

export type Denial =
  // who are you
  | { readonly reason: "credentials_missing" }
  | { readonly reason: "token_invalid"; readonly fault: TokenFault }
  | { readonly reason: "token_expired"; readonly exp: EpochSeconds; readonly now: EpochSeconds }
  | { readonly reason: "delegation_not_redeemed"; readonly delegatedTo: AgentId }
  | { readonly reason: "ended"; readonly node: NodePath; readonly why: EndReason; readonly at: EpochMs }
  | { readonly reason: "user_disabled" }
  /** By an operator: this user's sessions, or this agent's. `until` null: until it is lifted. */
  | { readonly reason: "locked"; readonly what: "user" | "agent"; readonly until: EpochMs | null }
  /** Unknown, used, too old, or for another place: never told apart. */
  | { readonly reason: "ticket_invalid" }
  | { readonly reason: "sign_in_failed" }
  | { readonly reason: "client_invalid"; readonly fault: string }
  | { readonly reason: "grant_invalid"; readonly fault: string }
  | { readonly reason: "target_invalid"; readonly target: string }
  | { readonly reason: "grant_type_unsupported"; readonly grantType: string }
  // you may not
  | { readonly reason: "tier_too_low"; readonly required: string; readonly tier: string }
  | { readonly reason: "scope_missing"; readonly required: readonly string[]; readonly missing: readonly string[] }
  | { readonly reason: "scope_invalid"; readonly scope: readonly string[] }
  | { readonly reason: "agent_forbidden"; readonly slug: Slug; readonly allowed: readonly string[] }
  | { readonly reason: "actor_forbidden"; readonly actor: string | null }
  | { readonly reason: "origin_forbidden"; readonly origin: string | null }
  | { readonly reason: "operator_required" }
  | { readonly reason: "cookie_required" }
  | { readonly reason: "agent_without_budget"; readonly agent: AgentId }
  // there is no such thing, or not for you: never told apart
  | { readonly reason: "not_found" }
  | { readonly reason: "method_not_allowed"; readonly allowed: readonly string[] }
  // what you sent
  | { readonly reason: "request_invalid"; readonly detail: string }
  /** `limitBytes` where it is another than that of Legate's own routes. */
  | { readonly reason: "body_too_large"; readonly limitBytes?: number }
  | { readonly reason: "media_type_unsupported"; readonly expected: string }
  | { readonly reason: "already_ended"; readonly report: object | null }
  | { readonly reason: "idempotency_conflict" }
  | { readonly reason: "username_taken" }
  // not now
  | { readonly reason: "budget_exhausted"; readonly node: string; readonly remaining: Micros; readonly cost: Micros }
  | { readonly reason: "budget_held"; readonly node: string; readonly retryAfterMs: number }
  | {
      readonly reason: "rate_limited";
      readonly retryAfterMs: number;
      readonly limit?: number;
      readonly window?: string;
    }
  | {
      readonly reason: "delegation_limit";
      readonly node: NodePath;
      readonly limit: number;
      readonly retryAfterMs: number;
    }
  | {
      readonly reason: "quota_reached";
      readonly what: "agents" | "sessions" | "connections" | "channels" | "tickets" | "idempotency_keys" | "charges";
      readonly limit: number;
    }
  // credentials of clouds
  | CredentialDenial
  // not our fault, or ours
  | { readonly reason: "authority_unavailable" }
  | {
      readonly reason: "agent_unavailable";
      readonly slug: Slug;
      readonly cause: "disabled" | "unbound" | "unreachable";
    }
  /** The agent answered with a server error of its own; what it said stays behind, for it may be a stack. */
  | { readonly reason: "agent_failed"; readonly slug: Slug; readonly status: number }
  | { readonly reason: "storage_unavailable" }
  | {
      readonly reason: "hold_mismatch";
      readonly fault: "unknown" | "settled" | "voided" | "expired" | "too_much" | "cost";
    }
  | { readonly reason: "internal" };

/** What leaves: a status, the JSON body's members, and the headers that go with the status. */
export interface WireDenial {
  readonly status: number;
  readonly code: string;
  readonly error: string;
  readonly evidence: Readonly<Record<string, unknown>>;
  /** RFC 6749 §5.2, RFC 8693 §2.2.2, RFC 8707 §2 error, for answers under `/oauth/`. */
  readonly oauth: string;
  /** Seconds, whole and rounded up; null where waiting does not help. */
  readonly retryAfterSeconds: number | null;
  /** RFC 6750 §3: the attributes of `WWW-Authenticate: Bearer`, or null where no challenge belongs. */
  readonly challenge: string | null;
  readonly allow: readonly string[] | null;
}

type Row = [status: number, code: string, error: string, oauth: string, more?: Partial<WireDenial>];

const INVALID_TOKEN = 'error="invalid_token"';

function retry(ms: number): Partial<WireDenial> {
  return { retryAfterSeconds: Math.max(1, Math.ceil(ms / 1000)) };
}

function rowOf(denial: Denial): Row {
  switch (denial.reason) {
    case "credentials_missing":
      return [
        401,
        "credentials_missing",
        "This needs a session token, sent as Authorization: Bearer.",
        "invalid_client",
        { challenge: "" },
      ];
    case "token_invalid":
      return [401, "invalid_token", "The token is not valid here.", "invalid_grant", { challenge: INVALID_TOKEN }];
    case "token_expired":
      return [
        401,
        "token_expired",
        "The token has expired; renew it at /oauth/token.",
        "invalid_grant",
        { challenge: INVALID_TOKEN, evidence: { exp: denial.exp } },
      ];
    case "delegation_not_redeemed":
      return [
        401,
        "delegation_not_redeemed",
        "This delegation is for a named agent, which must redeem it at /oauth/token with its own key.",
        "invalid_grant",
        { challenge: INVALID_TOKEN },
      ];
    case "ended":
      return [
        401,
        "session_ended",
        "The session, or a delegation that this token rests on, has ended.",
        "invalid_grant",
        { challenge: INVALID_TOKEN, evidence: { node: denial.node, reason: denial.why } },
      ];
    case "user_disabled":
      return [
        401,
        "session_ended",
        "The session, or a delegation that this token rests on, has ended.",
        "invalid_grant",
        { challenge: INVALID_TOKEN },
      ];
    case "locked":
      return [
        401,
        "session_locked",
        `An operator has locked this ${denial.what}.`,
        "invalid_grant",
        { challenge: INVALID_TOKEN, evidence: { what: denial.what, until: denial.until } },
      ];
    case "ticket_invalid":
      return [
        401,
        "invalid_ticket",
        "The ticket is not valid here; buy a fresh one at /sessions/ticket for each attempt.",
        "invalid_grant",
        { challenge: INVALID_TOKEN },
      ];
    case "sign_in_failed":
      return [401, "sign_in_failed", "The username or the password is wrong.", "invalid_grant"];
    case "client_invalid":
      return [
        401,
        "invalid_client",
        "The client could not be authenticated; its assertion must be fresh, unused and signed with its registered key.",
        "invalid_client",
      ];
    case "grant_invalid":
      return [400, "invalid_grant", "The token to exchange is not valid for this client.", "invalid_grant"];
    case "target_invalid":
      return [
        400,
        "invalid_target",
        "The resource or audience asked for is not one of this deployment.",
        "invalid_target",
      ];
    case "grant_type_unsupported":
      return [
        400,
        "unsupported_grant_type",
        "This grant type is not offered here; grant_types_supported in the metadata lists those that are.",
        "unsupported_grant_type",
      ];
    case "tier_too_low":
      return [
        403,
        "tier_required",
        `This needs the tier ${denial.required}.`,
        "access_denied",
        { evidence: { required: denial.required, tier: denial.tier } },
      ];
    case "scope_missing":
      return [
        403,
        "insufficient_scope",
        `This needs the scope ${denial.required.join(" ")}.`,
        "invalid_scope",
        {
          challenge: `error="insufficient_scope", scope="${denial.required.join(" ")}"`,
          evidence: { required: denial.required, missing: denial.missing },
        },
      ];
    case "scope_invalid":
      return [
        400,
        "invalid_scope",
        "The scope asked for is unknown, or more than may be given.",
        "invalid_scope",
        { evidence: { scope: denial.scope } },
      ];
    case "agent_forbidden":
      return [
        403,
        "agent_not_allowed",
        "This delegation does not reach that agent.",
        "access_denied",
        { evidence: { agent: denial.slug } },
      ];
    case "actor_forbidden":
      return [403, "actor_not_allowed", "That agent does not take calls from this actor.", "access_denied"];
    case "origin_forbidden":
      return [
        403,
        "origin_not_allowed",
        "This origin may not use a person's cookie here; add it to origins in legate.config.ts.",
        "access_denied",
      ];
    case "operator_required":
      return [403, "operator_required", "Only an operator may do this.", "access_denied"];
    case "cookie_required":
      return [
        403,
        "cookie_required",
        "Only a signed-in person may do this; a token acts for its node alone.",
        "access_denied",
      ];
    case "agent_without_budget":
      return [
        403,
        "agent_without_budget",
        "This agent has no budget, and opens no session without one; its owner sets legate_budget at /oauth/clients.",
        "access_denied",
      ];
    case "not_found":
      return [404, "not_found", "There is nothing here, or nothing for you.", "invalid_request"];
    case "method_not_allowed":
      return [
        405,
        "method_not_allowed",
        `Allowed here: ${denial.allowed.join(", ")}.`,
        "invalid_request",
        { allow: denial.allowed },
      ];
    case "request_invalid":
      return [400, "invalid_request", denial.detail, "invalid_request"];
    case "body_too_large":
      return [
        413,
        "body_too_large",
        `The body is larger than ${(denial.limitBytes ?? BODY_MAX_BYTES) / 1024} KiB.`,
        "invalid_request",
      ];
    case "media_type_unsupported":
      return [415, "unsupported_media_type", `Send the body as ${denial.expected}.`, "invalid_request"];
    case "already_ended":
      return [
        409,
        "already_ended",
        "It had already ended.",
        "invalid_request",
        { evidence: denial.report === null ? {} : { report: denial.report } },
      ];
    case "idempotency_conflict":
      return [409, "idempotency_conflict", "This Idempotency-Key was used with other arguments.", "invalid_request"];
    case "username_taken":
      return [409, "username_taken", "That username is taken.", "invalid_request"];
    case "budget_exhausted":
      return [
        402,
        "budget_exhausted",
        "The budget does not cover this call; waiting does not help.",
        "invalid_request",
        { evidence: { node: denial.node, remaining: denial.remaining, cost: denial.cost } },
      ];
    case "budget_held":
      return [
        429,
        "budget_leased",
        "What is left of the budget is set aside for calls that are still open.",
        "temporarily_unavailable",
        { ...retry(denial.retryAfterMs), evidence: { node: denial.node } },
      ];
    case "rate_limited":
      return [
        429,
        "rate_limited",
        "Too many calls; try again after the time in Retry-After.",
        "temporarily_unavailable",
        retry(denial.retryAfterMs),
      ];
    case "delegation_limit":
      return [
        429,
        "delegation_limit",
        "Too many live delegations here.",
        "temporarily_unavailable",
        { ...retry(denial.retryAfterMs), evidence: { node: denial.node, limit: denial.limit } },
      ];
    case "quota_reached":
      return [
        429,
        "quota_reached",
        `There can be no more than ${denial.limit} ${denial.what.replace("_", " ")}.`,
        "temporarily_unavailable",
        { ...retry(60_000), evidence: { what: denial.what, limit: denial.limit } },
      ];
    case "credential_too_short":
    case "exchange_failed":
      return credentialWire(denial);
    case "authority_unavailable":
      return [
        503,
        "authority_unavailable",
        "The session authority is out of reach; nothing was done.",
        "temporarily_unavailable",
        retry(1_000),
      ];
    case "agent_unavailable":
      return [
        503,
        "agent_unavailable",
        "That agent is out of reach.",
        "temporarily_unavailable",
        { ...retry(denial.cause === "unreachable" ? 1_000 : 30_000), evidence: { agent: denial.slug } },
      ];
    case "agent_failed":
      return [denial.status, "agent_failed", "The agent failed.", "server_error", { evidence: { agent: denial.slug } }];
    case "storage_unavailable":
      return [
        503,
        "storage_unavailable",
        "Sign-in is out of reach for the moment; nothing was done.",
        "temporarily_unavailable",
        retry(1_000),
      ];
    case "hold_mismatch":
      return denial.fault === "unknown"
        ? [404, "not_found", "There is nothing here, or nothing for you.", "invalid_request"]
        : denial.fault === "cost" || denial.fault === "too_much"
          ? [
              400,
              "invalid_cost",
              "A cost is a whole number of micros, no more than was held; the hold stands.",
              "invalid_request",
            ]
          : [409, "already_ended", `The hold is already ${denial.fault}.`, "invalid_request"];
    case "internal":
      return [500, "internal_error", "Something failed on our side.", "server_error"];
    default:
      return assertNever(denial);
  }
}

/**
 * @param denial any refusal
 * @returns what may leave of it; the caller adds only transport (JSON, headers), never text
 */
export function denialToWire(denial: Denial): WireDenial {
  const [status, code, error, oauth, more] = rowOf(denial);
  return { status, code, error, evidence: {}, oauth, retryAfterSeconds: null, challenge: null, allow: null, ...more };
}

/** The answer's JSON body: `{"success":false,"error","code", …evidence}`, or RFC 6749 §5.2 under `/oauth/`. */
export function denialBody(wire: WireDenial, shape: "legate" | "oauth"): Record<string, unknown> {
  return shape === "legate"
    ? { success: false, error: wire.error, code: wire.code, ...wire.evidence }
    : { error: wire.oauth, error_description: wire.error };
}
