// Who is told what a token is worth: its own client, and the resource server that it is for. To all others it is nothing.
import { expect, test } from "vitest";
import { audienceTokenKey } from "../../core/token/keyring.ts";
import { narrowToken } from "../../core/token/mint.ts";
import { makeOwnedId, makeUserId } from "../../core/ids.ts";
import { err } from "../../core/result.ts";
import type { Edge } from "../../worker/env.ts";
import {
  bearer,
  edge,
  EXCHANGE,
  ACCESS_TOKEN,
  registerAgent,
  send,
  signUp,
  tokenOf,
  visible,
  type Agent,
} from "../support/workerd/ways-in.ts";

const AUDIENCE = "https://ledger.example";
const by = { kind: "legate" as const, id: "test", reason: null };
const narrow = (token: string, narrowing: Parameters<typeof narrowToken>[1]) =>
  narrowToken(token, narrowing, edge.random);

const introspect = (agent: Agent, token: string, via: Edge = edge) => agent.ask("/oauth/introspect", { token }, via);

/** The edge of a deployment in which that client speaks for the audience. */
const withAudience = (client: Agent): Edge => ({
  ...edge,
  config: { ...edge.config, audiences: new Map([[AUDIENCE, { name: AUDIENCE, client: client.id }]]) },
});

test("its own client learns scope, chain and budget", async () => {
  const agent = await registerAgent(await signUp());
  const token = await tokenOf(agent, { scope: "plan", legate_budget: "80" });
  const { status, body } = await introspect(agent, token);
  expect(status).toBe(200);
  expect(body).toEqual({
    active: true,
    scope: "plan",
    client_id: agent.id,
    sub: agent.member.id,
    aud: edge.issuer,
    exp: expect.any(Number),
    iat: expect.any(Number),
    jti: expect.any(String),
    token_type: "Bearer",
    act: { sub: agent.id },
    chain: [{ sub: agent.id, proven: true }],
    node: expect.stringMatching(/^ses_/),
    budget: { cap: 80, remaining: 80, held: 0 },
  });
  const child = await introspect(agent, await narrow(token, { act: "helper", scope: "" }));
  expect(child.body).toMatchObject({
    active: true,
    scope: "",
    act: { sub: `${agent.id}/helper`, proven: false, act: { sub: agent.id } },
  });
});

test("what a lowered tier takes away is told at once, on the leash too", async () => {
  const member = await signUp("pro");
  const agent = await registerAgent(member, { scope: "plan catalog:write" });
  const token = await tokenOf(agent);
  expect((await introspect(agent, token)).body.scope).toBe("plan catalog:write");
  await edge.ask(member.id, (authority) => authority.setTier("free", by));
  expect((await introspect(agent, token)).body.scope).toBe("plan");
  const leash = await send("/sessions/current", { headers: bearer(token) });
  expect([leash.body.tier, leash.body.scope]).toEqual(["free", ["plan"]]);
});

test("one token is asked about: a second one beside it is refused", async () => {
  const agent = await registerAgent(await signUp());
  const [one, other] = [await tokenOf(agent), await tokenOf(agent)];
  for (const path of ["/oauth/introspect", "/oauth/revoke"]) {
    const answer = await agent.ask(path, { token: one, subject_token: other });
    expect([answer.status, answer.body.error]).toEqual([400, "invalid_request"]);
  }
  for (const token of [one, other]) expect((await introspect(agent, token)).body.active).toBe(true);
});

test("everyone else learns one thing, that it is nothing to them", async () => {
  const agent = await registerAgent(await signUp());
  const stranger = await registerAgent(await signUp());
  const token = await tokenOf(agent);
  const nothing = await introspect(stranger, "x");
  expect([nothing.status, nothing.body]).toEqual([200, { active: false }]);
  expect(visible(await introspect(stranger, token))).toEqual(visible(nothing));
  for (const text of ["", "a.b.c", `${token}x`, agent.member.browser.cookie, await narrow(token, { for: stranger.id })])
    expect((await introspect(agent, text)).body).toEqual({ active: false });
  await agent.member.browser.send(`/sessions/${(await introspect(agent, token)).body.node}`, { method: "DELETE" });
  expect((await introspect(agent, token)).body).toEqual({ active: false });
  expect((await agent.ask("/oauth/introspect", {})).status).toBe(400);
  expect((await send("/oauth/introspect", { form: { token } })).status).toBe(401);
});

test("a resource server is told of tokens for its audience alone, by the row and not by the claims", async () => {
  const server = await registerAgent(await signUp());
  const agent = await registerAgent(await signUp());
  const via = withAudience(server);
  const own = await tokenOf(agent, { scope: "plan research" });
  const exchanged = await agent.ask(
    "/oauth/token",
    { grant_type: EXCHANGE, subject_token: own, subject_token_type: ACCESS_TOKEN, audience: AUDIENCE, scope: "plan" },
    via,
  );
  expect(exchanged.status).toBe(200);
  expect(exchanged.body.expires_in).toBeLessThanOrEqual(300);
  const token = exchanged.body.access_token as string;
  // Not a session token: Legate's own doors stay shut to it.
  expect((await send("/sessions/current", { headers: bearer(token) })).status).toBe(401);
  const told = await introspect(server, token, via);
  expect(told.body).toMatchObject({
    active: true,
    aud: AUDIENCE,
    scope: "plan",
    client_id: agent.id,
    sub: agent.member.id,
  });
  const narrowed = await introspect(server, await narrow(token, { act: "helper", scope: "" }), via);
  expect(narrowed.body).toMatchObject({
    active: true,
    scope: "",
    chain: [
      { sub: agent.id, proven: true },
      { sub: `${agent.id}/helper`, proven: false },
    ],
  });
  // Its audience's key is not the issuer's, and other clients are not that audience.
  expect((await introspect(server, own, via)).body).toEqual({ active: false });
  expect((await introspect(agent, token, via)).body).toEqual({ active: false });
  expect((await introspect(server, token)).body).toEqual({ active: false });

  // What the server itself could write with its key gains nothing.
  const key = await audienceTokenKey(edge.secrets, edge.issuer, AUDIENCE);
  const now = Math.floor(Date.now() / 1000);
  const claims = {
    sub: agent.member.id,
    iat: now as never,
    exp: (now + 200) as never,
    jti: "forged",
    client_id: agent.id,
    act: { sub: agent.id },
  };
  const { node } = told.body;
  const greedy = await key.mint({ ...claims, gid: node, scope: "plan research catalog:write", tier: "admin" });
  expect((await introspect(server, greedy, via)).body).toEqual({ active: false });
  const session = (await introspect(agent, own)).body.node as string;
  expect((await introspect(server, await key.mint({ ...claims, gid: session, scope: "plan" }), via)).body).toEqual({
    active: false,
  });
  const stranger = makeUserId(edge.random, () => new Uint8Array(8));
  const gid = makeOwnedId("ses", stranger, edge.random, () => new Uint8Array(8));
  const asked: string[] = [];
  const watched: Edge = { ...via, ask: (user, question) => (asked.push(user), edge.ask(user, question)) };
  const invented = await key.mint({
    ...claims,
    sub: stranger,
    gid,
    scope: "plan",
    client_id: stranger,
    act: undefined as never,
  });
  expect((await introspect(server, invented, watched)).body).toEqual({ active: false });
  expect(asked).toEqual([server.member.id]); // the server's own object, for its assertion
});

test("an object out of reach is not an inactive token", async () => {
  const agent = await registerAgent(await signUp());
  const token = await tokenOf(agent);
  let asked = 0;
  const failing: Edge = {
    ...edge,
    ask: async (user, question) =>
      asked++ === 0 ? edge.ask(user, question) : err({ reason: "authority_unavailable" }),
  };
  expect((await introspect(agent, token, failing)).status).toBe(503);
  asked = 0;
  expect((await agent.ask("/oauth/revoke", { token }, failing)).status).toBe(503);
});

test("revoking ends the token's own node; nobody revokes another's, and nobody learns that", async () => {
  const agent = await registerAgent(await signUp());
  const stranger = await registerAgent(await signUp());
  const token = await tokenOf(agent);
  const child = await narrow(token, { act: "helper" });
  const revoke = (by: Agent, text: string) => by.ask("/oauth/revoke", { token: text });
  const unknown = await revoke(stranger, "x");
  expect([unknown.status, unknown.body]).toEqual([200, null]);
  expect(visible(await revoke(stranger, token))).toEqual(visible(unknown));
  expect((await introspect(agent, token)).body.active).toBe(true);
  expect(visible(await revoke(agent, child))).toEqual(visible(unknown));
  expect((await introspect(agent, child)).body.active).toBe(false);
  expect((await introspect(agent, token)).body.active).toBe(true);
  expect((await revoke(agent, token)).status).toBe(200);
  expect((await introspect(agent, token)).body.active).toBe(false);
  expect((await revoke(agent, token)).status).toBe(200);
  expect((await agent.ask("/oauth/revoke", {})).status).toBe(400);
});
