/**
 * Grant jwt-bearer (RFC 7523 §2.1) at `/oauth/token`: a session for the user and client that the issuer's entry names. The
 * foreign token stands in the place of the client's own assertion, once; whoever has both is asked to choose.
 */
import type { Denial } from "../../core/denial.ts";
import { err, type Result } from "../../core/result.ts";
import type { Answer, Call } from "../call.ts";
import { readAsked, tokenAnswer } from "../oauth/token.ts";
import { verifyForeign } from "./foreign.ts";
import { originOf } from "../inbound.ts";

export async function foreignSession(call: Call, form: ReadonlyMap<string, string>): Promise<Answer> {
  const { edge } = call;
  if (![...edge.config.issuers.values()].some((issuer) => issuer.for === "sessions"))
    return err({ reason: "grant_type_unsupported", grantType: form.get("grant_type") ?? "" });
  const assertion = form.get("assertion");
  if (assertion === undefined) return invalid('"assertion" is missing.');
  if (form.has("client_assertion")) return invalid('"client_assertion" is not taken beside "assertion".');
  const asked = readAsked(form, edge);
  if (!asked.ok) return asked;
  if (asked.value.audience !== null) return err({ reason: "target_invalid", target: asked.value.audience });
  const verified = await verifyForeign(assertion, edge, "sessions");
  if (!verified.ok) return verified;
  const { issuer, subject, jti, usedUntil } = verified.value;
  const { client, user } = subject;
  if (client === null) return err({ reason: "grant_invalid", fault: "subject" });
  const scope = scopeOf(asked.value.scope, subject.scope);
  if (!scope.ok) return scope;
  const { agents, budget, ttlSeconds } = asked.value;
  const life = Math.min(ttlSeconds ?? Infinity, subject.sessionSeconds ?? Infinity);
  const grant = await edge.ask(user, (authority) =>
    authority.openForeign({
      issuer: issuer.issuer,
      jti,
      usedUntil,
      open: {
        kind: "agent",
        enrolment: null,
        client: { id: client, stopCount: null },
        scope: scope.value,
        agents,
        budget,
        ttlSeconds: Number.isFinite(life) ? life : null,
        origin: originOf(call.request),
        cookie: null,
        by: { kind: "agent", id: client, reason: `by a token of ${issuer.issuer}` },
        idempotency: null,
      },
    }),
  );
  return grant.ok ? tokenAnswer(call, grant.value) : grant;
}

function scopeOf(
  asked: readonly string[] | null,
  may: readonly string[] | null,
): Result<readonly string[] | null, Denial> {
  if (asked === null || may === null) return { ok: true, value: asked ?? may };
  const over = asked.filter((name) => !may.includes(name));
  return over.length === 0 ? { ok: true, value: asked } : err({ reason: "scope_invalid", scope: over });
}

function invalid(detail: string): Result<never, Denial> {
  return err({ reason: "request_invalid", detail });
}
