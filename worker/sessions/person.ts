/** What routes with a cookie ask first: whether the session it stands for still lives, and who the person is now. */
import type { Denial } from "../../core/denial.ts";
import { parseOwnedId, userOf, type AgentId } from "../../core/ids.ts";
import { err, ok, type Result } from "../../core/result.ts";
import type { PersonView } from "../../core/wire/answers.ts";
import type { By } from "../../core/wire/questions.ts";
import type { Call, SessionCaller } from "../call.ts";

/** @returns the person, or `ended`, `user_disabled`, `authority_unavailable` */
export function livePerson({ edge }: Call, { token }: SessionCaller): Promise<Result<PersonView, Denial>> {
  return edge.ask(token.subject, (authority) => authority.check(token));
}

/** In audit rows: the person in person, or the agent that a token's plain part names. */
export function byCaller({ via, token }: SessionCaller): By {
  return via === "cookie" || token.clientId === token.subject
    ? { kind: "person", id: token.subject, reason: null }
    : { kind: "agent", id: token.clientId, reason: null };
}

/** @returns an agent's id if this person's object keeps it; foreign, invented and missing ones are alike */
export function ownAgent({ edge }: Call, { token }: SessionCaller, text: string): Result<AgentId, Denial> {
  const id = parseOwnedId("agt", text, edge.idMac);
  return id === null || userOf(id, edge.idMac) !== token.subject ? err({ reason: "not_found" }) : ok(id);
}
