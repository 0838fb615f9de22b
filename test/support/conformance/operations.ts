// Two hundred operations of three members, drawn from a seed: what each asks, under which Idempotency-Key, and what became
// of it. An operation whose answer never came may have had its effect or not; repeating it must make it have one.
import { randomUUID } from "node:crypto";
import { exportJWK, generateKeyPair } from "jose";
import { dice } from "../good-token.ts";
import { ALL_SCOPES, send, type Answer, type Member } from "./people.ts";

export type Kind = "register" | "open" | "call" | "patch" | "end";

/** What a call to the researcher costs: its own lookup and the catalogue's; and the most that both may. */
export const CALL_COST = 55;
export const CALL_MOST = 210;
const LOOKUP = "/agents/researcher/default/lookup?q=coral";
const SESSION_BUDGET = 100_000;

export interface Operation {
  readonly number: number;
  readonly kind: Kind;
  readonly member: Member;
  readonly key: string;
  /** `register`: its name. `open`: its session's budget. `patch`: the new cap. Nobody else's. */
  readonly mark: number;
  /** The session that a call, a patch or an end is about; one for each patch and end. */
  readonly target: Target | null;
  ask(): Promise<Answer>;
  /** Not asked yet, asked without an answer, or the answer. */
  state: "waiting" | "unknown" | Answer;
}

export interface Target {
  readonly id: string;
  readonly token: string;
}

export async function openSession(member: Member, budget = SESSION_BUDGET): Promise<Target> {
  const { session, token } = await member.browser.done("POST", "/sessions", { json: { scope: ALL_SCOPES, budget } });
  return { id: String(session), token: String(token) };
}

async function makeOperation(number: number, member: Member, kind: Kind, shared: Target | null): Promise<Operation> {
  const key = randomUUID();
  const mark = 10_000 + number;
  const headers = { "idempotency-key": key };
  const isOfSession = kind === "patch" || kind === "end" || kind === "call";
  const target = isOfSession ? (shared ?? (await openSession(member))) : null;
  const { browser } = member;
  const operation = { number, kind, member, key, mark, target, state: "waiting" as const };
  switch (kind) {
    case "register": {
      const { publicKey } = await generateKeyPair("Ed25519", { extractable: true });
      const { kty, crv, x } = await exportJWK(publicKey);
      const json = { client_name: `agent ${mark}`, jwks: { keys: [{ kty, crv, x }] }, legate_budget: mark };
      return { ...operation, ask: () => browser.send("POST", "/oauth/register", { json, headers }) };
    }
    case "open":
      return { ...operation, ask: () => browser.send("POST", "/sessions", { json: { budget: mark }, headers }) };
    case "patch":
      return {
        ...operation,
        ask: () => browser.send("PATCH", `/sessions/${target?.id}`, { json: { budget: mark }, headers }),
      };
    case "end":
      return { ...operation, ask: () => browser.send("DELETE", `/sessions/${target?.id}?wait=0`, { headers }) };
    case "call":
      return { ...operation, ask: () => send(`${browser.url}${LOOKUP}`, "GET", { bearer: target?.token ?? "" }) };
  }
}

/** Calls are made by one session of each member, and each fourth by a session of its own. */
export async function mixedOperations(count: number, seed: string, members: readonly Member[]): Promise<Operation[]> {
  const d = dice(seed);
  const shared = await Promise.all(members.map((member) => openSession(member)));
  let calls = 0;
  const drawn = Array.from({ length: count }, (_, number) => {
    const of = d.below(members.length);
    const kind = d.pick<Kind>(["register", "open", "open", "call", "call", "call", "patch", "end"]);
    const isShared = kind === "call" && calls++ % 4 !== 0;
    return makeOperation(number, members[of] as Member, kind, isShared ? (shared[of] as Target) : null);
  });
  return Promise.all(drawn);
}

/**
 * Asks what waits, several at a time, until `enough` answers are there; questions may then still be under way.
 *
 * @returns once that is so, with the end of those questions
 */
export async function askUntil(
  operations: readonly Operation[],
  enough: number,
  atOnce: number,
): Promise<{ readonly idle: Promise<unknown> }> {
  const queue = operations.filter(({ state }) => state === "waiting");
  const { promise, resolve } = Promise.withResolvers<void>();
  let answered = 0;
  const work = async () => {
    for (let next = queue.shift(); next !== undefined && answered < enough; next = queue.shift()) {
      next.state = "unknown";
      try {
        next.state = await next.ask();
      } catch {
        continue; // nobody knows what became of it
      }
      if (++answered === enough) resolve();
    }
  };
  const idle = Promise.all(Array.from({ length: atOnce }, work));
  await Promise.race([promise, idle]);
  return { idle };
}

/** The answer, if there was one. */
export function answerOf({ state }: Operation): Answer | null {
  return typeof state === "string" ? null : state;
}
