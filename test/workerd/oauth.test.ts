// Agents: registering them, the token endpoint's four verbs, and what must never come out of it.
import { describe, expect, test } from "vitest";
import { narrowToken } from "../../core/token/mint.ts";
import {
  ACCESS_TOKEN,
  bearer,
  Browser,
  edge,
  EXCHANGE,
  exchange,
  HOST,
  openSession,
  publicJwk,
  registerAgent,
  send,
  signUp,
  tokenOf,
  visible,
  type Agent,
} from "../support/workerd/ways-in.ts";

const narrow = (token: string, narrowing: Parameters<typeof narrowToken>[1]) =>
  narrowToken(token, narrowing, edge.random);
const leashOf = async (token: string) => (await send("/sessions/current", { headers: bearer(token) })).body;

/** An agent of one person, and one of another. */
async function twoAgents(): Promise<{ mine: Agent; theirs: Agent }> {
  return { mine: await registerAgent(await signUp()), theirs: await registerAgent(await signUp()) };
}

describe("registering", () => {
  test.each(["ES256", "EdDSA"])("keeps a public key (%s) and tells the client what it is", async (alg) => {
    const member = await signUp();
    const { jwk } = await publicJwk(alg);
    const json = {
      client_name: "Köchin",
      jwks: { keys: [{ ...jwk, kid: "one", use: "sig" }] },
      scope: "plan",
      legate_budget: 500,
    };
    const answer = await member.browser.send("/oauth/register", { json });
    expect(answer.status).toBe(201);
    expect(answer.body).toEqual({
      client_id: expect.stringMatching(/^agt_[a-z2-7]{20}_[a-z2-7]{28}$/),
      client_name: "Köchin",
      client_id_issued_at: expect.any(Number),
      jwks: { keys: [jwk] },
      scope: "plan",
      legate_budget: 500,
      token_endpoint_auth_method: "private_key_jwt",
      grant_types: ["client_credentials", EXCHANGE],
    });
    const id = answer.body.client_id;
    expect((await member.browser.send("/oauth/clients")).body).toEqual({ clients: [answer.body] });
    expect((await member.browser.send(`/oauth/clients/${id}`)).body).toEqual(answer.body);
  });

  test("all that the tier may hand on, unless less is asked; more is refused", async () => {
    const free = await signUp();
    const pro = await signUp("pro");
    const scopeOf = async ({ browser }: typeof free, scope?: string) => {
      const { jwk } = await publicJwk();
      const json = { client_name: "a", jwks: { keys: [jwk] }, ...(scope === undefined ? {} : { scope }) };
      const { status, body } = await browser.send("/oauth/register", { json });
      return status === 201 ? body.scope : body.error;
    };
    expect(await scopeOf(free)).toBe("plan research catalog:read");
    expect(await scopeOf(pro)).toBe("plan research catalog:read catalog:write");
    expect(await scopeOf(free, "plan catalog:write")).toBe("invalid_scope");
    expect(await scopeOf(pro, "operator")).toBe("invalid_scope");
    expect(await scopeOf(pro, "plan  research")).toBe("invalid_scope");
    expect(await scopeOf(pro, "")).toBe("");
  });

  test("keys that are private, of another kind, or no keys, are refused in a sentence", async () => {
    const { browser } = await signUp();
    const { jwk, privateJwk } = await publicJwk();
    const rsa = { kty: "RSA", n: "AQAB", e: "AQAB" };
    const cases: readonly (readonly [unknown, RegExp])[] = [
      [[privateJwk], /private/],
      [[(await publicJwk("EdDSA")).privateJwk], /private/],
      [[{ kty: "oct", k: "c2VjcmV0" }], /private/],
      [[rsa], /P-256/],
      [[{ ...jwk, crv: "P-384" }], /P-256/],
      [[{ ...jwk, x: jwk.y, y: jwk.x }], /no point/],
      [[{ ...jwk, x: `${jwk.x ?? ""}=` }], /P-256/],
      [[{ ...jwk, use: "enc" }], /"use"/],
      [[{ ...jwk, alg: "ES384" }], /"alg"/],
      [[{ ...jwk, key_ops: ["sign"] }], /"key_ops"/],
      [[], /one key/],
      [[jwk, jwk], /one key/],
      [["jwk"], /jwks/],
    ];
    for (const [keys, says] of cases) {
      const answer = await browser.send("/oauth/register", { json: { client_name: "a", jwks: { keys } } });
      expect([answer.status, answer.body.error]).toEqual([400, "invalid_request"]);
      expect(answer.body.error_description).toMatch(says);
    }
  });

  test("the budget can be changed, and deleting ends what the agent runs", async () => {
    const member = await signUp();
    const agent = await registerAgent(member, { legate_budget: undefined });
    expect((await openSession(agent)).body.error_description).toMatch(/no budget/);
    const changed = await member.browser.send(`/oauth/clients/${agent.id}`, {
      method: "PATCH",
      json: { legate_budget: 70 },
    });
    expect([changed.status, changed.body.legate_budget]).toEqual([200, 70]);
    const token = await tokenOf(agent);
    expect((await leashOf(token)).budget.cap).toBe(70);
    const removed = await member.browser.send(`/oauth/clients/${agent.id}`, { method: "DELETE" });
    expect([removed.status, removed.body]).toEqual([204, null]);
    expect((await leashOf(token)).code).toBe("session_ended");
    expect((await openSession(agent)).body.error).toBe("invalid_client");
    expect((await member.browser.send(`/oauth/clients/${agent.id}`)).status).toBe(404);
  });

  test("is a person's in person: no Bearer, no one else's", async () => {
    const { mine, theirs } = await twoAgents();
    const token = await tokenOf(mine);
    const { jwk } = await publicJwk();
    const json = { client_name: "a", jwks: { keys: [jwk] } };
    for (const [method, path] of [
      ["POST", "/oauth/register"],
      ["GET", "/oauth/clients"],
      ["PATCH", `/oauth/clients/${mine.id}`],
      ["DELETE", `/oauth/clients/${mine.id}`],
    ] as const) {
      const answer = await send(path, { method, headers: bearer(token), ...(method === "GET" ? {} : { json }) });
      expect([answer.status, answer.body.error]).toEqual([403, "access_denied"]);
    }
    const { browser } = mine.member;
    const missing = await browser.send(`/oauth/clients/${"agt_".padEnd(53, "a")}`);
    for (const id of [theirs.id, `${theirs.id.slice(0, -1)}7`, "me", mine.member.id]) {
      expect(visible(await browser.send(`/oauth/clients/${id}`))).toEqual(visible(missing));
      const patched = await browser.send(`/oauth/clients/${id}`, { method: "PATCH", json: { legate_budget: 1 } });
      expect(patched.status).toBe(404);
      expect((await browser.send(`/oauth/clients/${id}`, { method: "DELETE" })).status).toBe(404);
    }
  });

  test("the same Idempotency-Key registers one agent; with other arguments it is a conflict", async () => {
    const { browser } = await signUp();
    const { jwk } = await publicJwk();
    const headers = { "idempotency-key": "first" };
    const json = { client_name: "a", jwks: { keys: [jwk] } };
    const first = await browser.send("/oauth/register", { json, headers });
    const again = await browser.send("/oauth/register", { json, headers });
    expect(again.body).toEqual(first.body);
    const other = await browser.send("/oauth/register", { json: { ...json, client_name: "b" }, headers });
    expect(other.status).toBe(409);
    const odd = await browser.send("/oauth/register", { json, headers: { "idempotency-key": "two words" } });
    expect(odd.status).toBe(400);
    expect((await browser.send("/oauth/clients")).body.clients).toHaveLength(1);
  });
});

describe("client_credentials", () => {
  test("opens a session of the agent's owner", async () => {
    const agent = await registerAgent(await signUp());
    const answer = await openSession(agent, {
      scope: "plan",
      legate_budget: "250",
      legate_ttl: "120",
      resource: `${HOST}/agents/planner`,
    });
    expect(answer.status).toBe(200);
    expect(answer.body).toEqual({
      access_token: expect.any(String),
      token_type: "Bearer",
      expires_in: expect.any(Number),
      scope: "plan",
      issued_token_type: ACCESS_TOKEN,
    });
    expect(answer.body.expires_in).toBeGreaterThan(115);
    expect(answer.body.expires_in).toBeLessThanOrEqual(120);
    expect(answer.headers.get("cache-control")).toBe("no-store");
    const leash = await leashOf(answer.body.access_token);
    expect(leash).toMatchObject({
      node: leash.session,
      subject: agent.member.id,
      chain: [{ sub: agent.id, proven: true }],
      scope: ["plan"],
      agents: ["planner"],
      depthLeft: { segments: 12, actors: 7 },
      budget: { cap: 250, remaining: 250, held: 0 },
    });
  });

  test("fifty racing uses of one assertion: one wins", async () => {
    const agent = await registerAgent(await signUp());
    const client_assertion = await agent.assertion();
    const answers = await Promise.all(Array.from({ length: 50 }, () => openSession(agent, { client_assertion })));
    expect(answers.filter(({ status }) => status === 200)).toHaveLength(1);
    for (const answer of answers.filter(({ status }) => status !== 200))
      expect([answer.status, answer.body.error]).toSatisfy(
        ([status, error]: [number, string]) => (status === 401 && error === "invalid_client") || status === 429,
      );
  });

  test.each<[what: string, form: Record<string, string>, error: string]>([
    ["a scope nobody knows", { scope: "everything" }, "invalid_scope"],
    ["a scope of a higher tier", { scope: "catalog:write" }, "invalid_scope"],
    ["the operators' scope", { scope: "operator" }, "invalid_scope"],
    ["a scope with two spaces", { scope: "plan  research" }, "invalid_scope"],
    ["a foreign resource", { resource: "https://elsewhere.test" }, "invalid_target"],
    ["a resource that begins like ours", { resource: `${HOST}.evil.test/agents/planner` }, "invalid_target"],
    ["an agent that is not here", { resource: `${HOST}/agents/nobody` }, "invalid_target"],
    ["a path below an agent", { resource: `${HOST}/agents/planner/other` }, "invalid_target"],
    ["an audience that is not here", { audience: "https://elsewhere.test" }, "invalid_target"],
    ["a negative budget", { legate_budget: "-1" }, "invalid_request"],
    ["half a micro", { legate_budget: "0.5" }, "invalid_request"],
    ["a budget past counting", { legate_budget: "9007199254740993" }, "invalid_request"],
    ["a life too short", { legate_ttl: "59" }, "invalid_request"],
    ["a reservation", { legate_reserve: "1" }, "invalid_request"],
    ["another grant", { grant_type: "password" }, "unsupported_grant_type"],
    [
      "a grant that is not built yet",
      { grant_type: "urn:ietf:params:oauth:grant-type:jwt-bearer" },
      "unsupported_grant_type",
    ],
    ["no grant type's name", { grant_type: "" }, "unsupported_grant_type"],
  ])("%s: %o", async (_, form, error) => {
    const answer = await openSession(await registerAgent(await signUp()), form);
    expect([answer.status, answer.body.error]).toEqual([400, error]);
    expect(Object.keys(answer.body).sort()).toEqual(["error", "error_description"]);
  });

  test("the issuer as resource and audience is what a token is for anyway", async () => {
    const agent = await registerAgent(await signUp());
    for (const form of [{ resource: HOST }, { resource: `${HOST}/` }, { audience: HOST }])
      expect((await openSession(agent, form)).status).toBe(200);
  });

  test("nobody who can't sign gets in", async () => {
    const { mine, theirs } = await twoAgents();
    const iat = Math.floor(Date.now() / 1000);
    const bad = [
      { client_assertion: "" },
      { client_assertion: "a.b.c" },
      { client_assertion_type: "urn:other" },
      { client_assertion: await mine.assertion({ aud: "https://elsewhere.test" }) },
      { client_assertion: await mine.assertion({ exp: iat - 60, iat: iat - 100 }) },
      { client_assertion: await mine.assertion({ exp: iat + 3_600 }) },
      { client_assertion: await mine.assertion({ iss: theirs.id, sub: theirs.id }) },
      { client_assertion: await mine.assertion({ sub: theirs.id }) },
      { client_assertion: await mine.assertion({ jti: undefined }) },
      { client_id: theirs.id },
    ];
    for (const form of bad) {
      const answer = await openSession(mine, form);
      expect([answer.status, answer.body.error]).toEqual([401, "invalid_client"]);
    }
  });
});

describe("token-exchange", () => {
  test("redeem: user -> a[plan] -> b[plan, 40], and B's calls are provably B's", async () => {
    const { mine: a, theirs: b } = await twoAgents();
    const token = await tokenOf(a);
    const delegation = await narrow(token, { for: b.id, scope: "plan", budget: 40 as never });
    const answer = await exchange(b, delegation);
    expect([answer.status, answer.body.scope]).toEqual([200, "plan"]);
    const leash = await leashOf(answer.body.access_token);
    expect(leash).toMatchObject({
      subject: a.member.id,
      clientId: b.id,
      chain: [
        { sub: a.id, proven: true },
        { sub: b.id, proven: true },
      ],
      scope: ["plan"],
      budget: { remaining: 40 },
    });
    expect((await exchange(b, delegation, { scope: "research" })).body.error).toBe("invalid_scope");
    // Redeemed authority never outlives what it came from.
    const parent = await leashOf(token);
    expect(leash.expiresAt).toBeLessThanOrEqual(parent.sessionExpiresAt);
    await a.member.browser.send(`/sessions/${parent.session}`, { method: "DELETE" });
    expect((await leashOf(answer.body.access_token)).code).toBe("session_ended");
    expect((await exchange(b, delegation)).body.error).toBe("invalid_grant");
  });

  test("a thief of a named delegation gets nothing: not redeemed by others, not used, not appended to", async () => {
    const { mine: a, theirs: b } = await twoAgents();
    const thief = await registerAgent(await signUp());
    const token = await tokenOf(a);
    const delegation = await narrow(token, { for: b.id });
    expect((await exchange(thief, delegation)).body.error).toBe("invalid_grant");
    expect((await exchange(a, delegation)).body.error).toBe("invalid_grant");
    expect((await leashOf(delegation)).code).toBe("delegation_not_redeemed");
    const appended = await narrow(delegation, { for: thief.id });
    expect((await exchange(thief, appended)).body.error).toBe("invalid_grant");
    // A bearer's own token redeems nothing for anyone else either.
    expect((await exchange(thief, token)).body.error).toBe("invalid_grant");
  });

  test("narrow: less of one's own, and never more", async () => {
    const { mine } = await twoAgents();
    const token = await tokenOf(mine, { scope: "plan research" });
    const answer = await exchange(mine, token, {
      scope: "plan",
      legate_budget: "30",
      resource: `${HOST}/agents/planner`,
    });
    expect([answer.status, answer.body.scope]).toEqual([200, "plan"]);
    const leash = await leashOf(answer.body.access_token);
    expect(leash).toMatchObject({
      scope: ["plan"],
      agents: ["planner"],
      budget: { remaining: 30 },
      depthLeft: { segments: 11 },
    });
    expect(leash.chain).toEqual([{ sub: mine.id, proven: true }]);
    expect((await exchange(mine, token, { scope: "plan catalog:read" })).body.error).toBe("invalid_scope");
    const wider = await exchange(mine, answer.body.access_token, { resource: `${HOST}/agents/researcher` });
    expect(wider.body.error).toBe("invalid_target");
  });

  test("renew: the same grant, a new window; what was narrowed away stays away", async () => {
    const { mine, theirs } = await twoAgents();
    const token = await tokenOf(mine);
    const answer = await exchange(mine, token);
    expect(answer.status).toBe(200);
    expect(answer.body.access_token).not.toBe(token);
    expect((await leashOf(answer.body.access_token)).node).toBe((await leashOf(token)).node);
    expect((await exchange(mine, await narrow(token, { scope: "plan" }))).body.error).toBe("invalid_grant");
    expect((await exchange(mine, await narrow(token, { act: "helper" }))).body.error).toBe("invalid_grant");
    expect((await exchange(mine, await narrow(token, { act: "helper" }), { scope: "plan" })).body.error).toBe(
      "invalid_grant",
    );
    expect((await exchange(theirs, token)).body.error).toBe("invalid_grant");
    const api = await mine.member.browser.send("/sessions", { json: {} });
    expect((await exchange(mine, api.body.token)).body.error).toBe("invalid_grant");
    expect((await exchange(mine, mine.member.browser.cookie)).body.error).toBe("invalid_grant");
  });

  test("a token of an agent behind the gate is never exchanged, renewed or redeemed from", async () => {
    const { mine } = await twoAgents();
    const leash = await leashOf(await tokenOf(mine));
    const now = Math.floor(Date.now() / 1000);
    const sub = `${HOST}/agents/planner`;
    const token = await edge.sessionKey.mint({
      sub: mine.member.id,
      iat: now as never,
      exp: (now + 300) as never,
      jti: "gate",
      gid: `${leash.node}.~planner`,
      scope: "plan",
      client_id: sub,
      act: { sub, act: { sub: mine.id } },
      agents: ["researcher"],
      tier: "free",
    });
    for (const given of [token, await narrow(token, { scope: "plan" }), await narrow(token, { for: mine.id })]) {
      expect((await exchange(mine, given)).body.error).toBe("invalid_grant");
      expect((await exchange(mine, given, { scope: "plan" })).body.error).toBe("invalid_grant");
    }
  });

  test.each<[what: string, form: Record<string, string>]>([
    ["no type of the token", { subject_token_type: "" }],
    ["another type of token", { subject_token_type: "urn:ietf:params:oauth:token-type:saml2" }],
    ["another token asked for", { requested_token_type: "urn:ietf:params:oauth:token-type:refresh_token" }],
    ["an actor's token", { actor_token: "x", actor_token_type: ACCESS_TOKEN }],
  ])("%s: invalid_request", async (_, form) => {
    const agent = await registerAgent(await signUp());
    const answer = await exchange(agent, await tokenOf(agent), form);
    expect([answer.status, answer.body.error]).toEqual([400, "invalid_request"]);
  });

  test("no token, and no good one", async () => {
    const agent = await registerAgent(await signUp());
    const none = await agent.ask("/oauth/token", { grant_type: EXCHANGE });
    expect([none.status, none.body.error]).toEqual([400, "invalid_request"]);
    for (const token of ["", "x", "a.b.c", `${await tokenOf(agent)}x`])
      expect([(await exchange(agent, token)).status, (await exchange(agent, token)).body.error]).toEqual([
        400,
        "invalid_grant",
      ]);
  });
});

test("an agent that was deleted redeems nothing, though it was delegated to before", async () => {
  const { mine: a, theirs: b } = await twoAgents();
  const delegation = await narrow(await tokenOf(a), { for: b.id });
  const redeemed = (await exchange(b, delegation)).body.access_token as string;
  await b.member.browser.send(`/oauth/clients/${b.id}`, { method: "DELETE" });
  expect((await leashOf(redeemed)).code).toBe("session_ended");
  expect((await exchange(b, delegation)).body.error).toBe("invalid_client");
});

test("a cookie of a session that has ended does nothing", async () => {
  const { browser } = await signUp();
  const stale = new Browser();
  stale.cookies.set("__Host-legate", browser.cookie);
  await browser.send("/auth/logout", { method: "POST" });
  const { jwk } = await publicJwk();
  const json = { client_name: "a", jwks: { keys: [jwk] } };
  expect((await stale.send("/oauth/register", { json })).status).toBe(401);
  expect((await stale.send("/oauth/clients")).status).toBe(401);
  expect((await stale.send("/sessions", { json: {} })).status).toBe(401);
  expect((await stale.send("/sessions")).status).toBe(401);
});
