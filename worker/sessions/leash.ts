/** `GET /sessions/current`: the caller's own leash; how far it reaches, and what is left of it. Read-only. */
import { scopesWithin } from "../../core/config.ts";
import { depthOf, toEpochMs } from "../../core/ids.ts";
import { ACTORS_MAX, SEGMENTS_MAX } from "../../core/limits.ts";
import { ok } from "../../core/result.ts";
import { rateHeaders } from "../../core/wire/http.ts";
import type { Answer, Call, SessionCaller } from "../call.ts";
import { json } from "../respond.ts";

export async function leash(call: Call, { token }: SessionCaller): Promise<Answer> {
  const answer = await call.edge.ask(token.subject, (authority) => authority.leash(token));
  if (!answer.ok) return answer;
  const { tier, budget, rate, sessionExpires } = answer.value;
  return ok(
    json({
      session: token.session,
      node: token.node,
      subject: token.subject,
      tier,
      clientId: token.clientId,
      chain: token.actors.map(({ sub, proven }) => ({ sub, proven })),
      scope: scopesWithin(call.edge.config, tier, token.scope),
      agents: token.agents === null ? null : [...token.agents],
      depthLeft: { segments: SEGMENTS_MAX - depthOf(token.node), actors: ACTORS_MAX - token.actors.length },
      budget: { cap: budget.cap, remaining: budget.remaining, held: budget.held },
      rate: rate === null ? null : { ...rate, policy: rateHeaders(rate)["ratelimit-policy"] },
      expiresAt: toEpochMs(token.exp),
      sessionExpiresAt: toEpochMs(sessionExpires),
    }),
  );
}
