// A stop that is raced: by an upgrade, a stream and a call that were admitted before the mark and reach their agent after
// it, or after the fence; by an eviction of the session's object, between those and in the middle of the stop itself.
import { createExecutionContext, evictDurableObject, runDurableObjectAlarm, runInDurableObject } from "cloudflare:test";
import { env } from "cloudflare:workers";
import { describe, expect, test } from "vitest";
import type { NodePath, UserId } from "../../core/ids.ts";
import type { StopReport } from "../../core/wire/answers.ts";
import type { Edge } from "../../worker/env.ts";
import { serve } from "../../worker/serve.ts";
import { bearer, edge, HOST, open, UPGRADE, type Opened } from "../support/workerd/gate.ts";
import { Client, connect, query, RESEARCHER, runDue, until } from "../support/workerd/sockets.ts";

const FENCED_WITHIN_MS = 20_000; // a fence is some four seconds; an object that restarts waits again
const operator = { kind: "operator" as const, id: "usr_operator", reason: "a test" };

const stop = ({ person, grant }: Opened, wait = false) =>
  edge.ask(person.id, (authority) =>
    authority.terminate({
      path: grant.path,
      why: "terminated",
      by: operator,
      reach: { kind: "operator" },
      wait,
      idempotency: null,
    }),
  );

async function reportOf({ person, grant }: { person: { id: UserId }; grant: { path: NodePath } }): Promise<StopReport> {
  const report = await edge.ask(person.id, (authority) => authority.stopReport(grant.path));
  if (!report.ok) throw new Error(report.denial.reason);
  return report.value;
}

const fenced = (opened: Opened) =>
  until(async () => ((await reportOf(opened)).fence.passed ? true : null), FENCED_WITHIN_MS);
const terminal = (opened: Opened) =>
  until(async () => {
    const report = await reportOf(opened);
    return report.state === "terminal" ? report : null;
  }, FENCED_WITHIN_MS);

/** The edge with a door between it and the agents: what it has admitted waits there until the test opens. */
function edgeWithDoor() {
  const door = Promise.withResolvers<void>();
  const arrived = Promise.withResolvers<void>();
  const via: Edge = {
    ...edge,
    agent: (entry, object) => {
      const stub = edge.agent(entry, object);
      if (stub === null) return null;
      return {
        fetch: async (to, init) => {
          arrived.resolve();
          await door.promise;
          return stub.fetch(to, init);
        },
      };
    },
  };
  return { via, arrived: arrived.promise, open: () => door.resolve() };
}

/** Waits for the answer alone: what goes on behind it, a slice that is not over yet, is what a stop has to do with. */
const send = (via: Edge, path: string, init: RequestInit) =>
  serve(new Request(`${HOST}${path}`, init), via, createExecutionContext());

const chat = { method: "POST", body: JSON.stringify({ goal: "Tides? Corals?" }) };
const asEvents = { accept: "text/event-stream", "content-type": "application/json" };
const KNOCKS = {
  upgrade: (via: Edge, token: string) => send(via, RESEARCHER, bearer(token, UPGRADE)),
  stream: (via: Edge, token: string) =>
    send(via, "/agents/planner/races/chat", { ...chat, ...bearer(token, asEvents) }),
  call: (via: Edge, token: string) => send(via, "/agents/planner/races/history", bearer(token)),
};

/** How it ended for whoever asked: closed with a code, refused with one, or served. */
async function outcomeOf(answer: Response): Promise<string> {
  if (answer.webSocket !== null) {
    const client = new Client(answer.webSocket);
    client.send({ question: "What do corals need?" });
    const { code } = await client.closed();
    expect(client.frames.filter((frame) => frame.includes("findings"))).toEqual([]);
    return `closed ${code}`;
  }
  const text = await answer.text();
  return answer.ok ? "served" : `${answer.status} ${(JSON.parse(text) as { code: string }).code}`;
}

describe.each([{ evicted: false }, { evicted: true }])(
  "the object evicted behind the mark: $evicted",
  ({ evicted }) => {
    const step = async ({ person }: Opened) => {
      if (evicted) await evictDurableObject(env.AUTHORITY.getByName(person.id), { webSockets: "hibernate" });
    };

    test.each([
      // An agent that has refused what came too late says 401, like one that was never asked.
      { kind: "upgrade", between: "closed 4403", after: "401 credentials_missing", late: "closed 4403" },
      { kind: "stream", between: "401 session_ended", after: "401 credentials_missing", late: "401 session_ended" },
      { kind: "call", between: "served", after: "401 credentials_missing", late: "401 session_ended" },
    ] as const)("a $kind that was admitted before it", async ({ kind, between, after, late }) => {
      const race = async (order: "between" | "after") => {
        const opened = await open();
        const door = edgeWithDoor();
        const answering = KNOCKS[kind](door.via, opened.token);
        await door.arrived;
        expect(await stop(opened)).toMatchObject({ ok: true, value: { state: "pending", fence: { passed: false } } });
        await step(opened);
        const { calls } = await reportOf(opened);
        expect(calls.running + calls.upTo, "it is counted as running").toBe(1);
        if (order === "after") await fenced(opened);
        door.open();
        const outcome = await outcomeOf(await answering);
        await fenced(opened);
        // Whoever knocks now is told the same, whatever the isolate holds.
        expect(await outcomeOf(await KNOCKS[kind](edge, opened.token))).toBe(late);
        expect(await terminal(opened)).toMatchObject({ sockets: { pending: 0 }, streams: { pending: 0 } });
        expect(await query(opened.person.id, "select id from connections")).toEqual([]);
        return outcome;
      };
      expect(await Promise.all([race("between"), race("after")])).toEqual([between, after]);
    });

    test("a socket and a stream that were open before it", async () => {
      const opened = await open();
      const client = await connect(RESEARCHER, opened.token);
      const answer = await KNOCKS.stream(edge, opened.token);
      const reader = (answer.body as ReadableStream<Uint8Array>).getReader();
      await reader.read();
      await query(opened.person.id, "update connections set slug = slug || '-out-of-reach'");
      await stop(opened);
      await step(opened);
      expect(await reportOf(opened)).toMatchObject({ sockets: { pending: 1 }, streams: { pending: 1 } });
      await query(opened.person.id, "update connections set slug = replace(slug, '-out-of-reach', '')");
      await runDue(opened.person.id, "close");
      expect(await client.closed()).toMatchObject({ code: 4403 });
      let text = "";
      for (;;) {
        const { done, value } = await reader.read();
        if (done) break;
        text += new TextDecoder().decode(value);
      }
      expect(text).toContain("event: legate.terminated");
      expect(await terminal(opened)).toMatchObject({ sockets: { pending: 0 }, streams: { pending: 0 } });
    });
  },
);

test("an object that restarts in the middle of a stop waits again, and goes on by itself", async () => {
  const opened = await open();
  const { id } = opened.person;
  const client = await connect(RESEARCHER, opened.token);
  expect(await outcomeOf(await KNOCKS.call(edge, opened.token))).toBe("served"); // a slice is out
  await query(id, "update connections set slug = 'out-of-reach'");
  const stopping = stop(opened, true);
  const before = await until(async () => {
    const report = await edge.ask(id, (authority) => authority.stopReport(opened.grant.path));
    return report.ok ? report.value : null;
  });
  // Whatever was not written is lost, and whoever waits for the stop learns nothing.
  await runInDurableObject(env.AUTHORITY.getByName(id), (_, state) => state.abort("a test")).catch(() => null);
  const restartedAt = Date.now();
  expect(await stopping).toMatchObject({ ok: false, denial: { reason: "authority_unavailable" } });
  const report = await reportOf(opened);
  expect(report).toMatchObject({ state: "pending", endedAt: before.endedAt, by: operator, sockets: { pending: 1 } });
  expect(report.fence.at, "the slice counts as granted now").toBeGreaterThanOrEqual(restartedAt + 3_900);
  client.send({ question: "What do corals need?" });
  await fenced(opened);
  expect(await outcomeOf(await KNOCKS.call(edge, opened.token))).toBe("401 session_ended");
  await query(id, "update connections set slug = 'researcher'");
  await until(async () => ((await runDurableObjectAlarm(env.AUTHORITY.getByName(id)), client.ended) ? true : null));
  expect(client.ended).toMatchObject({ code: 4403 });
  expect(client.frames.filter((frame) => frame.includes("findings"))).toEqual([]);
  expect(await terminal(opened)).toMatchObject({ sockets: { closed: 1, pending: 0 } });
});
