// Sessions over HTTP: what a person does with their own, and how little a token can.
import { runInDurableObject } from "cloudflare:test";
import { env } from "cloudflare:workers";
import { describe, expect, test } from "vitest";
import { makeOwnedId, makeSegment } from "../../core/ids.ts";
import { narrowToken } from "../../core/token/mint.ts";
import { err } from "../../core/result.ts";
import type { Edge } from "../../worker/env.ts";
import {
  bearer,
  edge,
  publicJwk,
  registerAgent,
  send,
  signUp,
  tokenOf,
  visible,
  type Sent,
} from "../support/workerd/ways-in.ts";

const STOPPER = { kind: "operator", id: "usr_operator", reason: "a test" } as const;

const narrow = (token: string, narrowing: Parameters<typeof narrowToken>[1]) =>
  narrowToken(token, narrowing, edge.random);
const leashOf = (token: string) => send("/sessions/current", { headers: bearer(token) });
const authorityDown: Edge = { ...edge, ask: async () => err({ reason: "authority_unavailable" }) };

describe("opening", () => {
  test("for the person's own programs", async () => {
    const { browser, id } = await signUp();
    const answer = await browser.send("/sessions", { json: { scope: "plan", budget: 90, ttlSeconds: 120 } });
    expect(answer.status).toBe(201);
    const { session, token, expiresAt, sessionExpiresAt } = answer.body;
    expect(answer.body).toEqual({ session, token, expiresAt, sessionExpiresAt });
    expect(Math.abs(expiresAt - Date.now() - 120_000)).toBeLessThan(10_000);
    const leash = await leashOf(token);
    expect(leash.body).toEqual({
      session,
      node: session,
      subject: id,
      tier: "free",
      clientId: id,
      chain: [],
      scope: ["plan"],
      agents: null,
      depthLeft: { segments: 12, actors: 8 },
      rate: { name: "burst", calls: 20, seconds: 1, remaining: 20, resetMs: 0, policy: '"burst";q=20;w=1' },
      budget: { cap: 90, remaining: 90, held: 0 },
      expiresAt,
      sessionExpiresAt,
    });
  });

  test("for an agent of theirs, and for nobody else's", async () => {
    const agent = await registerAgent(await signUp());
    const theirs = await registerAgent(await signUp());
    const { browser } = agent.member;
    const answer = await browser.send("/sessions", { json: { clientId: agent.id, scope: ["plan", "research"] } });
    expect(answer.status).toBe(201);
    expect((await leashOf(answer.body.token)).body.chain).toEqual([{ sub: agent.id, proven: true }]);
    const missing = await browser.send("/sessions", { json: { clientId: "agt_none" } });
    expect(missing.status).toBe(404);
    expect(visible(await browser.send("/sessions", { json: { clientId: theirs.id } }))).toEqual(visible(missing));
  });

  test("without a body it is all that may be given; the same key opens one", async () => {
    const { browser } = await signUp();
    const headers = { "idempotency-key": "k1" };
    const first = await browser.send("/sessions", { method: "POST", headers });
    expect(first.status).toBe(201);
    const again = await browser.send("/sessions", { method: "POST", headers });
    expect(again.body.session).toBe(first.body.session);
    const other = await browser.send("/sessions", { json: { budget: 1 }, headers });
    expect([other.status, other.body.code]).toEqual([409, "idempotency_conflict"]);
  });

  test.each<[what: string, json: object, code: string]>([
    ["more than the tier has", { scope: "catalog:write" }, "invalid_scope"],
    ["a scope that is none", { scope: "Plan!" }, "invalid_scope"],
    ["a list with a repeated name", { scope: ["plan", "plan"] }, "invalid_scope"],
    ["a second too few", { ttlSeconds: 59 }, "invalid_request"],
    ["half a micro", { budget: 0.5 }, "invalid_request"],
    ["less than nothing", { budget: -1 }, "invalid_request"],
    ["more than can be counted", { budget: 2 ** 53 }, "invalid_request"],
    ["a number in quotes", { budget: "7" }, "invalid_request"],
    ["someone else's subject", { sub: "usr_x" }, "invalid_request"],
  ])("%s is refused: %o", async (_, json, code) => {
    const { browser } = await signUp();
    const answer = await browser.send("/sessions", { json });
    expect([answer.status, answer.body.code]).toEqual([400, code]);
  });
});

describe("a token acts for its node", () => {
  test("it opens nothing, raises nothing, and reads no sibling", async () => {
    const agent = await registerAgent(await signUp());
    const { browser } = agent.member;
    const token = await tokenOf(agent, { legate_budget: "100" });
    const sibling = await tokenOf(agent);
    const mine = (await leashOf(token)).body;
    const theirs = (await leashOf(sibling)).body;
    const headers = bearer(token);
    const opened = await send("/sessions", { json: {}, headers });
    expect([opened.status, opened.body.code]).toEqual([403, "cookie_required"]);
    const raised = await send(`/sessions/${mine.node}`, { method: "PATCH", json: { budget: 101 }, headers });
    expect([raised.status, raised.body.code]).toEqual([403, "cookie_required"]);
    const lowered = await send(`/sessions/${mine.node}`, { method: "PATCH", json: { budget: 60 }, headers });
    expect([lowered.status, lowered.body.budget.cap]).toEqual([200, 60]);
    const missing = await send("/sessions/none", { headers });
    expect([missing.status, missing.body.code]).toEqual([404, "not_found"]);
    for (const [method, json] of [
      ["GET", undefined],
      ["PATCH", { budget: 1 }],
      ["DELETE", undefined],
    ] as const)
      expect(visible(await send(`/sessions/${theirs.node}`, { method, json, headers }))).toEqual(visible(missing));
    expect((await leashOf(sibling)).status).toBe(200);
    const listed = await send("/sessions", { headers });
    expect(listed.body.sessions.map(({ id }: { id: string }) => id)).toEqual([mine.session]);
    // A person does as they like with what is theirs.
    const more = await browser.send(`/sessions/${mine.node}`, { method: "PATCH", json: { budget: 500 } });
    expect([more.status, more.body.budget.cap]).toEqual([200, 500]);
  });

  test("one that has ended itself is told so again under the same Idempotency-Key, and nothing under another", async () => {
    const agent = await registerAgent(await signUp());
    const token = await tokenOf(agent);
    const { node } = (await leashOf(token)).body;
    const end = (key: string) =>
      send(`/sessions/${node}`, {
        method: "DELETE",
        headers: { ...bearer(token), "idempotency-key": key },
      });
    const [first, again] = [await end("a"), await end("a")];
    expect([first.status, again.status]).toEqual([200, 200]);
    expect(again.body).toEqual(first.body);
    expect((await end("b")).status).toBe(401);
    const lower = { method: "PATCH", json: { budget: 1 }, headers: { ...bearer(token), "idempotency-key": "a" } };
    expect((await send(`/sessions/${node}`, lower)).status).toBe(401);
  });

  test("a narrowed one reaches its node and below, not above, and can end itself", async () => {
    const agent = await registerAgent(await signUp());
    const token = await tokenOf(agent);
    const child = await narrow(token, { act: "helper", scope: "plan" });
    const grandchild = await narrow(child, { act: "scout" });
    const [node, childNode, grandNode] = await Promise.all(
      [token, child, grandchild].map(async (text) => (await leashOf(text)).body.node as string),
    );
    const headers = bearer(child);
    expect((await send(`/sessions/${node}`, { headers })).status).toBe(404);
    expect((await send(`/sessions/${node}`, { method: "DELETE", headers })).status).toBe(404);
    const seen = await send(`/sessions/${childNode}`, { headers });
    expect(new Set(seen.body.tree.map(({ path }: { path: string }) => path))).toEqual(new Set([childNode, grandNode]));
    const ended = await send(`/sessions/${grandNode}`, { method: "DELETE", headers });
    expect([ended.status, ended.body.why, ended.body.by.id]).toEqual([200, "revoked", agent.id]);
    expect((await leashOf(grandchild)).body.code).toBe("session_ended");
    expect((await send(`/sessions/${childNode}`, { method: "DELETE", headers })).status).toBe(200);
    expect((await leashOf(child)).body.code).toBe("session_ended");
    expect((await send(`/sessions/${childNode}`, { headers })).status).toBe(401);
    expect((await leashOf(token)).status).toBe(200);
  });

  test("the leash tells an unproven link as such, and counts what is left", async () => {
    const agent = await registerAgent(await signUp());
    const child = await narrow(await tokenOf(agent), { act: "helper" });
    const { body } = await leashOf(child);
    expect(body.chain).toEqual([
      { sub: agent.id, proven: true },
      { sub: `${agent.id}/helper`, proven: false },
    ]);
    expect(body.depthLeft).toEqual({ segments: 11, actors: 6 });
  });
});

describe("a person's own", () => {
  test("are listed, read and ended; ended twice is told with the first report", async () => {
    const { browser } = await signUp();
    const { session, token } = (await browser.send("/sessions", { json: {} })).body;
    const ids = (await browser.send("/sessions")).body.sessions.map(({ id }: { id: string }) => id);
    expect(ids).toContain(session);
    expect(ids).toHaveLength(2); // and the cookie's own
    expect((await browser.send(`/sessions/${session}`)).body).toMatchObject({
      id: session,
      kind: "api",
      endedAt: null,
    });
    const ended = await browser.send(`/sessions/${session}`, { method: "DELETE" });
    expect([ended.status, ended.body.state]).toEqual([200, "terminal"]);
    expect((await leashOf(token)).body.code).toBe("session_ended");
    const again = await browser.send(`/sessions/${session}`, { method: "DELETE" });
    expect([again.status, again.body.code]).toEqual([409, "already_ended"]);
    expect(again.body.report.endedAt).toBe(ended.body.endedAt);
    expect((await browser.send(`/sessions/${session}`)).body).toMatchObject({ endReason: "revoked" });
  });

  test("foreign, invented and missing ids are one answer, and touch no object", async () => {
    const { browser, id } = await signUp();
    const other = await signUp();
    const theirs = (await other.browser.send("/sessions", { json: {} })).body.session as string;
    const gone = makeOwnedId("ses", id, edge.random, edge.idMac);
    const missing = await browser.send(`/sessions/${gone}`);
    expect([missing.status, missing.body.code]).toEqual([404, "not_found"]);
    const invented = `${gone.slice(0, -8)}aaaaaaaa`;
    const asked: string[] = [];
    const watched: Edge = {
      ...edge,
      ask: (user, question) => {
        asked.push(user);
        return edge.ask(user, question);
      },
    };
    for (const path of [theirs, invented, `${theirs}.${makeSegment(edge.random)}`, "current.x", "%2e%2e", id]) {
      for (const [method, json] of [
        ["GET", undefined],
        ["PATCH", { budget: 1 }],
        ["DELETE", undefined],
      ] as const) {
        const answer = await browser.send(`/sessions/${path}`, { method, json, edge: watched });
        expect(visible(answer)).toEqual(visible(missing));
      }
    }
    expect(asked).toEqual([]);
    expect((await other.browser.send(`/sessions/${theirs}`)).body.endedAt).toBeNull();
  });

  test("nothing begins, rises or ends by a cookie whose session ends while the question is on its way", async () => {
    const started = async () => {
      const member = await signUp();
      const agent = await registerAgent(member, { legate_budget: 10 });
      const { session } = (await member.browser.send("/sessions", { json: { budget: 10 } })).body;
      return { member, agent, session };
    };
    const { jwk } = await publicJwk();
    const acts: Record<string, (of: Awaited<ReturnType<typeof started>>) => [path: string, sent: Sent]> = {
      open: () => ["/sessions", { json: {} }],
      registerAgent: () => ["/oauth/register", { json: { client_name: "late", jwks: { keys: [jwk] } } }],
      setAgentCap: ({ agent }) => [`/oauth/clients/${agent.id}`, { method: "PATCH", json: { legate_budget: 99 } }],
      setCap: ({ session }) => [`/sessions/${session}`, { method: "PATCH", json: { budget: 99 } }],
      revoke: ({ session }) => [`/sessions/${session}`, { method: "DELETE" }],
      inspect: ({ session }) => [`/sessions/${session}`, {}],
    };
    for (const [method, act] of Object.entries(acts)) {
      const scene = await started();
      const { browser, id } = scene.member;
      // Whatever the edge has asked before, the person is stopped right before the act itself.
      const overtaken: Edge = {
        ...edge,
        ask: (user, question) =>
          edge.ask(user, (authority) =>
            question(
              new Proxy({} as typeof authority, {
                get:
                  (_, name) =>
                  async (...args: never[]) => {
                    if (name === method) await authority.stopUser({ by: STOPPER, wait: false });
                    return (authority[name as keyof typeof authority] as (...all: never[]) => unknown)(...args);
                  },
              }),
            ),
          ),
      };
      const [path, sent] = act(scene);
      const answer = await browser.send(path, { ...sent, edge: overtaken });
      expect([method, answer.status]).toEqual([method, 401]);
      const query = (sql: string) =>
        runInDurableObject(env.AUTHORITY.getByName(id), (_, { storage }) => storage.sql.exec(sql).toArray());
      expect(await query("select id from sessions where ended_at is null")).toEqual([]);
      expect(await query("select cap from agents")).toEqual([{ cap: 10 }]);
    }
  });

  test("need a page of ours to change", async () => {
    const { browser } = await signUp();
    for (const headers of [
      { "sec-fetch-site": "cross-site" },
      { "sec-fetch-site": "same-site" },
      { origin: "https://evil.test" },
    ]) {
      const answer = await browser.send("/sessions", {
        json: {},
        headers: { "sec-fetch-site": "cross-site", ...headers },
      });
      expect([answer.status, answer.body.code]).toEqual([403, "origin_not_allowed"]);
    }
  });
});

test("an object out of reach is a 503, whatever was asked", async () => {
  const { browser } = await signUp();
  const { session, token } = (await browser.send("/sessions", { json: {} })).body;
  for (const [path, sent] of [
    ["/sessions", {}],
    ["/sessions", { json: {} }],
    [`/sessions/${session}`, {}],
    [`/sessions/${session}`, { method: "DELETE" }],
    [`/sessions/${session}`, { method: "PATCH", json: { budget: 1 } }],
    ["/oauth/clients", {}],
  ] as const) {
    const answer = await browser.send(path, { ...sent, edge: authorityDown });
    expect(answer.status).toBe(503);
  }
  expect((await send("/sessions/current", { headers: bearer(token), edge: authorityDown })).status).toBe(503);
});
