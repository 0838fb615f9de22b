// The tour and the agents that it meets, against a server on a state folder of its own.
import { spawn } from "node:child_process";
import { randomUUID } from "node:crypto";
import { mkdtempSync, readFileSync, rmSync, statSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, beforeEach, describe, expect, test } from "vitest";
import { startServer } from "../../scripts/lib/serve.mjs";
import { makeKey } from "../../scripts/tour/keys.ts";
import { Person } from "../../scripts/tour/person.ts";
import { events } from "../../scripts/tour/streams.ts";
import { Legate, LegateError, type AgentSession } from "../../sdk/client.ts";
import { TestSocket } from "../support/socket.ts";

const stateDir = mkdtempSync(join(tmpdir(), "legate-tour-"));
let server: Awaited<ReturnType<typeof startServer>>;

beforeAll(async () => {
  server = await startServer({ stateDir });
});
afterAll(async () => {
  await server.stop();
  rmSync(stateDir, { recursive: true, force: true });
});

/** Walks the tour as `npm run tour` does. */
function tour(url: string, bootstrap = server.secrets["LEGATE_BOOTSTRAP"] ?? "", state = "tour.json") {
  const args = ["scripts/tour.ts", url, "--state", join(stateDir, state)];
  const child = spawn(process.execPath, args, { env: { ...process.env, LEGATE_BOOTSTRAP: bootstrap } });
  let output = "";
  for (const stream of [child.stdout, child.stderr]) stream.on("data", (text) => (output += text));
  return new Promise<{ status: number | null; output: string }>((done) =>
    child.once("close", (status) => done({ status, output })),
  );
}

describe("the tour", () => {
  test("walks, shows every step, prints no secret, and no colour into a pipe", async () => {
    const { status, output } = await tour(server.url);
    expect(output).toContain("As it should be.");
    expect(status).toBe(0);
    for (let step = 1; step <= 14; step++) expect(output).toMatch(new RegExp(`^ ?${step}  \\S`, "m"));
    expect(output).not.toContain("✗");
    expect(output).not.toContain("\u001b[");
    expect(output, "a token").not.toMatch(/eyJ[\w-]{20,}/);
    const { operator } = JSON.parse(readFileSync(join(stateDir, "tour.json"), "utf8")) as {
      operator: { password: string };
    };
    for (const secret of [operator.password, ...Object.values(server.secrets).filter(Boolean)])
      expect(output.includes(secret)).toBe(false);
    expect(statSync(join(stateDir, "tour.json")).mode & 0o777).toBe(0o600);
  });

  test("walks again on the same state, without the code", async () => {
    expect(await tour(server.url, "")).toMatchObject({ status: 0 });
  });

  test("stops with a sentence where it can't go on", async () => {
    const noOperator = await tour(server.url, "", "elsewhere.json");
    expect(noOperator.status).toBe(1);
    expect(noOperator.output).toMatch(/There is no operator for the tour: .* Delete \.legate\/ to start anew\.\s*$/);
    const nobody = await tour("http://127.0.0.1:1");
    expect(nobody.status).toBe(1);
    expect(nobody.output).toMatch(/could not be reached\. \(0 unreachable\)\s*$/);
  });
});

describe("the example agents", () => {
  let session: AgentSession;

  // A person for each test: rates are a person's, and a tier's burst is soon spent by tests.
  beforeEach(async () => {
    const person = new Person(server.url);
    await person.signUp(`agents-${randomUUID().slice(0, 8)}`, `a password ${randomUUID()}`);
    const key = await makeKey("ES256");
    const scope = "plan research catalog:read";
    const { client_id: clientId } = await person.registerAgent("tester", key.publicJwk, scope, 1_000_000);
    session = await Legate.open({ issuer: server.url, clientId, key: key.privateKey });
  });

  const chat = (goal: string, instance: string, init: RequestInit = {}) =>
    session.fetch(`/agents/planner/${instance}/chat`, {
      method: "POST",
      headers: { "content-type": "application/json", accept: "text/event-stream" },
      body: JSON.stringify({ goal }),
      ...init,
    });
  const history = async (instance: string) =>
    (
      (await (await session.fetch(`/agents/planner/${instance}/history`)).json()) as {
        chats: { state: string; steps: number }[];
      }
    ).chats;
  const LONG = "Tides? Corals? Salmon? Rainbows? Lightning?";

  // That the first event is there before the last is written: test/workerd/gate-streams.test.ts, where an agent waits for it.
  test("stream: a plan, a result for each step, and an end", async () => {
    const seen: string[] = [];
    for await (const { event } of events(await chat(LONG, "streams"))) seen.push(event);
    expect(seen).toEqual(["plan", ...Array<string>(5).fill("result"), "done"]);
    expect(await history("streams")).toMatchObject([{ state: "done", steps: 5 }]);
  });

  test.each([
    ["GET", "/agents/researcher/default/lookup", 400],
    ["GET", "/agents/researcher/default/elsewhere", 404],
    ["POST", "/agents/planner/default/chat", 400],
    ["GET", "/agents/planner/default/elsewhere", 404],
  ])("%s %s without what it needs is %i", async (method, path, status) => {
    expect((await session.fetch(path, { method })).status).toBe(status);
  });

  test("an unknown question has no findings, and a socket goes on after a mistake", async () => {
    const answer = await (await session.fetch("/agents/researcher/default/lookup?q=zymurgy")).json();
    expect(answer).toMatchObject({ findings: [] });
    const socket = await TestSocket.open(`${server.url}/agents/researcher/default`, {
      authorization: `Bearer ${await session.token()}`,
    });
    for (const sent of ["no JSON", "[]", { question: 7 }, { question: "" }]) {
      socket.send(sent);
      expect(await socket.next()).toEqual({ error: 'Send {"question":"…"}.' });
    }
    socket.send({ question: "How do bees tell of flowers?" });
    const reply = (await socket.next()) as { findings: { fact: string }[] };
    expect(reply.findings[0]?.fact).toMatch(/^Honeybees/);
  });

  test("a narrowed session reaches what it names, and its own end ends it alone", async () => {
    const child = await session.spawn("reader", {
      scope: ["research", "catalog:read"],
      agents: ["researcher", "catalog"],
    });
    expect((await child.fetch("/agents/researcher/default/lookup?q=coral")).status).toBe(200);
    const narrow = await child.spawn("narrower", { agents: ["researcher"] });
    expect((await narrow.fetch("/agents/researcher/default/lookup?q=coral")).status, "the catalogue is cut off").toBe(
      500,
    );
    await child.end();
    expect((await child.fetch("/agents/researcher/default/lookup?q=coral")).status).toBe(401);
    expect((await narrow.fetch("/agents/researcher/default/lookup?q=coral")).status).toBe(401);
    expect((await session.fetch("/agents/researcher/default/lookup?q=coral")).status).toBe(200);
    await expect(child.leash()).rejects.toBeInstanceOf(LegateError);
    await session.end();
    expect((await session.fetch("/agents/researcher/default/lookup?q=coral")).status).toBe(401);
  });
});
