// Budgets for APIs that are not behind the gate: an exchanged token holds, and each hold ends once, by the audience that
// made it.
import { evictDurableObject } from "cloudflare:test";
import { env } from "cloudflare:workers";
import { expect, test } from "vitest";
import { narrowToken } from "../../core/token/mint.ts";
import type { Edge } from "../../worker/env.ts";
import {
  ACCESS_TOKEN,
  edge,
  EXCHANGE,
  registerAgent,
  send,
  signUp,
  tokenOf,
  type Agent,
  type Answered,
} from "../support/workerd/ways-in.ts";

const LEDGER = "https://ledger.example";
const ASSERTION = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer";
const OTHER = "https://other.example";

interface Scene {
  readonly server: Agent;
  readonly other: Agent;
  readonly via: Edge;
  readonly token: string;
  readonly own: string;
  /** Whose session it is. */
  readonly user: string;
  hold(
    fields: Readonly<Record<string, unknown>>,
    by?: Agent,
    headers?: Readonly<Record<string, string>>,
  ): Promise<Answered>;
  end(id: string, how: string, fields?: Readonly<Record<string, unknown>>, by?: Agent): Promise<Answered>;
}

async function scene(budget = "100"): Promise<Scene> {
  const [server, other] = [await registerAgent(await signUp()), await registerAgent(await signUp())];
  const agent = await registerAgent(await signUp());
  const audiences = new Map([
    [LEDGER, { name: LEDGER, client: server.id }],
    [OTHER, { name: OTHER, client: other.id }],
  ]);
  const via = { ...edge, config: { ...edge.config, audiences } };
  const own = await tokenOf(agent, { legate_budget: budget });
  const form = { grant_type: EXCHANGE, subject_token: own, subject_token_type: ACCESS_TOKEN, audience: LEDGER };
  const token = (await agent.ask("/oauth/token", form, via)).body.access_token as string;
  const post = async (path: string, by: Agent, fields: Readonly<Record<string, unknown>>, headers = {}) =>
    send(path, {
      edge: via,
      method: "POST",
      json: { ...fields, client_assertion_type: ASSERTION, client_assertion: await by.assertion() },
      headers,
    });
  return {
    server,
    other,
    via,
    token,
    own,
    user: agent.member.id,
    hold: (fields, by = server, headers = {}) => post("/holds", by, { token, ...fields }, headers),
    end: (id, how, fields = {}, by = server) => post(`/holds/${id}/${how}`, by, fields),
  };
}

const seen = ({ status, body }: Answered): unknown[] => [status, body.code ?? body.cost ?? body.held];

test("hold, settle for less, and the rest is free again", async () => {
  const { hold, end } = await scene();
  const held = await hold({ cost: 60 });
  expect([held.status, held.body.held, held.body.remaining]).toEqual([201, 60, 40]);
  expect(seen(await hold({ cost: 41 }))).toEqual([429, "budget_leased"]);
  expect(seen(await end(held.body.hold as string, "settle", { cost: 25 }))).toEqual([200, 25]);
  expect((await hold({ cost: 75 })).body.remaining).toBe(0);
});

test("each hold has one ending, and the documented answer to every other", async () => {
  const { hold, end, other } = await scene();
  const id = (await hold({ cost: 10 })).body.hold as string;
  expect(seen(await end(id, "settle", { cost: 5 }, other))).toEqual([404, "not_found"]);
  expect(seen(await end(id, "settle", { cost: 11 }))).toEqual([400, "invalid_cost"]);
  for (const cost of [-1, 1.5, "1e3", "x", 2 ** 53]) expect((await end(id, "settle", { cost })).status).toBe(400);
  expect(seen(await end(id, "settle", { cost: 5 }))).toEqual([200, 5]);
  expect((await end(id, "settle", { cost: 5 })).body.repeated).toBe(true);
  expect(seen(await end(id, "settle", { cost: 6 }))).toEqual([409, "already_ended"]);
  expect(seen(await end(id, "void"))).toEqual([409, "already_ended"]);
  const voided = (await hold({ cost: 10 })).body.hold as string;
  expect(seen(await end(voided, "void"))).toEqual([200, 0]);
  expect(seen(await end(voided, "settle", { cost: 1 }))).toEqual([409, "already_ended"]);
  expect(seen(await end(`${id.slice(0, -1)}${id.endsWith("a") ? "b" : "a"}`, "void"))).toEqual([404, "not_found"]);
});

test("the same Idempotency-Key holds once; another amount under it is a conflict", async () => {
  const { hold, server } = await scene();
  const key = { "idempotency-key": "one" };
  const first = await hold({ cost: 30 }, server, key);
  expect((await hold({ cost: 30 }, server, key)).body.hold).toBe(first.body.hold);
  expect(seen(await hold({ cost: 31 }, server, key))).toEqual([409, "idempotency_conflict"]);
});

test("only a token of that very audience, from the client that speaks for it", async () => {
  const { hold, own, other, token, user } = await scene();
  expect(seen(await hold({ cost: 1, token: own }))).toEqual([401, "invalid_token"]);
  expect(seen(await hold({ cost: 1 }, other))).toEqual([401, "invalid_token"]);
  expect(seen(await hold({ cost: 1, token: `${token}x` }))).toEqual([401, "invalid_token"]);
  expect((await hold({ cost: 1, ttlSeconds: 0 })).status).toBe(400);
  const narrowed = await narrowToken(token, { budget: 5 as never, act: "helper" }, edge.random);
  expect(seen(await hold({ cost: 6, token: narrowed }))).toEqual([402, "budget_exhausted"]);
  expect((await hold({ cost: 5, token: narrowed })).status).toBe(201);
  await evictDurableObject(env.AUTHORITY.getByName(user));
  expect(seen(await hold({ cost: 1, token: narrowed }))).toEqual([429, "budget_leased"]);
});
