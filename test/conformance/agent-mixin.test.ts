// The mixin at its own door, beside a gate and an authority that do as each test says (test/support/workerd/mixin).
import { afterAll, beforeAll, beforeEach, describe, expect, test } from "vitest";
import { createTestHarness } from "wrangler";
import { events } from "../../scripts/tour/streams.ts";
import { stockClient, until } from "../support/conformance/stop-scene.ts";
import { TEST_IDENTITY_KEY } from "../support/secrets.ts";
import { TestSocket } from "../support/socket.ts";
import type { Script } from "../support/mixin-script.ts";

const secrets = { LEGATE_IDENTITY_KEY: TEST_IDENTITY_KEY };
const FOLDER = "./test/support/workerd/mixin";
const harness = createTestHarness({
  workers: [
    { configPath: `${FOLDER}/gate.jsonc`, secrets },
    { configPath: `${FOLDER}/agents.jsonc`, secrets },
  ],
});
let base = "";
let instances = 0;

beforeAll(async () => {
  base = (await harness.listen()).url.origin;
});
afterAll(() => harness.close());
beforeEach(() => script({}));

async function script(answers: Script): Promise<void> {
  await fetch(`${base}/script`, { method: "POST", body: JSON.stringify(answers) });
}

async function asked(): Promise<Record<string, unknown>[]> {
  return (await (await fetch(`${base}/log`)).json()) as Record<string, unknown>[];
}

/** An instance of the test's own. */
const place = () => `i${++instances}`;
const get = (path: string, headers: Record<string, string> = {}) => fetch(`${base}/agents/probe/${path}`, { headers });
const json = async (response: Response) => (await response.json()) as Record<string, unknown>;
const connect = (instance: string, query = "") => TestSocket.open(`${base}/agents/probe/${instance}${query}`);

/** Opens a socket and reads the agent's greeting. */
async function greeted(instance: string): Promise<TestSocket> {
  const socket = await connect(instance);
  expect(await socket.next()).toEqual({ hello: "usr_subject" });
  return socket;
}

async function connectionId(): Promise<string> {
  return String((await asked()).find((entry) => entry["asked"] === "register")?.["connection"]);
}

async function close(instance: string, connections: string[], code = 4403): Promise<unknown> {
  const order = { object: `usr_subject.${instance}`, connections, code, reason: "session_ended ses_session" };
  return json(await fetch(`${base}/close`, { method: "POST", body: JSON.stringify(order) }));
}

describe("an envelope", () => {
  test("lets in who has it, and says who calls", async () => {
    const answer = await json(await get(`${place()}/caller`, { "x-partykit-props": "e30=", "legate-receipt": "x" }));
    expect(answer).toMatchObject({
      subject: "usr_subject",
      actors: [{ sub: "agt_root", proven: true }],
      remaining: 100,
    });
    expect((answer["headers"] as string[]).filter((name) => /^(legate|x-partykit|x-agents)-/.test(name))).toEqual([]);
  });

  const at = "wrong-envelopes/caller";
  test.each<[string, Record<string, string>]>([
    ["is missing", { "x-no-envelope": "1" }],
    ["was not signed by the gate", { "x-no-envelope": "1", "legate-identity": "AAAAAAAA.e30.AAAA" }],
    ["has ended", { "x-wrong": `{"expires":${Date.now() - 1}}` }],
    ["is for another method", { "x-wrong": '{"method":"POST"}' }],
    ["is for another path", { "x-wrong": '{"path":"/agents/probe/other"}' }],
    ["is for another instance", { "x-wrong": '{"instance":"other"}' }],
    ["is for another user", { "x-wrong": '{"subject":"usr_other"}' }],
    ["reaches another object", { "x-object": "usr_other.wrong-envelopes" }],
  ])("that %s opens nothing", async (_, headers) => {
    const response = await get(at, headers);
    expect(response.status).toBe(401);
    expect(await json(response)).toMatchObject({ success: false, code: "credentials_missing" });
  });

  test("opens a shared instance by its name", async () => {
    expect((await get("pool/caller", { "x-object": "shared.pool" })).status).toBe(200);
  });

  test("is its own call's alone, whatever runs beside it", async () => {
    const instance = place();
    const answers = await Promise.all(
      Array.from({ length: 20 }, async (_, n) =>
        json(await get(`${instance}/caller?call=c${n}&wait=${(n * 37) % 50}`)),
      ),
    );
    expect(answers.map(({ callId, before }) => [callId, before])).toEqual(
      Array.from({ length: 20 }, (_, n) => [`c${n}`, `c${n}`]),
    );
  });
});

describe("over HTTP", () => {
  test.each(["boom", "boom?x=1"])("a throw at %s leaves no trace of how", async (path) => {
    const response = await get(`${place()}/${path}`);
    expect(response.status).toBe(500);
    expect(await response.text()).toBe(
      JSON.stringify({ success: false, error: "Something failed on our side.", code: "internal_error" }),
    );
  });

  test("an error that the agent answers itself stays its own", async () => {
    const response = await get(`${place()}/own-error`);
    expect([response.status, await response.text()]).toEqual([503, '{"mine":true}']);
  });

  test("sub-agents are out of reach", async () => {
    expect((await get(`${place()}/sub/probe/child`)).status).toBe(404);
  });

  test("an agent calls another with what the gate gave it, and only on this deployment", async () => {
    const payload = Buffer.from('{"iss":"https://legate.example","exp":9999999999}').toString("base64url");
    const delegation = `${Buffer.from("{}").toString("base64url")}.${payload}.${"A".repeat(43)}`;
    const headers = { "legate-delegation": delegation };
    const to = (target: string) => get(`${place()}/call?to=${encodeURIComponent(target)}`, headers);
    expect(await json(await to("/agents/other/default/x"))).toEqual({
      path: "/agents/other/default/x",
      authorization: `Bearer ${delegation}`,
      traceparent: "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
    });
    for (const target of ["https://elsewhere.example/agents/a/b", "/oauth/token", "//elsewhere.example/agents/a"])
      expect((await to(target)).status, target).toBe(500);
    expect((await get(`${place()}/call`)).status, "without a delegation").toBe(500);
  });

  test("what a stream really cost is posted with its envelope", async () => {
    expect(await json(await get(`${place()}/settle`))).toEqual({ ok: true, value: { cost: 42, repeated: false } });
    expect(await asked()).toEqual([{ asked: "settle", cost: 42 }]);
  });
});

describe("a stream", () => {
  const payload = Buffer.from('{"iss":"https://legate.example","exp":9999999999}').toString("base64url");
  const headers = { "legate-delegation": `e30.${payload}.${"A".repeat(43)}` };
  const planner = (path: string, init: RequestInit = {}) =>
    fetch(`${base}/agents/planner/${path}`, { ...init, headers });
  const body = JSON.stringify({ goal: "Tides? Corals? Salmon? Rainbows? Lightning?" });
  const history = async (instance: string) => (await json(await planner(`${instance}/history`)))["chats"];

  test("goes on after the call's envelope has ended, with its caller", async () => {
    await script({ fetch: "slow" });
    const names: string[] = [];
    const response = await planner("streams/chat", { method: "POST", body });
    for await (const { event } of events(response)) names.push(event);
    expect(names).toEqual(["plan", ...Array<string>(5).fill("result"), "done"]);
    expect(await history("streams")).toMatchObject([{ state: "done", steps: 5, session: "ses_session" }]);
    expect((await asked()).filter((entry) => entry["asked"] === "settle")).toEqual([{ asked: "settle", cost: 600 }]);
  });

  test("is stopped by another request, and costs what it has done", async () => {
    await script({ fetch: "slow" });
    const names: string[] = [];
    for await (const { event } of events(await planner("stops/chat", { method: "POST", body }))) {
      if (names.push(event) === 2)
        expect(await json(await planner("stops/stop", { method: "POST" }))).toEqual({ stopped: 1 });
    }
    expect(names).toEqual(["plan", "result", "done"]);
    expect(await history("stops")).toMatchObject([{ state: "stopped", steps: 1 }]);
    expect((await asked()).filter((entry) => entry["asked"] === "settle")).toEqual([{ asked: "settle", cost: 200 }]);
  });

  test("ends when whoever asked leaves", async () => {
    await script({ fetch: "slow" });
    const leave = new AbortController();
    const response = await planner("leaves/chat", { method: "POST", body, signal: leave.signal });
    await response.body?.getReader().read();
    leave.abort();
    await expect.poll(() => history("leaves"), { timeout: 5_000 }).toMatchObject([{ state: "stopped" }]);
  });
});

describe("a socket", () => {
  test("is registered under an id of the server's before it is served", async () => {
    const instance = place();
    const socket = await connect(instance, "?_pk=chosen-by-the-client&__agents_transport=capnweb");
    expect(await socket.next()).toEqual({ hello: "usr_subject" });
    const id = await connectionId();
    expect(id).toMatch(/^[0-9a-f-]{36}$/);
    expect(await asked()).toEqual([{ asked: "register", connection: id, object: `usr_subject.${instance}` }]);
  });

  test("two with the same _pk are two", async () => {
    const instance = place();
    await connect(instance, "?_pk=same");
    const second = await connect(instance, "?_pk=same");
    expect(await second.next()).toEqual({ hello: "usr_subject" });
  });

  test.each<[Script, number]>([
    [{ denial: { reason: "user_disabled" } }, 4403],
    [{ denial: { reason: "ended", node: "ses_x", why: "terminated", at: 1 } as unknown as never }, 4403],
    [{ denial: { reason: "ended", node: "ses_x", why: "expired", at: 1 } as unknown as never }, 4401],
    [{ denial: { reason: "token_invalid", fault: "grammar" } }, 1008],
    [{ register: "fail" }, 1013],
    [{ register: "silent" }, 1013],
  ])("that the authority answers with %j closes with %i, and is served nothing", async (answers, code) => {
    await script(answers);
    const socket = await connect(place());
    expect(await socket.closed()).toMatchObject({ code });
    expect(socket.unread).toEqual([]);
  });

  test("waits for the authority, and so do broadcasts and the messages that come before", async () => {
    const instance = place();
    await script({ register: "slow" });
    const opening = connect(instance);
    await new Promise((wake) => setTimeout(wake, 200));
    await get(`${instance}/broadcast`);
    const socket = await opening;
    socket.send("first");
    expect(await socket.next()).toEqual({ hello: "usr_subject" });
    expect(await socket.next()).toMatchObject({ echo: "first" });
  });

  test("whose tags fail is refused without a stack", async () => {
    await expect(connect(place(), "?bad-tags")).rejects.toThrow("500");
    expect(await asked()).toEqual([]);
  });
});

describe("a message", () => {
  test("is admitted at its price, then served, in order", async () => {
    const socket = await greeted(place());
    for (const message of ["dear", "cheap", "cost fails"]) socket.send(message);
    for (const echo of ["dear", "cheap", "cost fails"])
      expect(await socket.next()).toEqual({ echo, callId: "call-1", remaining: 7, state: { mine: "call-1" } });
    const admitted = (await asked()).filter((entry) => entry["asked"] === "admit");
    expect(admitted.map(({ cost }) => cost)).toEqual([200, 5, 200]);
  });

  test("that costs more than it was admitted at is charged to its socket; one that is told again keeps its id", async () => {
    const socket = await greeted(place());
    await script({ charge: "fail" });
    for (let i = 0; i < 2; i++) socket.send("charge");
    for (let i = 0; i < 2; i++)
      expect(await socket.next()).toEqual({ ok: true, value: { charged: 30, held: 0, remaining: 7 } });
    const charges = (await asked()).filter((entry) => entry["asked"] === "charge");
    expect(charges).toHaveLength(4);
    expect(new Set(charges.map((charge) => charge["id"])).size).toBe(2);
    const [first] = charges;
    expect(first).toMatchObject({ micros: 30, handle: expect.stringMatching(/^handle of /) });
    expect(first).toEqual(charges[1]); // the second message's charge has waited for the first one's answer
  });

  test("that is denied is not served, and the next one is", async () => {
    const socket = await greeted(place());
    await script({ denial: { reason: "rate_limited", retryAfterMs: 1_500 } });
    socket.send("too soon");
    expect(await socket.next()).toMatchObject({ type: "legate.denied", code: "rate_limited", retryAfterSeconds: 2 });
    await script({});
    socket.send("later");
    expect(await socket.next()).toMatchObject({ echo: "later" });
  });

  test.each<[Script, number]>([
    [{ denial: { reason: "ended", node: "ses_x", why: "terminated", at: 1 } as unknown as never }, 4403],
    [{ denial: { reason: "token_expired", exp: 1, now: 2 } as unknown as never }, 4401],
    [{ denial: { reason: "hold_mismatch", fault: "unknown" } }, 1008],
    [{ admit: "fail" }, 1013],
    [{ admit: "silent" }, 1013],
  ])("that the authority answers with %j closes the socket with %i", async (answers, code) => {
    const socket = await greeted(place());
    await script(answers);
    socket.send("hello?");
    expect(await socket.closed()).toMatchObject({ code });
    expect(socket.unread).toEqual([]);
  });

  test("after the token's end closes the socket without a question", async () => {
    await script({ expires: Date.now() + 300 });
    const socket = await greeted(place());
    await new Promise((wake) => setTimeout(wake, 400));
    socket.send("late");
    expect(await socket.closed()).toMatchObject({ code: 4401 });
    expect((await asked()).map((entry) => entry["asked"])).toEqual(["register", "disconnect"]);
  });

  test("that is too large closes the socket", async () => {
    const socket = await greeted(place());
    socket.send("x".repeat(65_537));
    expect(await socket.closed()).toMatchObject({ code: 1009 });
  });

  test("that takes orders is not one: state, calls and control frames of the base class", async () => {
    const instance = place();
    const socket = await greeted(instance);
    socket.send({ type: "cf_agent_state", state: { count: 9_999 } });
    socket.send({ type: "rpc", id: "1", method: "setState", args: [{ count: 9_999 }] });
    socket.send({ type: "cf_agent_mcp_servers" });
    socket.send("still here");
    expect(await socket.next()).toMatchObject({ echo: "still here" });
    expect(await json(await get(`${instance}/state`))).toEqual({ count: 0 });
  });

  test("over which the agent fails says that it did, and nothing of how", async () => {
    const socket = await greeted(place());
    socket.send("throw");
    expect(await socket.next()).toEqual({ type: "legate.error", code: "internal_error" });
  });
});

describe("the authority closes", () => {
  test("those it names, and no others", async () => {
    const instance = place();
    const first = await greeted(instance);
    const id = await connectionId();
    const second = await greeted(instance);
    expect(await close(instance, [id, "unknown"])).toEqual({ closed: 1 });
    expect(await first.closed()).toEqual({ code: 4403, reason: "session_ended ses_session" });
    second.send("still here");
    expect(await second.next()).toMatchObject({ echo: "still here" });
    expect(await close(instance, [id]), "again").toEqual({ closed: 0 });
  });

  test.each([
    [1012, "comes back", 2],
    [4403, "stays away", 1],
  ])("with %i, and an unmodified AgentClient %s", async (code, _, opens) => {
    const instance = place();
    const seen = stockClient(base, "probe", instance, async () => []);
    await until(() => seen.opens === 1);
    seen.client.send("a word"); // one that never spoke learns of its end ten seconds late (workerd 1.20261023.1)
    await until(() => seen.messages.some((message) => message.includes("echo")));
    expect(await close(instance, [await connectionId()], code)).toEqual({ closed: 1 });
    await until(() => seen.closes.length > 0);
    expect(seen.closes[0]).toMatchObject({ code });
    if (opens > 1) await until(() => seen.opens === opens);
    else await new Promise((wake) => setTimeout(wake, 4_000)); // it would have come back by now
    expect(seen.opens).toBe(opens);
    seen.client.close();
  });

  test("hibernated ones too", async () => {
    const instance = place();
    const socket = await greeted(instance);
    const id = await connectionId();
    await harness.getWorker("mixin-agents").evictDurableObject("Probe", { name: `usr_subject.${instance}` });
    expect(await close(instance, [id])).toEqual({ closed: 1 });
    expect(await socket.closed()).toMatchObject({ code: 4403 });
  });

  test("one that still waits for its registration", async () => {
    const instance = place();
    await script({ register: "slow" });
    const opening = connect(instance);
    await new Promise((wake) => setTimeout(wake, 250));
    expect(await close(instance, [await connectionId()])).toEqual({ closed: 1 });
    const socket = await opening;
    expect(await socket.closed()).toMatchObject({ code: 4403 });
    expect(socket.unread).toEqual([]);
  });
});

test("a woken object serves by what the attachment says", async () => {
  const instance = place();
  const socket = await greeted(instance);
  await harness.getWorker("mixin-agents").evictDurableObject("Probe", { name: `usr_subject.${instance}` });
  socket.send("good morning");
  expect(await socket.next()).toEqual({
    echo: "good morning",
    callId: "call-1",
    remaining: 7,
    state: { mine: "call-1" },
  });
  const admitted = (await asked()).at(-1);
  expect(admitted).toMatchObject({ asked: "admit", delegation: true, handle: expect.stringContaining("handle of ") });
});

test.each([
  [1000, 1000],
  [undefined, 1005],
])("the authority hears of a client that closes with %s, and the client is answered", async (code, heard) => {
  const socket = await greeted(place());
  socket.send("a word");
  await socket.next();
  socket.close(code);
  expect(await socket.gone()).toBe(1000);
  await expect.poll(async () => (await asked()).at(-1)).toMatchObject({ asked: "disconnect", code: heard });
});
