// Every refusal has one row, the row is sensible for its status, and nothing that must stay inside gets out.
import { describe, expect, test } from "vitest";
import { denialBody, denialToWire, type Denial, type TokenFault, type WireDenial } from "../../core/denial.ts";
import type { EpochMs, EpochSeconds, Micros, NodePath, Slug } from "../../core/ids.ts";
import { PLANNER, SESSION } from "../support/deployment.ts";

/** Stands for what only the audit trail may say. */
const INSIDE = "INSIDE-do-not-show";
const node = `${SESSION}.AAAAAAAAAAAA` as NodePath;
const slug = "planner" as Slug;

/** One of each reason; a new one does not compile until it is here. */
const SAMPLES: { readonly [R in Denial["reason"]]: Extract<Denial, { reason: R }> } = {
  credentials_missing: { reason: "credentials_missing" },
  token_invalid: { reason: "token_invalid", fault: "signature" },
  token_expired: { reason: "token_expired", exp: 1 as EpochSeconds, now: 2 as EpochSeconds },
  delegation_not_redeemed: { reason: "delegation_not_redeemed", delegatedTo: PLANNER },
  ended: { reason: "ended", node, why: "terminated", at: 1 as EpochMs },
  user_disabled: { reason: "user_disabled" },
  locked: { reason: "locked", what: "user", until: null },
  ticket_invalid: { reason: "ticket_invalid" },
  sign_in_failed: { reason: "sign_in_failed" },
  client_invalid: { reason: "client_invalid", fault: INSIDE },
  grant_invalid: { reason: "grant_invalid", fault: INSIDE },
  grant_type_unsupported: { reason: "grant_type_unsupported", grantType: INSIDE },
  target_invalid: { reason: "target_invalid", target: INSIDE },
  tier_too_low: { reason: "tier_too_low", required: "pro", tier: "free" },
  scope_missing: { reason: "scope_missing", required: ["read", "write"], missing: ["write"] },
  scope_invalid: { reason: "scope_invalid", scope: ["pay"] },
  agent_forbidden: { reason: "agent_forbidden", slug, allowed: [INSIDE] },
  actor_forbidden: { reason: "actor_forbidden", actor: INSIDE },
  origin_forbidden: { reason: "origin_forbidden", origin: INSIDE },
  operator_required: { reason: "operator_required" },
  cookie_required: { reason: "cookie_required" },
  agent_without_budget: { reason: "agent_without_budget", agent: PLANNER },
  not_found: { reason: "not_found" },
  method_not_allowed: { reason: "method_not_allowed", allowed: ["GET", "POST"] },
  request_invalid: { reason: "request_invalid", detail: "Send a name." },
  body_too_large: { reason: "body_too_large" },
  media_type_unsupported: { reason: "media_type_unsupported", expected: "application/json" },
  already_ended: { reason: "already_ended", report: null },
  idempotency_conflict: { reason: "idempotency_conflict" },
  username_taken: { reason: "username_taken" },
  budget_exhausted: { reason: "budget_exhausted", node, remaining: 1 as Micros, cost: 2 as Micros },
  budget_held: { reason: "budget_held", node, retryAfterMs: 1_001 },
  rate_limited: { reason: "rate_limited", retryAfterMs: 1 },
  delegation_limit: { reason: "delegation_limit", node, limit: 64, retryAfterMs: 2_000 },
  quota_reached: { reason: "quota_reached", what: "idempotency_keys", limit: 10_000 },
  credential_too_short: { reason: "credential_too_short", leastSeconds: 900, leftSeconds: 60 },
  exchange_failed: { reason: "exchange_failed", kind: "retry", code: "Throttling", retryAfterMs: 1_500 },
  authority_unavailable: { reason: "authority_unavailable" },
  agent_unavailable: { reason: "agent_unavailable", slug, cause: "unreachable" },
  agent_failed: { reason: "agent_failed", slug, status: 500 },
  storage_unavailable: { reason: "storage_unavailable" },
  hold_mismatch: { reason: "hold_mismatch", fault: "too_much" },
  internal: { reason: "internal" },
};
const rows = Object.values(SAMPLES).map((denial: Denial) => ({ reason: denial.reason, wire: denialToWire(denial) }));

describe("every denial", () => {
  test.each(rows)("$reason has a sensible row", ({ wire }) => {
    const { status, code, error, oauth, retryAfterSeconds, challenge, allow } = wire;
    expect([400, 401, 402, 403, 404, 405, 409, 413, 415, 429, 500, 502, 503]).toContain(status);
    expect(code).toMatch(/^[a-z]+(?:_[a-z]+)*$/);
    expect(oauth).toMatch(/^[a-z]+(?:_[a-z]+)*$/);
    expect(error).toMatch(/^[A-Z].*\.$/);
    if (status === 429 || status === 503) expect(retryAfterSeconds).toBeGreaterThanOrEqual(1);
    else expect(retryAfterSeconds).toBeNull();
    if (challenge !== null) expect([401, 403]).toContain(status);
    expect(allow !== null).toBe(status === 405);
  });

  test.each(rows)("$reason tells nothing that belongs to the audit trail", ({ wire }) => {
    expect(JSON.stringify([wire, denialBody(wire, "legate"), denialBody(wire, "oauth")])).not.toContain(INSIDE);
  });

  test.each(rows)("$reason has both shapes of body", ({ wire }) => {
    expect(denialBody(wire, "legate")).toMatchObject({ success: false, error: wire.error, code: wire.code });
    expect(denialBody(wire, "oauth")).toEqual({ error: wire.oauth, error_description: wire.error });
  });

  test("has a code of its own; those that share one are meant to look alike", () => {
    const shared = Map.groupBy(rows, ({ wire }) => wire.code);
    const groups = [...shared.values()]
      .filter((group) => group.length > 1)
      .map((group) => group.map(({ reason }) => reason));
    expect(groups).toEqual([["ended", "user_disabled"]]);
  });
});

describe("what looks alike", () => {
  const FAULTS: readonly TokenFault[] = [
    "too_long",
    "grammar",
    "header",
    "signature",
    "claims",
    "issuer",
    "audience",
    "not_yet_valid",
    "block",
    "too_deep",
    "after_named_delegation",
    "node_conflict",
    "unknown_node",
    "proof_of_possession",
  ];
  test("a forged token, whatever is wrong with it", () => {
    const wires = FAULTS.map((fault) => JSON.stringify(denialToWire({ reason: "token_invalid", fault })));
    expect(new Set(wires).size).toBe(1);
    expect(denialToWire({ reason: "token_invalid", fault: "signature" })).toMatchObject({
      status: 401,
      code: "invalid_token",
      challenge: 'error="invalid_token"',
    });
  });
  test("what is missing and what is another's", () => {
    expect(denialToWire({ reason: "hold_mismatch", fault: "unknown" })).toEqual(denialToWire({ reason: "not_found" }));
  });
});

describe("rows that clients build on", () => {
  const of = (denial: Denial): Partial<WireDenial> => denialToWire(denial);
  test("no credentials: a challenge without an error (RFC 6750 §3.1)", () =>
    expect(of(SAMPLES.credentials_missing)).toMatchObject({ status: 401, challenge: "" }));
  test("scope: the challenge names it", () =>
    expect(of(SAMPLES.scope_missing).challenge).toBe('error="insufficient_scope", scope="read write"'));
  test("a spent budget: 402, and waiting does not help", () =>
    expect(of(SAMPLES.budget_exhausted)).toMatchObject({
      status: 402,
      retryAfterSeconds: null,
      evidence: { node, remaining: 1, cost: 2 },
    }));
  test("a held budget: 429, seconds rounded up", () =>
    expect(of(SAMPLES.budget_held)).toMatchObject({ status: 429, retryAfterSeconds: 2 }));
  test("405 names the methods", () => expect(of(SAMPLES.method_not_allowed).allow).toEqual(["GET", "POST"]));
  test("an ended hold says how", () => {
    for (const fault of ["settled", "voided", "expired"] as const)
      expect(of({ reason: "hold_mismatch", fault })).toMatchObject({
        status: 409,
        code: "already_ended",
        error: `The hold is already ${fault}.`,
      });
    for (const fault of ["cost", "too_much"] as const)
      expect(of({ reason: "hold_mismatch", fault })).toMatchObject({ status: 400, code: "invalid_cost" });
  });
  test("words of many keep no underscore", () => {
    for (const what of ["agents", "sessions", "connections", "idempotency_keys"] as const)
      expect(denialToWire({ reason: "quota_reached", what, limit: 1 }).error).not.toContain("_");
  });
});
