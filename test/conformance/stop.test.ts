// What an operator's DELETE promises when it returns: the session's next call is refused, and so is that of whoever hangs
// below it; all their sockets are closed within a second, those of sleeping objects too; and the row says who ended it.
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import type { AgentSession } from "../../sdk/client.ts";
import { Deployment } from "../support/conformance/deployment.ts";
import { Member, read } from "../support/conformance/people.ts";
import { TestSocket } from "../support/socket.ts";

const HIBERNATED_AFTER_MS = 12_500; // workerd puts an object to sleep after some ten seconds without work (measured)
const CLOSED_WITHIN_MS = 1_000;
const BETWEEN_CALLS_MS = 200;
const LOOKUP = "/agents/researcher/default/lookup?q=coral";

let deployment: Deployment;
let operator: Member;
beforeAll(async () => {
  deployment = await Deployment.start();
  operator = await Member.signUp(deployment.url, deployment.secrets["LEGATE_BOOTSTRAP"]);
});
afterAll(() => deployment.end());

/** `member -> a, a -> b (redeemed), b -> reader (bearer)`, and one session beside it. */
async function family() {
  const member = await Member.signUp(deployment.url);
  const [a, b] = [await member.registerAgent({ name: "a" }), await member.registerAgent({ name: "b" })];
  const session = await a.open();
  const child = await b.redeem(await session.delegate(b.clientId));
  const grandchild = await child.spawn("reader", { scope: ["research", "catalog:read"] });
  return { member, session, child, grandchild, beside: await a.open() };
}

async function connect(session: AgentSession, instance: string): Promise<TestSocket> {
  const headers = { authorization: `Bearer ${await session.token()}` };
  const socket = await TestSocket.open(`${deployment.url}/agents/researcher/${instance}`, headers);
  socket.send({ question: "What do corals need?" });
  expect(await socket.next()).toHaveProperty("findings");
  return socket;
}

const call = async (session: AgentSession) => {
  const { status, body } = await read(await session.fetch(LOOKUP));
  return [status, body["code"]];
};

/** Ends it, and says when the answer was there. */
async function end(id: string, reason: string) {
  const report = await operator.browser.done("DELETE", `/admin/agents/sessions/${id}`, { json: { reason } });
  return { report, at: Date.now() };
}

describe("when an operator's DELETE has returned", () => {
  test("every call below is refused, every socket closed, and the row tells of it", async () => {
    const { member, session, child, grandchild, beside } = await family();
    const line = [session, child, grandchild];
    const asleep = await Promise.all(line.map((one, i) => connect(one, `asleep${i}`)));
    const bystander = await connect(beside, "bystander");
    await new Promise((wake) => setTimeout(wake, HIBERNATED_AFTER_MS));
    const awake = await Promise.all(line.map((one, i) => connect(one, `awake${i}`)));
    for (const one of line) expect(await call(one)).toEqual([200, undefined]); // their leases are warm

    const { report, at } = await end(session.id, "conformance");
    const calls = await Promise.all(line.map(call));
    const ends = await Promise.all([...asleep, ...awake].map((socket) => socket.closed()));
    expect(Date.now() - at).toBeLessThan(CLOSED_WITHIN_MS);
    for (const answer of calls) expect(answer).toEqual([401, "session_ended"]);
    for (const close of ends)
      expect(close).toEqual({ code: 4403, reason: expect.stringMatching(/^session_ended ses_/) });
    expect(report).toMatchObject({
      state: "terminal",
      session: session.id,
      why: "terminated",
      sockets: { pending: 0 },
    });
    expect(report["by"]).toEqual({ kind: "operator", id: operator.id, reason: "conformance" });

    // Nothing else was touched.
    bystander.send({ question: "What do corals need?" });
    expect(await bystander.next()).toHaveProperty("findings");
    expect(await call(beside)).toEqual([200, undefined]);

    const rows = async () => {
      const { sessions } = await operator.browser.done("GET", `/admin/agents/sessions?user=${member.id}&active=false`);
      return (sessions as Record<string, unknown>[]).filter(({ id }) => id === session.id);
    };
    await expect
      .poll(rows, { timeout: 5_000 })
      .toEqual([
        expect.objectContaining({ endedAt: expect.any(Number), endReason: "terminated", endedBy: operator.id }),
      ]);
    const { rows: audit } = await operator.browser.done(
      "GET",
      `/admin/agents/audit?session=${session.id}&kind=session.ended`,
    );
    expect(audit).toHaveLength(1);
    expect(JSON.parse(String((audit as Record<string, unknown>[])[0]?.["body"]))).toMatchObject({
      reason: "conformance",
    });
    bystander.close();
  }, 120_000);

  test("no token of it renews, redeems or connects, and a second DELETE says so", async () => {
    const { member, session, child } = await family();
    const other = await member.registerAgent({ name: "other" });
    const delegation = await session.delegate(other.clientId);
    const tokens = [await session.token(), await child.token()];
    await end(session.id, "conformance");
    await expect(other.redeem(delegation)).rejects.toMatchObject({ code: "invalid_grant" });
    for (const token of tokens) {
      const socket = await TestSocket.open(`${deployment.url}/agents/researcher/late`, {
        authorization: `Bearer ${token}`,
      });
      expect(await socket.closed(), "accepted and closed: stock clients stop").toMatchObject({ code: 4403 });
    }
    const again = await operator.browser.send("DELETE", `/admin/agents/sessions/${session.id}`, {
      json: { reason: "again" },
    });
    expect([again.status, again.body["code"], again.body["report"]]).toEqual([
      409,
      "already_ended",
      expect.objectContaining({ why: "terminated", by: expect.objectContaining({ reason: "conformance" }) }),
    ]);
  });

  test("no slice that an isolate still holds admits a call", async () => {
    const { session, child } = await family();
    const over = new AbortController();
    const calls: { began: number; status: number }[] = [];
    /** Slower than the rates allow, so that the isolate always has a slice with calls left. */
    const knock = async (one: AgentSession) => {
      while (!over.signal.aborted) {
        const began = Date.now();
        const { status } = await read(await one.fetch("/agents/planner/default/history"));
        calls.push({ began, status });
        await new Promise((wake) => setTimeout(wake, BETWEEN_CALLS_MS));
      }
    };
    const knocking = [session, child].map(knock);
    const admitted = () => calls.filter(({ status }) => status === 200);
    await expect.poll(() => admitted().length, { timeout: 10_000 }).toBeGreaterThan(20);
    const { at } = await end(session.id, "conformance");
    const after = () => calls.filter(({ began }) => began > at);
    await expect.poll(() => after().length, { timeout: 5_000 }).toBeGreaterThan(6);
    over.abort();
    await Promise.all(knocking);
    expect(new Set(after().map(({ status }) => status))).toEqual(new Set([401]));
    // The time between the mark and the fence is what those slices had left.
    expect(new Set(calls.map(({ status }) => status))).toEqual(new Set([200, 401]));
  });
});

test("a revoked child leaves its parent alone; a stopped user and a deleted agent leave nothing", async () => {
  const { member, session, child, grandchild, beside } = await family();
  await child.end();
  expect(await Promise.all([session, child, grandchild].map(call))).toEqual([
    [200, undefined],
    [401, "session_ended"],
    [401, "session_ended"],
  ]);
  const socket = await connect(beside, "user");
  await operator.browser.done("POST", `/admin/users/${member.id}/stop`, { json: { reason: "conformance" } });
  const at = Date.now();
  expect(await socket.closed()).toMatchObject({ code: 4403 });
  expect(Date.now() - at).toBeLessThan(CLOSED_WITHIN_MS);
  expect(await call(session)).toEqual([401, "session_ended"]);
  expect(await call(beside)).toEqual([401, "session_ended"]);

  const owner = await Member.signUp(deployment.url);
  const agent = await owner.registerAgent();
  const doomed = await agent.open();
  const open = await connect(doomed, "agent");
  await owner.browser.done("DELETE", `/oauth/clients/${agent.clientId}`).catch(() => null);
  expect(await open.closed()).toMatchObject({ code: 4403 });
  await expect(agent.open()).rejects.toMatchObject({ status: 401, code: "invalid_client" });
});
