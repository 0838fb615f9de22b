// Operators: lists from D1, acts in the user's object; the same acts over HTTP and over the entrypoint `Operator`.
import { createExecutionContext } from "cloudflare:test";
import { env } from "cloudflare:workers";
import { beforeAll, describe, expect, test } from "vitest";
import { makeOwnedId, makeUserId, type UserId } from "../../core/ids.ts";
import { err } from "../../core/result.ts";
import { Operator } from "../../worker/admin/operator.ts";
import type { Edge } from "../../worker/env.ts";
import {
  bearer,
  edge,
  registerAgent,
  send,
  signUp,
  tokenOf,
  visible,
  type Member,
} from "../support/workerd/ways-in.ts";

const authorityDownFor = (member: Member): Edge => ({
  ...edge,
  ask: async (user, question) =>
    user === member.id ? edge.ask(user, question) : err({ reason: "authority_unavailable" }),
});
const storageDown: Edge = {
  ...edge,
  db: {
    prepare() {
      throw new Error("D1_ERROR");
    },
  } as unknown as D1Database,
};

let operator: Member;
beforeAll(async () => {
  operator = await signUp("admin");
});

/** Rows as an outbox would deliver them. */
async function rows(user: UserId, count: number, over: { startedAt?: (i: number) => number; endedAt?: number } = {}) {
  const ids: string[] = [];
  for (let i = 0; i < count; i++) {
    const id = makeOwnedId("ses", user, edge.random, edge.idMac);
    ids.push(id);
    await env.DB.prepare(
      "insert into agent_sessions (id, user_id, client_id, kind, agent_slug, started_at, expires_at, ended_at) values (?, ?, ?, 'agent', ?, ?, ?, ?)",
    )
      .bind(
        id,
        user,
        `agt_test_${i % 2}`,
        i % 2 === 0 ? "planner" : "researcher",
        over.startedAt?.(i) ?? 1_000 + i,
        Date.now() + 60_000,
        over.endedAt ?? null,
      )
      .run();
  }
  return ids;
}

const someone = () => makeUserId(edge.random, edge.idMac);
const list = (query: string) => operator.browser.send(`/admin/agents/sessions?${query}`);

describe("the list", () => {
  test("is paged by a cursor, newest first, no row twice and none left out, ties too", async () => {
    const user = someone();
    const made = await rows(user, 25, { startedAt: (i) => 1_000 + Math.floor(i / 7) });
    const seen: { id: string; startedAt: number }[] = [];
    let cursor = "";
    for (let pages = 0; pages < 10; pages++) {
      const { status, body } = await list(`user=${user}&limit=4${cursor === "" ? "" : `&cursor=${cursor}`}`);
      expect(status).toBe(200);
      seen.push(...body.sessions);
      if (body.cursor === null) break;
      expect(body.sessions).toHaveLength(4);
      cursor = body.cursor;
    }
    expect(seen.map(({ id }) => id).sort()).toEqual([...made].sort());
    const times = seen.map(({ startedAt }) => startedAt);
    expect(times).toEqual([...times].sort((a, b) => b - a));
  });

  test("is filtered by user, agent and whether it is active", async () => {
    const user = someone();
    await rows(user, 4);
    await rows(user, 2, { endedAt: 2_000 });
    const count = async (query: string) => (await list(`user=${user}&${query}`)).body.sessions.length;
    expect(await count("")).toBe(6);
    expect(await count("active=true")).toBe(4);
    expect(await count("active=false")).toBe(2);
    expect(await count("agent=planner")).toBe(3);
    expect(await count("agent=agt_test_1")).toBe(3);
    expect(await count("agent=nobody")).toBe(0);
    expect((await list(`user=${someone()}`)).body).toEqual({ sessions: [], cursor: null });
    expect((await list("user=nobody-of-that-name")).body).toEqual({ sessions: [], cursor: null });
  });

  test("by name, with the row that the object's outbox delivered", async () => {
    const member = await signUp();
    const agent = await registerAgent(member);
    await tokenOf(agent);
    await expect
      .poll(async () => (await list(`user=${member.name}&agent=${agent.id}`)).body.sessions.length, { timeout: 10_000 })
      .toBe(1);
    const [row] = (await list(`user=${member.name}&agent=${agent.id}`)).body.sessions;
    expect(row).toMatchObject({ userId: member.id, clientId: agent.id, kind: "agent", endedAt: null });
  });

  test("a page holds a hundred, whatever was asked", async () => {
    const user = someone();
    const insert = env.DB.prepare(
      "insert into agent_sessions (id, user_id, kind, started_at, expires_at) values (?, ?, 'api', ?, 9)",
    );
    await env.DB.batch(Array.from({ length: 105 }, (_, i) => insert.bind(`ses_${user}_${i}`, user, i)));
    expect((await list(`user=${user}&limit=1000`)).body.sessions).toHaveLength(100);
    expect((await list(`user=${user}`)).body.sessions).toHaveLength(25);
  });

  test.each([
    "limit=0",
    "limit=-1",
    "limit=ten",
    "limit=1e9",
    "active=maybe",
    "sort=id",
    "limit=1&limit=2",
    "cursor=x",
    "cursor=e30.AAAA",
    "user=",
    "cursor=%27%20or%201%3D1%20--",
  ])("refuses ?%s", async (query) => {
    const answer = await list(query);
    expect([answer.status, answer.body.code]).toEqual([400, "invalid_request"]);
  });

  test("a cursor of another list, or changed, is none", async () => {
    const user = someone();
    await rows(user, 2);
    const { cursor } = (await list(`user=${user}&limit=1`)).body;
    expect((await operator.browser.send(`/admin/agents/audit?cursor=${cursor}`)).status).toBe(400);
    expect((await list(`cursor=${cursor.replace(/^./, (c: string) => (c === "W" ? "X" : "W"))}`)).status).toBe(400);
  });

  test("a value is never a statement", async () => {
    const user = someone();
    await rows(user, 1);
    for (const value of ["' or 1=1 --", "x'; drop table users; --", "%"]) {
      const { status, body } = await list(`user=${user}&agent=${encodeURIComponent(value)}`);
      expect([status, body]).toEqual([200, { sessions: [], cursor: null }]);
    }
  });
});

test("one session: the row, and what the object says now", async () => {
  const agent = await registerAgent(await signUp());
  const token = await tokenOf(agent, { scope: "plan" });
  const { session } = (await send("/sessions/current", { headers: bearer(token) })).body;
  const { status, body } = await operator.browser.send(`/admin/agents/sessions/${session}`);
  expect(status).toBe(200);
  expect(body.live).toMatchObject({ id: session, clientId: agent.id, scope: ["plan"], endedAt: null, stop: null });
  const folded = someone();
  const [old = ""] = await rows(folded, 1, { endedAt: 2_000 });
  expect((await operator.browser.send(`/admin/agents/sessions/${old}`)).body).toMatchObject({
    session: { id: old },
    live: null,
  });
});

describe("ending a session", () => {
  const end = (id: string, body: object = { reason: "it ran away" }, via: Edge = edge, query = "") =>
    operator.browser.send(`/admin/agents/sessions/${id}${query}`, { method: "DELETE", json: body, edge: via });

  test("is over when it answers, names who and why, and reaches D1; twice is a conflict with the report", async () => {
    const agent = await registerAgent(await signUp());
    const token = await tokenOf(agent);
    const { session } = (await send("/sessions/current", { headers: bearer(token) })).body;
    const answer = await end(session);
    expect(answer.status).toBe(200);
    expect(answer.body).toMatchObject({
      path: session,
      state: "terminal",
      why: "terminated",
      by: { kind: "operator", id: operator.id, reason: "it ran away" },
      fence: { passed: true },
    });
    const late = await send("/sessions/current", { headers: bearer(token) });
    expect([late.status, late.body.code, late.body.reason]).toEqual([401, "session_ended", "terminated"]);
    const again = await end(session, { reason: "again" });
    expect([again.status, again.body.code, again.body.report.by.reason]).toEqual([409, "already_ended", "it ran away"]);
    const ended = async () => (await operator.browser.send(`/admin/agents/sessions/${session}`)).body.session;
    await expect.poll(async () => (await ended())?.endedAt, { timeout: 10_000 }).toBe(answer.body.endedAt);
    expect(await ended()).toMatchObject({ endReason: "terminated", endedBy: operator.id });
    const audit = await operator.browser.send(`/admin/agents/audit?session=${session}&kind=session.ended`);
    expect(audit.body.rows).toHaveLength(1);
    expect(JSON.parse(audit.body.rows[0].body)).toMatchObject({
      by: { kind: "operator", id: operator.id },
      reason: "it ran away",
    });
  });

  test("without waiting, and one node of it alone", async () => {
    const agent = await registerAgent(await signUp());
    const token = await tokenOf(agent, { scope: "plan research" });
    const narrowed = await agent.ask("/oauth/token", {
      grant_type: "urn:ietf:params:oauth:grant-type:token-exchange",
      subject_token: token,
      subject_token_type: "urn:ietf:params:oauth:token-type:access_token",
      scope: "plan",
    });
    const { node } = (await send("/sessions/current", { headers: bearer(narrowed.body.access_token) })).body;
    expect((await end(node, { reason: "too curious" }, edge, "?wait=0")).status).toBe(200);
    expect((await send("/sessions/current", { headers: bearer(narrowed.body.access_token) })).status).toBe(401);
    expect((await send("/sessions/current", { headers: bearer(token) })).status).toBe(200);
  });

  test("400 without a reason, 404 for what is not there, 503 when the object is out of reach and nothing was done", async () => {
    const agent = await registerAgent(await signUp());
    const token = await tokenOf(agent);
    const { session } = (await send("/sessions/current", { headers: bearer(token) })).body;
    for (const body of [
      {},
      { reason: "" },
      { reason: "  " },
      { reason: "a\nb" },
      { reason: "x".repeat(501) },
      { reason: 1 },
      { reason: "x", by: "me" },
    ])
      expect((await end(session, body)).status).toBe(400);
    const missing = await end("none");
    expect([missing.status, missing.body.code]).toEqual([404, "not_found"]);
    const gone = makeOwnedId("ses", agent.member.id, edge.random, edge.idMac);
    expect(visible(await end(gone))).toEqual(visible(missing));
    expect(visible(await end(`${gone.slice(0, -8)}aaaaaaaa`))).toEqual(visible(missing));
    const down = await end(session, { reason: "x" }, authorityDownFor(operator));
    expect([down.status, down.body.code]).toEqual([503, "authority_unavailable"]);
    expect((await send("/sessions/current", { headers: bearer(token) })).status).toBe(200);
    // Stopping never waits for D1; listing can't do without it.
    expect((await end(session, { reason: "x" }, storageDown)).status).toBe(200);
    const listed = await operator.browser.send("/admin/agents/sessions", { edge: storageDown });
    expect([listed.status, listed.body.code]).toEqual([503, "storage_unavailable"]);
  });
});

describe("a person", () => {
  const act = (id: string, how: string, json: object = { reason: "to be sure" }) =>
    operator.browser.send(`/admin/users/${id}/${how}`, { json });

  test("is stopped: all that runs ends, and may start again", async () => {
    const agent = await registerAgent(await signUp());
    const token = await tokenOf(agent);
    const answer = await act(agent.member.id, "stop");
    expect([answer.status, answer.body]).toEqual([200, { sessions: 2 }]);
    expect((await send("/sessions/current", { headers: bearer(token) })).body.reason).toBe("user_stopped");
    expect((await agent.member.browser.send("/auth/user")).status).toBe(401);
    expect((await send("/sessions/current", { headers: bearer(await tokenOf(agent)) })).status).toBe(200);
  });

  test("is disabled: nothing starts until enabled; what their agents did for others ends too", async () => {
    const host = await registerAgent(await signUp());
    const guest = await registerAgent(await signUp());
    const { narrowToken } = await import("../../core/token/mint.ts");
    const delegation = await narrowToken(await tokenOf(host), { for: guest.id }, edge.random);
    const form = {
      grant_type: "urn:ietf:params:oauth:grant-type:token-exchange",
      subject_token: delegation,
      subject_token_type: "urn:ietf:params:oauth:token-type:access_token",
    };
    const redeemed = (await guest.ask("/oauth/token", form)).body.access_token as string;
    expect((await act(guest.member.id, "disable")).status).toBe(200);
    expect((await send("/sessions/current", { headers: bearer(redeemed) })).status).toBe(401);
    expect((await guest.ask("/oauth/token", { grant_type: "client_credentials" })).status).toBe(401);
    const enabled = await act(guest.member.id, "enable");
    expect([enabled.status, enabled.body.user.state]).toEqual([200, "active"]);
    expect((await guest.ask("/oauth/token", { grant_type: "client_credentials" })).status).toBe(200);
  });

  test("changes tier, in the object and in D1", async () => {
    const member = await signUp();
    const patch = (json: object, id: string = member.id) =>
      operator.browser.send(`/admin/users/${id}`, { method: "PATCH", json });
    const answer = await patch({ tier: "pro", reason: "paid" });
    expect([answer.status, answer.body.user.tier]).toEqual([200, "pro"]);
    expect((await member.browser.send("/auth/user")).body.user.tier).toBe("pro");
    const row = await env.DB.prepare("select tier from users where id = ?").bind(member.id).first();
    expect(row).toEqual({ tier: "pro" });
    expect((await patch({ tier: "god", reason: "x" })).status).toBe(400);
    expect((await patch({ tier: "pro" })).status).toBe(400);
    expect((await patch({ tier: "pro", reason: "x" }, someone())).status).toBe(404);
    expect((await patch({ tier: "pro", reason: "x" }, "me")).status).toBe(404);
  });

  test("sets caps: of a session, of an agent, of a user's day, below what is spent too", async () => {
    const agent = await registerAgent(await signUp(), { legate_budget: 500 });
    const token = await tokenOf(agent, { legate_budget: "300" });
    const patch = (path: string, json: object) =>
      operator.browser.send(`/admin/${path}/budget`, { method: "PATCH", json });
    const leash = async () => (await send("/sessions/current", { headers: bearer(token) })).body;
    const { session } = await leash();
    const steps = [
      [`agents/sessions/${session}`, 900, 500],
      [`clients/${agent.id}`, 200, 200],
      [`users/${agent.member.id}`, 50, 50],
      [`users/${agent.member.id}`, 0, 0],
      [`users/${agent.member.id}`, 1_000, 200],
    ] as const;
    for (const [path, cap, remaining] of steps) {
      expect((await patch(path, { cap, reason: "test" })).status).toBe(200);
      expect((await leash()).budget.remaining).toBe(remaining);
    }
    expect((await leash()).rate).toMatchObject({ name: "burst", calls: 20, seconds: 1, policy: '"burst";q=20;w=1' });
    for (const cap of [-1, 1.5, "9", 2 ** 53])
      expect((await patch(`clients/${agent.id}`, { cap, reason: "x" })).status).toBe(400);
    expect((await patch(`clients/${agent.id}`, { cap: 1 })).status).toBe(400);
    expect((await patch(`users/${someone()}`, { cap: 1, reason: "x" })).status).toBe(404);
  });

  test("who is not there can't be stopped", async () => {
    for (const how of ["stop", "disable", "enable"]) {
      for (const id of ["me", someone(), `${someone().slice(0, -8)}aaaaaaaa`])
        expect((await act(id, how)).status).toBe(404);
      expect((await act(operator.id, how, {})).status).toBe(400);
    }
  });
});

test("nobody else gets in: not a person, not an operator's agent, not an operator's token, not without a page of ours", async () => {
  const { browser } = await signUp("pro");
  const agent = await registerAgent(operator);
  const api = (await operator.browser.send("/sessions", { json: {} })).body.token as string;
  const id = makeOwnedId("ses", operator.id, edge.random, edge.idMac);
  for (const [method, path] of [
    ["GET", "/admin/agents/sessions"],
    ["GET", `/admin/agents/sessions/${id}`],
    ["GET", "/admin/agents/audit"],
    ["DELETE", `/admin/agents/sessions/${id}`],
    ["POST", `/admin/users/${operator.id}/stop`],
    ["POST", `/admin/users/${operator.id}/disable`],
    ["POST", `/admin/users/${operator.id}/enable`],
    ["PATCH", `/admin/users/${operator.id}`],
    ["PATCH", `/admin/users/${operator.id}/budget`],
  ] as const) {
    const sent = method === "GET" ? {} : { method, json: { reason: "x", tier: "admin" } };
    expect((await send(path, sent)).status).toBe(401);
    const person = await browser.send(path, sent);
    expect([person.status, person.body.code]).toEqual([403, "operator_required"]);
    for (const token of [await tokenOf(agent), api]) {
      const asBearer = await send(path, { ...sent, headers: bearer(token) });
      expect([asBearer.status, asBearer.body.code]).toEqual([403, "operator_required"]);
    }
    if (method === "GET") continue;
    const foreign = await operator.browser.send(path, { ...sent, headers: { "sec-fetch-site": "cross-site" } });
    expect([foreign.status, foreign.body.code]).toEqual([403, "origin_not_allowed"]);
  }
});

describe("the entrypoint", () => {
  const entrypoint = (props: unknown) => {
    const ctx = Object.assign(createExecutionContext(), { props });
    return new Operator(ctx, env);
  };

  test("does what the routes do, in the name that its binding's props give", async () => {
    const agent = await registerAgent(await signUp());
    const token = await tokenOf(agent);
    const { session } = (await send("/sessions/current", { headers: bearer(token) })).body;
    const service = entrypoint({ operator: "abuse-desk" });
    const seen = await service.inspect(session);
    expect(seen).toMatchObject({ ok: true, value: { live: { id: session } } });
    const ended = await service.terminate({ id: session, reason: "reported" });
    expect(ended).toMatchObject({
      ok: true,
      value: { by: { kind: "operator", id: "abuse-desk", reason: "reported" } },
    });
    expect(await service.terminate({ id: session, reason: "reported" })).toMatchObject({
      ok: false,
      denial: { reason: "already_ended" },
    });
    expect(await service.stopUser({ user: agent.member.id, reason: "reported" })).toEqual({
      ok: true,
      value: { sessions: 1 },
    });
    expect(await service.list({ user: agent.member.id })).toMatchObject({ ok: true });
    expect(await service.audit({ user: agent.member.id })).toMatchObject({ ok: true });
    expect(await service.disableUser({ user: agent.member.id, reason: "reported" })).toMatchObject({ ok: true });
    expect(await service.enableUser({ user: agent.member.id, reason: "a mistake" })).toMatchObject({ ok: true });
  });

  test("does nothing without a name in its props, and believes no argument", async () => {
    for (const props of [undefined, {}, { operator: "" }, { operator: 7 }, { operator: "a b" }])
      expect(await entrypoint(props).list()).toEqual({ ok: false, denial: { reason: "operator_required" } });
    const service = entrypoint({ operator: "abuse-desk" });
    const order = { id: "none", reason: "x", by: "someone else" } as { id: string; reason: string };
    expect(await service.terminate(order)).toMatchObject({ ok: false, denial: { reason: "request_invalid" } });
    expect(await service.terminate(null as unknown as { id: string; reason: string })).toMatchObject({ ok: false });
    expect(await service.inspect({} as unknown as string)).toEqual({ ok: false, denial: { reason: "not_found" } });
    expect(await service.list({ limit: "all" } as unknown as object)).toMatchObject({ ok: false });
  });
});
