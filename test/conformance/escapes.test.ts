// Every way out of one's rights that must fail, over the wire: tokens that do what only people may, thieves, hostile agents,
// forged internal headers, changed tokens, and bodies that are not what they should be.
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { makeSegment } from "../../core/ids.ts";
import { input } from "../../legate.config.ts";
import type { AgentSession } from "../../sdk/client.ts";
import { expectRefusal } from "../support/conformance/knock.ts";
import { LEAKS, Member, read, send, type RegisteredAgent } from "../support/conformance/people.ts";
import { bentTokens } from "../support/conformance/tokens.ts";
import { Variant } from "../support/conformance/variant.ts";
import { Wire } from "../support/conformance/wire.ts";
import { append, base64url, seededRandom } from "../support/forge.ts";

const MUTATIONS = 220;
const ECHO = "/agents/researcher/default/echo";

let variant: Variant;
let wire: Wire;
let operator: Member;
let agent: RegisteredAgent;
let session: AgentSession;

beforeAll(async () => {
  variant = await Variant.start({ input, agents: "test/support/conformance/hostile-agents.ts" });
  await variant.migrate();
  wire = new Wire(variant.url, 8);
  operator = await Member.signUp(variant.url, variant.secrets["LEGATE_BOOTSTRAP"]);
  agent = await operator.registerAgent();
  session = await agent.open({ budget: 100_000 });
});
afterAll(async () => {
  wire.close();
  await variant.end();
});

const codeOf = async (answer: Promise<Response> | Response) => {
  const { status, body } = await read(await answer);
  return [status, body["code"] ?? body["error"]];
};
const post = (one: AgentSession, path: string, json: object, method = "POST") =>
  one.fetch(path, { method, headers: { "content-type": "application/json" }, body: JSON.stringify(json) });

describe("a token", () => {
  test("opens no session and registers no agent", async () => {
    expect(await codeOf(post(session, "/sessions", { budget: 1 }))).toEqual([403, "cookie_required"]);
    const json = { client_name: "x", jwks: { keys: [{}] } };
    expect(await codeOf(post(session, "/oauth/register", json))).toEqual([403, "access_denied"]);
    expect(await codeOf(session.fetch("/oauth/clients"))).toEqual([403, "access_denied"]);
    expect(
      await codeOf(post(session, `/oauth/clients/${agent.clientId}`, { legate_budget: 10 ** 9 }, "PATCH")),
    ).toEqual([403, "access_denied"]);
  });

  test("lowers its cap, and raises none", async () => {
    const own = await agent.open({ budget: 50_000 });
    const path = `/sessions/${own.id}`;
    expect((await post(own, path, { budget: 40_000 }, "PATCH")).status).toBe(200);
    const [status] = await codeOf(post(own, path, { budget: 50_000 }, "PATCH"));
    expect(status).toBe(403);
    expect((await own.leash())["budget"]).toMatchObject({ cap: 40_000 });
    const child = await own.spawn("child", { budget: 1_000 });
    await child.fetch(ECHO);
    expect((await codeOf(post(child, `/sessions/${child.node}`, { budget: 2_000 }, "PATCH")))[0]).toBe(403);
    expect((await codeOf(post(child, path, { budget: 1 }, "PATCH")))[0], "its parent's").toBe(404);
  });

  test("reads its own node and what is below, no sibling, no parent, no other session", async () => {
    const [a, b] = [await session.spawn("a"), await session.spawn("b")];
    for (const one of [a, b]) await one.fetch(ECHO); // now the authority has heard of them
    const other = await agent.open();
    expect((await session.fetch(`/sessions/${a.node}`)).status).toBe(200);
    expect((await a.fetch(`/sessions/${a.node}`)).status).toBe(200);
    for (const target of [b.node, session.id, other.id])
      for (const method of ["GET", "DELETE"])
        expect((await a.fetch(`/sessions/${target}`, { method })).status).toBe(404);
    const { sessions } = (await (await a.fetch("/sessions")).json()) as { sessions: { tree: { path: string }[] }[] };
    expect(sessions.flatMap(({ tree }) => tree.map(({ path }) => path))).toEqual([a.node]);
    expect((await b.fetch(ECHO)).status, "nobody ended it").toBe(200);
  });

  test.each(["/admin/agents/sessions", "/admin/agents/audit"])(
    "reaches nothing at %s, though its user is an operator",
    async (path) => {
      expect((await operator.browser.send("GET", path)).status).toBe(200);
      expect(await codeOf(session.fetch(path))).toEqual([403, "operator_required"]);
      const { session: own, token } = await operator.browser.done("POST", "/sessions", { json: {} });
      expect(own).toMatch(/^ses_/);
      expect((await send(`${variant.url}${path}`, "GET", { bearer: String(token) })).body["code"]).toBe(
        "operator_required",
      );
      await expect(agent.open({ scope: ["operator"] })).rejects.toMatchObject({ code: "invalid_scope" });
      expect(await codeOf(post(session, `/admin/users/${operator.id}/stop`, { reason: "x" }))).toEqual([
        403,
        "operator_required",
      ]);
    },
  );
});

describe("a grant", () => {
  test("that was redeemed outlives nothing of its parent's", async () => {
    const { token } = await operator.browser.done("POST", "/sessions", {
      json: { clientId: agent.clientId, ttlSeconds: 60 },
    });
    const other = await operator.registerAgent();
    const claimsOf = (text: string) =>
      JSON.parse(Buffer.from(text.split(".")[1] ?? "", "base64url").toString()) as { exp: number };
    const named = append(
      String(token),
      base64url(JSON.stringify({ n: makeSegment(seededRandom("named")), for: other.clientId })),
    );
    const redeemed = await other.redeem(named);
    expect(claimsOf(await redeemed.token()).exp).toBeLessThanOrEqual(claimsOf(String(token)).exp);
    const parents = await send(`${variant.url}/sessions/current`, "GET", { bearer: String(token) });
    expect((await redeemed.leash())["sessionExpiresAt"]).toBe(parents.body["sessionExpiresAt"]);
    await operator.browser.done("DELETE", `/sessions/${redeemed.id}`);
    expect(await codeOf(redeemed.fetch(ECHO))).toEqual([401, "session_ended"]);
  });

  test("named for one agent is of no use to a thief, whatever it appends", async () => {
    const [other, thief] = [await operator.registerAgent(), await operator.registerAgent()];
    const named = await session.delegate(other.clientId);
    const random = seededRandom("thief");
    for (const block of [{ for: thief.clientId }, { act: "thief" }, {}]) {
      const stolen = append(named, base64url(JSON.stringify({ n: makeSegment(random), ...block })));
      await expect(thief.redeem(stolen)).rejects.toMatchObject({ status: 400, code: "invalid_grant" });
      expect((await send(`${variant.url}${ECHO}`, "GET", { bearer: stolen })).body["code"]).toBe("invalid_token");
    }
    await expect(thief.redeem(named)).rejects.toMatchObject({ status: 400, code: "invalid_grant" });
    expect((await (await other.redeem(named)).fetch(ECHO)).status, "whom it was for").toBe(200);
  });
});

describe("an agent's answer", () => {
  test("is no page of this origin, sets nothing, and names nothing of Legate's", async () => {
    const answer = await session.fetch("/agents/researcher/default/page");
    const headers = Object.fromEntries(answer.headers);
    expect(headers["content-security-policy"]).toMatch(/^sandbox; default-src 'none'/);
    expect(headers["x-content-type-options"]).toBe("nosniff");
    for (const name of [
      ...[
        "set-cookie",
        "clear-site-data",
        "service-worker-allowed",
        "access-control-allow-origin",
        "refresh",
        "location",
      ],
      ...["legate-receipt", "legate-cost", "x-legate-anything"],
    ])
      expect(headers[name], name).toBeUndefined();
    expect(headers["legate-budget"]).not.toBe("remaining=999999999");
  });

  test.each(["throw", "stack"])("that is an error of its own (%s) leaves its stack behind", async (path) => {
    const answer = await read(await session.fetch(`/agents/researcher/default/${path}`));
    expect(answer.status).toBeGreaterThanOrEqual(500);
    expect(answer.text).not.toMatch(/secret|place\.ts/);
    expect(answer.text).not.toMatch(LEAKS);
  });
});

describe("headers and query members that only Legate may set", () => {
  const FORGED: Readonly<Record<string, string>> = {
    "legate-identity": base64url('{"subject":"usr_forged"}'),
    "legate-delegation": "forged",
    "legate-cost": "0",
    "x-legate-user": "usr_forged",
    "x-partykit-props": base64url('{"forged":true}'),
    "x-partykit-room": "forged",
    "x-agents-lifecycle-props": base64url('{"forged":true}'),
    "x-cf-agents-room": "forged",
    "x-auth-user": "usr_forged",
    "x-auth-request-email": "forged@example.com",
    "cf-access-jwt-assertion": "forged",
    "cf-access-authenticated-user-email": "forged@example.com",
  };

  test("are no proof", async () => {
    const answer = await wire.send({ path: `${ECHO}?_pk=forged`, headers: FORGED });
    expectRefusal(answer, 401, "credentials_missing");
    expectRefusal(await wire.send({ path: "/sessions", headers: FORGED }), 401, "credentials_missing");
    // Here a JWT of Cloudflare Access would be one, where a deployment has configured it, and this one none had signed.
    expectRefusal(await wire.send({ path: "/admin/agents/sessions", headers: FORGED }), 403, "operator_required");
  });

  test("reach no agent, whoever sends them", async () => {
    const headers = {
      ...FORGED,
      authorization: `Bearer ${await session.token()}`,
      cookie: "a=b",
      "x-of-its-own": "kept",
    };
    const path = `${ECHO}?_pk=forged&__agents_transport=capnweb&q=kept`;
    const { status, text } = await wire.send({ path, headers });
    expect(status).toBe(200);
    const seen = JSON.parse(text) as { headers: Record<string, string>; search: string };
    expect(seen.search).toBe("?q=kept");
    expect(seen.headers["x-of-its-own"]).toBe("kept");
    for (const [name, value] of Object.entries(FORGED)) expect(seen.headers[name], name).not.toBe(value);
    const ofLegate = Object.keys(seen.headers).filter((name) =>
      /^(?:legate|x-legate|x-partykit|x-agents|x-cf-agents|x-auth|cf-access)-/.test(name),
    );
    expect(ofLegate.toSorted()).toEqual(["legate-delegation", "legate-identity"]);
    for (const proof of ["authorization", "cookie"]) expect(seen.headers[proof], proof).toBeUndefined();
    expect(JSON.stringify(seen)).not.toContain("forged");
  });
});

test.each(["", "not for GET"])(
  "a GET that has a body, %j, is answered, and the agent gets none of it",
  async (body) => {
    const headers = { authorization: `Bearer ${await session.token()}` };
    const { status, text } = await wire.send({ path: ECHO, headers, body });
    expect(status).toBe(200);
    const seen = JSON.parse(text) as { headers: Record<string, string> };
    expect(seen.headers["content-length"]).toBeUndefined();
    expect(text).not.toContain(body === "" ? "content-length" : body);
  },
);

test(`${MUTATIONS} changed tokens: all of them are 401 invalid_token`, async () => {
  const good = await session.token();
  const narrowed = await (await session.spawn("a", { scope: ["research"] })).token();
  const tokens = bentTokens({
    seed: "escapes",
    count: MUTATIONS,
    good,
    narrowed,
    secrets: variant.secrets,
    issuer: variant.url,
  });
  expect(new Set(tokens.map(({ token }) => token)).size).toBe(MUTATIONS);
  const answers = await wire.sendAll(
    tokens.map(({ token }) => ({ path: ECHO, headers: { authorization: `Bearer ${token}` } })),
  );
  const accepted = answers.flatMap(({ status, text }, i) =>
    status === 401 && text.includes('"invalid_token"') ? [] : [`${tokens[i]?.how}: ${status} ${text}`],
  );
  expect(accepted).toEqual([]);
  for (const answer of answers) expectRefusal(answer, 401, "invalid_token");
  const echoed = answers.filter(
    ({ text }, i) => tokens[i] !== undefined && tokens[i].token.length > 20 && text.includes(tokens[i].token),
  );
  expect(echoed).toEqual([]);
  expect((await send(`${variant.url}${ECHO}`, "GET", { bearer: good })).status, "the good one").toBe(200);
});

describe("bodies", () => {
  const register = (body: string, headers: Record<string, string> = { "content-type": "application/json" }) =>
    wire.send({
      method: "POST",
      path: "/auth/register",
      headers: { "cf-connecting-ip": "10.2.3.4", ...headers },
      body,
    });
  const good = '{"username":"somebody","password":"a lantern over the harbour"';

  test.each<[string, number, string, Record<string, string>?]>([
    ["malformed JSON", 400, good],
    ["a wrong type", 400, '{"username":7,"password":"a lantern over the harbour"}'],
    ["an unknown member", 400, `${good},"tier":"admin"}`],
    ["forty levels", 400, `{"username":${"[".repeat(40)}${"]".repeat(40)}}`],
    ["more than 64 KiB", 413, `${good},"x":"${"x".repeat(65_536)}"}`],
    ["a form", 415, "username=a&password=b", { "content-type": "application/x-www-form-urlencoded" }],
    ["no type", 415, `${good}}`, {}],
  ])("%s: %i, in a sentence", async (_, status, body, headers) => {
    const answer = await register(body, headers);
    expect(answer.status).toBe(status);
    expect(JSON.parse(answer.text)).toMatchObject({ success: false, error: expect.stringMatching(/^["A-Z].*\.$/) });
    expect(answer.text).not.toMatch(LEAKS);
  });

  test("one that names no length is counted as it comes", async () => {
    let left = 64;
    const long = new ReadableStream<Uint8Array>({
      pull: (controller) => (left-- > 0 ? controller.enqueue(new Uint8Array(16_384).fill(32)) : controller.close()),
    });
    const init = {
      method: "POST",
      headers: { "content-type": "application/json" },
      body: long,
      duplex: "half" as const,
    };
    const outcome = await fetch(`${variant.url}/auth/register`, init).then(
      ({ status }) => status,
      () => "cut",
    );
    expect([413, "cut"]).toContain(outcome);
  });
});
