// On plain workerd the promises of a request die with its connection. A Worker that let one request wait for what
// another began would hang as soon as the first client went away: `wrangler dev`'s proxy hides it, so here there is none.
// Each round is a cold isolate, and both requests race its first derivation of keys. And with the agents' Worker in a
// process of its own: what a stop does while that is dead, and the edge with it.
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from "vitest";
import type { AgentSession } from "../../sdk/client.ts";
import { Apart } from "../support/conformance/apart.ts";
import { Deployment } from "../support/conformance/deployment.ts";
import { Member, read, send } from "../support/conformance/people.ts";
import { Plain, type PlainServer } from "../support/conformance/plain.ts";
import { until } from "../support/conformance/stop-scene.ts";
import { TestSocket } from "../support/socket.ts";

const ANSWERED_WITHIN_MS = 8_000;
const SHORT_MS = 3_000; // long enough for whoever would answer, where the answer is to be none
const RESET_AFTER_MS = [0, 10, 60, 200];

let deployment: Deployment;
let plain: Plain;
let folder: string;
let authorization: string;
let operator: Member;
/** Sessions to be stopped, one for each test, and for each time that it runs again. */
let doomed: Doomed[];

interface Doomed {
  readonly id: string;
  readonly authorization: string;
}

beforeAll(async () => {
  deployment = await Deployment.start();
  const member = await Member.signUp(deployment.url);
  operator = await Member.signUp(deployment.url, deployment.secrets["LEGATE_BOOTSTRAP"]);
  const agent = await member.registerAgent();
  const bearerOf = async (session: AgentSession) => `Bearer ${await session.token()}`;
  authorization = await bearerOf(await agent.open());
  const sessions = await Promise.all(Array.from({ length: 6 }, () => agent.open()));
  doomed = await Promise.all(sessions.map(async (one) => ({ id: one.id, authorization: await bearerOf(one) })));
  await deployment.stop();
  folder = mkdtempSync(join(tmpdir(), "legate-plain-"));
  const { url: issuer, secrets, objectsDir } = deployment;
  plain = await Plain.build({ folder, objectsDir, issuer, secrets });
}, 240_000);
afterAll(async () => {
  await deployment.end();
  rmSync(folder, { recursive: true, force: true });
});

/** @returns how the second of two requests was answered, the first having been reset; "nothing" in time */
async function secondOfTwo(path: string, resetAfterMs: number): Promise<number | "nothing"> {
  const server = await plain.start();
  try {
    return await secondAt(server, path, resetAfterMs, ANSWERED_WITHIN_MS);
  } finally {
    await server.stop();
  }
}

async function secondAt(server: PlainServer, path: string, resetAfterMs: number, withinMs: number) {
  const first = await server.sendRaw(path, { authorization });
  const signal = AbortSignal.timeout(withinMs);
  const second = fetch(`${server.url}${path}`, { headers: { authorization }, signal }).then(read);
  second.catch(() => {});
  await sleep(resetAfterMs);
  first.resetAndDestroy();
  return second.then(({ status }) => status).catch(() => "nothing" as const);
}

describe.each(["/healthz", "/sessions/current", "/agents/planner/default/history"])("two requests for %s", (path) => {
  test.each(RESET_AFTER_MS)("the first reset after %i ms: the second answers", async (resetAfterMs) => {
    expect(await secondOfTwo(path, resetAfterMs)).toBe(200);
  });
});

test("a third, after both have gone, and the isolate's leases with them", async () => {
  const path = "/agents/planner/default/history";
  const server = await plain.start();
  try {
    const gone = await Promise.all([0, 1].map(() => server.sendRaw(path, { authorization })));
    await sleep(5);
    for (const socket of gone) socket.resetAndDestroy();
    const calls = Array.from({ length: 8 }, () =>
      fetch(`${server.url}${path}`, { headers: { authorization }, signal: AbortSignal.timeout(ANSWERED_WITHIN_MS) }),
    );
    expect((await Promise.all(calls)).map(({ status }) => status)).toEqual(Array(8).fill(200));
  } finally {
    await server.stop();
  }
});

test("this would be seen: an edge made once for all, by a promise that the first request began", async () => {
  const edge = plain.mutant("sharing", (source) => {
    const changed = source.replace(/async function edgeOf\(/, "async function edgeOfOnce(");
    expect(changed).not.toBe(source);
    return `${changed}
let sharedEdge;
function edgeOf(env) {
  return (sharedEdge ??= new Promise((done) => setTimeout(done, 60)).then(() => edgeOfOnce(env)));
}\n`;
  });
  const alone = await plain.start(edge);
  expect((await fetch(`${alone.url}/healthz`)).status, "it works while nobody leaves").toBe(200);
  await alone.stop();
  const server = await plain.start(edge);
  expect(await secondAt(server, "/healthz", 10, SHORT_MS)).toBe("nothing");
  await server.stop();
});

describe("a stop while the agents' Worker is a dead process", () => {
  const DOWN_MS = 10_000;
  const TERMINAL_WITHIN_MS = 30_000;
  let edge: PlainServer;
  let agents: PlainServer;
  let apart: Apart;

  const admin = async (method: string, id: string, path = "") => {
    const headers = { origin: deployment.url, cookie: operator.browser.cookie };
    const json = method === "DELETE" ? { json: { reason: "dead agents" } } : {};
    return (await send(`${edge.url}/admin/agents/sessions/${id}${path}`, method, { headers, ...json })).body;
  };
  const reportOf = (id: string) => admin("GET", id, "/stop");
  const served = async (of: Doomed) => {
    const socket = await TestSocket.open(`${edge.url}/agents/researcher/${of.id.slice(-8)}`, {
      authorization: of.authorization,
    });
    socket.send({ question: "What do corals need?" });
    expect(await socket.next()).toHaveProperty("findings");
    return socket;
  };
  const turnedAway = async ({ authorization: own }: Doomed) => {
    const { status, body } = await read(
      await fetch(`${edge.url}/agents/researcher/default/lookup?q=coral`, { headers: { authorization: own } }),
    );
    expect([status, body["code"]]).toEqual([401, "session_ended"]);
  };
  const pending = { state: "pending", sockets: { closed: 0, pending: 1 } };
  const terminal = { state: "terminal", sockets: { closed: 1, pending: 0 } };

  beforeEach(async () => {
    apart = await Apart.of(plain);
    [edge, agents] = [await apart.startEdge(), await apart.startAgents()];
  });
  afterEach(async () => {
    await Promise.all([edge.stop(), agents.stop()]);
  });

  test("is pending for as long, and terminal by itself after it", async () => {
    const one = doomed.pop() as Doomed;
    const socket = await served(one);
    await agents.stop();
    const diedAt = Date.now();
    expect(await admin("DELETE", one.id)).toMatchObject({ ...pending, fence: { passed: true } });
    await turnedAway(one);
    await sleep(diedAt + DOWN_MS - Date.now());
    expect(await reportOf(one.id)).toMatchObject(pending);
    agents = await apart.startAgents();
    await until(async () => (await reportOf(one.id))["state"] === "terminal", TERMINAL_WITHIN_MS);
    expect(await reportOf(one.id)).toMatchObject(terminal);
    expect(socket.unread).toEqual([]);
    await turnedAway(one);
  });

  test("goes on after a kill -9 of the edge between the mark and the fan-out", async () => {
    const one = doomed.pop() as Doomed;
    await served(one);
    await agents.stop(); // nobody is there to be told: whenever the edge dies, it is before that
    expect(await admin("DELETE", one.id, "?wait=0")).toMatchObject({ state: "pending" });
    await edge.stop();
    edge = await apart.startEdge();
    expect(await reportOf(one.id)).toMatchObject(pending);
    await turnedAway(one);
    agents = await apart.startAgents();
    await until(async () => (await reportOf(one.id))["state"] === "terminal", TERMINAL_WITHIN_MS);
    expect(await reportOf(one.id)).toMatchObject(terminal);
  });
});
