/**
 * What a token is worth right now (RFC 7662), and its client's own stop (RFC 7009). Told to two alone: the resource
 * server that the token's audience names, and the client that the token was issued to. To everyone else, and of anything
 * that is no token of theirs, the answer is the same `active: false`, and the same empty 200.
 */
import { scopesWithin } from "../../core/config.ts";
import type { Denial } from "../../core/denial.ts";
import type { EpochSeconds, Micros } from "../../core/ids.ts";
import { err, ok, type Result } from "../../core/result.ts";
import { bearerLink, nestActors, type ActorLink } from "../../core/token/chain.ts";
import { decodeObject, splitToken } from "../../core/token/format.ts";
import { formatScope, meet } from "../../core/token/scope.ts";
import type { VerifiedToken } from "../../core/token/verify.ts";
import type { BudgetView } from "../../core/wire/answers.ts";
import type { Answer, Call, ClientCaller } from "../call.ts";
import { empty, json } from "../respond.ts";
import { verifyForAudience } from "./audience.ts";

const INACTIVE = { active: false };

/** Denials that say something about us, not about the token. */
function isOurs({ reason }: Denial): boolean {
  return reason === "authority_unavailable" || reason === "internal";
}

export async function introspect(call: Call, caller: ClientCaller): Promise<Answer> {
  const text = tokenIn(caller);
  if (!text.ok) return text;
  const facts = (await factsOfAudience(call, caller, text.value)) ?? (await factsOfOwn(call, caller, text.value));
  if (facts.ok) return ok(json(facts.value));
  return isOurs(facts.denial) ? facts : ok(json(INACTIVE));
}

/** The one token that is asked about. An exchange's beside it is refused: no answer is to be about either of two. */
function tokenIn({ form }: ClientCaller): Result<string, Denial> {
  const text = form.get("token");
  if (text === undefined) return err({ reason: "request_invalid", detail: '"token" is missing.' });
  if (form.has("subject_token"))
    return err({ reason: "request_invalid", detail: '"subject_token" is not taken here: send the token as "token".' });
  return ok(text);
}

/** What an answer is made of, however the token was verified. */
interface Facts {
  readonly token: VerifiedToken;
  readonly text: string;
  readonly audience: string;
  readonly scope: Iterable<string>;
  readonly clientId: string;
  readonly actors: readonly ActorLink[];
  readonly exp: EpochSeconds;
  readonly budget: BudgetView;
}

function statement({ token, text, audience, scope, clientId, actors, exp, budget }: Facts): object {
  // Verified already: `iat` and `jti` are for the record, and no decision of ours reads them.
  const { iat, jti } = decodeObject(splitToken(text)?.payload ?? "")?.value ?? {};
  const act = nestActors(actors);
  return {
    active: true,
    scope: formatScope(scope),
    client_id: clientId,
    sub: token.subject,
    aud: audience,
    exp,
    iat,
    jti,
    token_type: "Bearer",
    ...(act === undefined ? {} : { act }),
    chain: actors.map(({ sub, proven }) => ({ sub, proven })),
    node: token.node,
    budget: budgetOf(budget),
  };
}

function budgetOf({ cap, remaining, held }: BudgetView): {
  cap: Micros | null;
  remaining: Micros | null;
  held: Micros;
} {
  return { cap, remaining, held };
}

/**
 * For a resource server: rights are those of the grant's row and of the blocks.
 *
 * @returns null where the caller speaks for no audience, or the token is for none of its own
 */
async function factsOfAudience(call: Call, caller: ClientCaller, text: string): Promise<Result<object, Denial> | null> {
  const verified = await verifyForAudience(call, caller, text);
  if (verified === null) return null;
  const { audience, token } = verified;
  if (token === null) return ok(INACTIVE);
  const grant = await call.edge.ask(token.subject, (authority) => authority.introspect(token, audience));
  if (!grant.ok) return grant;
  const { clientId, scope, expires, budget } = grant.value;
  const exp = Math.min(token.exp, expires) as EpochSeconds;
  const actors = withBearerLinks(grant.value.actors, token);
  return ok(statement({ token, text, audience, scope: meet(token.scope, scope), clientId, actors, exp, budget }));
}

/** The row's actors, and below them the bearer links of the token's blocks. */
function withBearerLinks(actors: readonly ActorLink[], token: VerifiedToken): readonly ActorLink[] {
  const links = [...actors];
  for (const { content } of token.segments) {
    const [act] = JSON.parse(content) as [string | null];
    if (act !== null) links.push(bearerLink(links.at(-1)?.sub ?? token.subject, act));
  }
  return links;
}

/** For the client that the token was issued to. A delegation that waits to be redeemed is of no use to anyone yet. */
async function factsOfOwn(call: Call, caller: ClientCaller, text: string): Promise<Result<object, Denial>> {
  const token = ownToken(caller);
  if (token === null || token.delegatedTo !== null) return ok(INACTIVE);
  const leash = await call.edge.ask(token.subject, (authority) => authority.leash(token));
  if (!leash.ok) return leash;
  const { clientId, actors, exp } = token;
  const { tier, budget } = leash.value;
  const scope = scopesWithin(call.edge.config, tier, token.scope);
  return ok(statement({ token, text, audience: call.edge.issuer, scope, clientId, actors, exp, budget }));
}

function ownToken({ subject, client }: ClientCaller): VerifiedToken | null {
  return subject !== null && subject.ok && subject.value.clientId === client.agent.id ? subject.value : null;
}

/** Ends the token's own node and what lies below. Only its client's token; 200 for all else, so that nothing is learnt. */
export async function revoke(call: Call, caller: ClientCaller): Promise<Answer> {
  const text = tokenIn(caller);
  if (!text.ok) return text;
  const token = ownToken(caller);
  if (token === null) return ok(empty(200));
  const ended = await call.edge.ask(token.subject, (authority) =>
    authority.revoke({
      path: token.node,
      why: "revoked",
      by: { kind: "agent", id: caller.client.agent.id, reason: null },
      reach: { kind: "node", token },
      wait: false,
      idempotency: null,
    }),
  );
  return ended.ok || !isOurs(ended.denial) ? ok(empty(200)) : ended;
}
