// What a stop does in each plane, and what its report says: sockets, streams, control channels, other users' objects;
// with the object evicted in between, and with its storage full.
import { createExecutionContext, evictDurableObject, runInDurableObject } from "cloudflare:test";
import { env } from "cloudflare:workers";
import { describe, expect, test } from "vitest";
import type { EpochMs, NodePath, UserId } from "../../core/ids.ts";
import type { LockReport, StopReport } from "../../core/wire/answers.ts";
import { Context } from "../../durable-objects/authority/context.ts";
import { serve } from "../../worker/serve.ts";
import {
  authenticate,
  expectOk,
  newAgent,
  newPerson,
  open as openGrant,
  question,
  tokenOf,
  redeem,
} from "../support/workerd/authority.ts";
import { bearer, edge, HOST, open, send, type Opened } from "../support/workerd/gate.ts";
import { connect, knock, query, RESEARCHER, runDue, until, type Client } from "../support/workerd/sockets.ts";

const operator = { kind: "operator" as const, id: "usr_operator", reason: "a test" };

async function terminate({ person }: Opened, path: NodePath, wait = true) {
  return edge.ask(person.id, (authority) =>
    authority.terminate({
      path,
      why: "terminated",
      by: operator,
      reach: { kind: "operator" },
      wait,
      idempotency: null,
    }),
  );
}

async function ended(opened: Opened): Promise<StopReport> {
  const report = await terminate(opened, opened.grant.path);
  if (!report.ok) throw new Error(report.denial.reason);
  return report.value;
}

/** What an answer leaves behind, a slice to be reported, is nobody's to wait for. */
const nobodyWaits = () => createExecutionContext();
const channelOf = ({ grant }: Opened) => `/sessions/${grant.path}/socket`;
const auth = (token: string) => ({ authorization: `Bearer ${token}` });

async function listen(opened: Opened): Promise<Client> {
  const { client, status } = await knock(channelOf(opened), auth(opened.token));
  if (client === null) throw new Error(`refused: ${status}`);
  return client;
}

describe.each([{ evicted: false }, { evicted: true }])(
  "a stop, the object evicted before it: $evicted",
  ({ evicted }) => {
    const step = async ({ person }: Opened) => {
      if (evicted) await evictDurableObject(env.AUTHORITY.getByName(person.id), { webSockets: "hibernate" });
    };

    test("closes sockets, and says where they were", async () => {
      const opened = await open();
      const clients = [
        await connect(RESEARCHER, opened.token),
        await connect("/agents/researcher/second", opened.token),
        await connect("/agents/researcher/second", opened.token),
      ];
      await step(opened);
      const report = await ended(opened);
      for (const client of clients) expect(await client.closed()).toMatchObject({ code: 4403 });
      for (const client of clients)
        expect(client.frames.some((frame) => frame.includes('"legate.terminated"'))).toBe(true);
      expect(report).toMatchObject({ state: "terminal", sockets: { closed: 3, pending: 0 }, streams: { closed: 0 } });
      expect(report.objects).toEqual([
        { slug: "researcher", instance: "default", kind: "socket", closed: 1, pending: 0 },
        { slug: "researcher", instance: "second", kind: "socket", closed: 2, pending: 0 },
      ]);
      const again = await terminate(opened, opened.grant.path);
      expect(again).toMatchObject({ ok: false, denial: { reason: "already_ended", report: { state: "terminal" } } });
      expect(await edge.ask(opened.person.id, (authority) => authority.stopReport(opened.grant.path))).toMatchObject({
        ok: true,
        value: { state: "terminal", by: operator },
      });
    });

    test("cuts a stream in the middle, and tells its client why", { timeout: 20_000 }, async () => {
      const opened = await open();
      const answer = await send(edge, "/agents/planner/streams/chat", {
        method: "POST",
        headers: { ...auth(opened.token), "content-type": "application/json", accept: "text/event-stream" },
        body: JSON.stringify({ goal: "Tides? Corals? Salmon? Rainbows? Lightning? ".repeat(20) }),
      });
      const reader = (answer.body as ReadableStream<Uint8Array>).getReader();
      let text = new TextDecoder().decode((await reader.read()).value);
      expect(await query(opened.person.id, "select kind, slug from connections")).toEqual([
        { kind: "stream", slug: "planner" },
      ]);
      await step(opened);
      const stopping = ended(opened);
      for (;;) {
        const { done, value } = await reader.read();
        if (done) break;
        text += new TextDecoder().decode(value);
      }
      const report = await stopping;
      expect(text).toContain("event: legate.terminated");
      expect(text).not.toContain("event: done");
      expect(report).toMatchObject({ state: "terminal", streams: { closed: 1, pending: 0 } });
    });

    test("reaches every control channel at or below it, and no other", async () => {
      const opened = await open();
      const beside = await open({ person: opened.person });
      const [client, bystander] = [await listen(opened), await listen(beside)];
      expect(await client.next("legate.budget")).toMatchObject({ type: "legate.budget" });
      await step(opened);
      await ended(opened);
      const frame = await client.next("legate.terminated");
      expect(frame).toMatchObject({ type: "legate.terminated", reason: "terminated" });
      const [row] = await query(
        opened.person.id,
        "select kind from audit where seq = ?",
        Number(String(frame["decision"]).split(".")[1]),
      );
      expect(row).toEqual({ kind: "session.ended" });
      expect(await client.closed()).toMatchObject({ code: 4403 });
      expect(bystander.ended).toBe(null);
      const { client: late } = await knock(channelOf(opened), auth(opened.token));
      expect(await late?.closed()).toMatchObject({ code: 4403 });
    });
  },
);

describe("a control channel", () => {
  test("tells what is left, once it has moved, and when nothing is", { timeout: 20_000 }, async () => {
    const opened = await open({ budget: 1_100, scope: ["plan"] });
    const client = await listen(opened);
    expect(await client.next("legate.budget")).toEqual({ type: "legate.budget", remaining: 1_100, held: 0 });
    const { person, grant } = opened;
    const by = person.by;
    await edge.ask(person.id, (authority) =>
      authority.setCap({
        path: grant.path,
        cap: 10 as never,
        by,
        reach: { kind: "person", cookie: null },
        idempotency: null,
      }),
    );
    await runDue(person.id, "channels");
    expect(await client.next("legate.budget")).toEqual({ type: "legate.budget", remaining: 10, held: 0 });
    expect(await client.next("legate.paused")).toEqual({ type: "legate.paused", node: grant.path });
  });

  test("is a session's own: another's token, or a node above it, finds nothing there", async () => {
    const [opened, other] = [await open(), await open()];
    expect((await knock(channelOf(other), auth(opened.token))).status).toBe(404);
    expect((await knock(channelOf(opened), {})).status).toBe(401);
    expect((await knock(channelOf(opened), { ...auth(opened.token), origin: "https://evil.example" })).status).toBe(
      403,
    );
    const crafted = {
      ...auth(opened.token),
      "legate-channel": JSON.stringify({ path: other.grant.path, expires: 9e15 }),
    };
    const { client } = await knock(channelOf(opened), crafted);
    await ended(other);
    expect(client?.ended).toBe(null);
  });

  test("takes nothing: who speaks is closed", async () => {
    const client = await listen(await open());
    client.send({ type: "hello" });
    expect(await client.closed()).toMatchObject({ code: 1008 });
  });
});

test("a paused session's sockets stay open and serve nothing, and go on when there is something again", async () => {
  const opened = await open({ budget: 500 });
  const { person, grant } = opened;
  const client = await connect(RESEARCHER, opened.token);
  const cap = (micros: number) =>
    edge.ask(person.id, (authority) =>
      authority.setCap({
        path: grant.path,
        cap: micros as never,
        by: person.by,
        reach: { kind: "person", cookie: null },
        idempotency: null,
      }),
    );
  await cap(0);
  client.send({ question: "What do corals need?" });
  expect(await client.next("legate.paused")).toMatchObject({ node: grant.path });
  expect(await client.next("legate.budget")).toMatchObject({ remaining: 0 });
  expect(await client.next("legate.denied")).toMatchObject({ code: "budget_exhausted" });
  const { client: late } = await knock(RESEARCHER, auth(opened.token));
  expect(await late?.closed()).toMatchObject({ code: 4402 });
  expect(client.ended).toBe(null);
  await cap(1_000);
  client.send({ question: "What do corals need?" });
  expect(await client.next("legate.budget")).toMatchObject({ remaining: expect.any(Number) });
  expect(await client.next("findings")).toHaveProperty("findings");
});

describe("a lock", () => {
  const lock = async (user: UserId, target: string, until: number | null = null, wait = true): Promise<LockReport> => {
    const report = await edge.ask(user, (authority) =>
      authority.lock({ target, until: until as EpochMs | null, by: operator, wait }),
    );
    if (!report.ok) throw new Error(report.denial.reason);
    return report.value;
  };

  test("on a user ends what runs and refuses what starts, until it is lifted or over", async () => {
    const opened = await open();
    const { person } = opened;
    const client = await connect(RESEARCHER, opened.token);
    expect(await lock(person.id, person.id)).toMatchObject({
      state: "terminal",
      sessions: 1,
      lock: { by: operator.id },
    });
    expect(await client.closed()).toMatchObject({ code: 4403 });
    expect(await open({ person }).catch((error: Error) => error.message)).toBe("locked");
    expect(
      await edge.ask(person.id, (authority) => authority.unlock({ target: person.id, by: operator })),
    ).toMatchObject({ ok: true, value: { lock: null } });
    const again = await open({ person });
    await lock(person.id, person.id, Date.now() + 300);
    expect(await open({ person }).catch((error: Error) => error.message)).toBe("locked");
    await until(async () => ((await open({ person }).catch(() => null)) === null ? null : true));
    expect((await connect(RESEARCHER, again.token)).socket).toBeDefined();
  });

  test("is pending until the fence has passed and what it closes is closed", async () => {
    const opened = await open();
    const { id: user } = opened.person;
    await connect(RESEARCHER, opened.token);
    await query(user, "update connections set slug = 'out-of-reach'");
    expect(await lock(user, user)).toMatchObject({ state: "pending", sessions: 1 });
    await query(user, "update connections set slug = 'researcher'");
    await runDue(user, "close");
    expect(await edge.ask(user, (authority) => authority.lockReport(user))).toMatchObject({
      value: { state: "terminal" },
    });

    const calling = await open();
    const { id: caller } = calling.person;
    await serve(new Request(`${HOST}/agents/planner/locks/history`, bearer(calling.token)), edge, nobodyWaits());
    expect(await lock(caller, caller, null, false), "a slice is out").toMatchObject({ state: "pending" });
    expect(await lock(caller, caller), "again").toMatchObject({ state: "pending", sessions: 0 });
    const report = () => edge.ask(caller, (authority) => authority.lockReport(caller));
    await until(async () => {
      const now = await report();
      return now.ok && now.value.state === "terminal" ? now : null;
    });
    expect(await edge.ask(caller, (authority) => authority.stopReport(calling.grant.path))).toMatchObject({
      value: { state: "terminal", fence: { passed: true } },
    });
  });

  test(
    "on an agent stops its sessions of 50 users, names them all, and lets it start nothing",
    { timeout: 60_000 },
    async () => {
      const owner = await newPerson();
      const agent = await newAgent(owner);
      const users = await Promise.all(
        Array.from({ length: 50 }, async () => {
          const user = await newPerson();
          const root = await openGrant(user, { budget: 1_000 as never });
          const told = await authenticate(owner, agent, await agent.assertion(), user.id);
          if (!told.ok) throw new Error(told.denial.reason);
          const { stopCount } = told.value;
          const token = await tokenOf(root, { for: agent.id });
          const grant = await redeem(user, { id: agent.id, stopCount }, token, { by: operator });
          if (!grant.ok) throw new Error(grant.denial.reason);
          return { user, root, grant: grant.value };
        }),
      );
      // One of them has a call under way: what was sealed for it may still be served for a moment.
      const [calling] = users as [(typeof users)[number]];
      expectOk(await calling.user.authority.admit(question(await tokenOf(calling.grant), { level: "strict" })));
      const report = await lock(owner.id, agent.id, null, false);
      expect(report.state).toBe("pending");
      expect(report.users.map(({ user }) => user).toSorted()).toEqual(users.map(({ user }) => user.id).toSorted());
      const pending = report.users.filter(({ state }) => state !== "told").map(({ user }) => user);
      expect(pending).toEqual([calling.user.id]);
      await until(async () => {
        const now = await owner.authority.lockReport(agent.id);
        return now.ok && now.value.state === "terminal" ? now : null;
      }, 20_000);
      for (const { user, root, grant } of users) {
        expect(await user.authority.check(await tokenOf(grant))).toMatchObject({ denial: { reason: "ended" } });
        expect((await user.authority.check(await tokenOf(root))).ok).toBe(true);
      }
      expect(await authenticate(owner, agent, await agent.assertion())).toMatchObject({ denial: { reason: "locked" } });
      await owner.authority.unlock({ target: agent.id, by: operator });
      expect((await authenticate(owner, agent, await agent.assertion())).ok).toBe(true);
    },
  );
});

test("is pending while an agent's object can't be reached, and terminal by itself once it can", async () => {
  const opened = await open();
  const { id: user } = opened.person;
  const client = await connect(RESEARCHER, opened.token);
  await query(user, "update connections set slug = 'out-of-reach'");
  expect(await ended(opened)).toMatchObject({ state: "pending", sockets: { closed: 0, pending: 1 } });
  const report = () => edge.ask(user, (authority) => authority.stopReport(opened.grant.path));
  await runDue(user, "close");
  expect(await report()).toMatchObject({ value: { state: "pending" } });
  client.send({ question: "What do corals need?" }); // it is still open, and gets nothing served
  await until(() => client.ended);
  expect(client.frames.filter((frame) => frame.includes("findings"))).toEqual([]);
  const [due] = await query<{ at: number; tries: number }>(user, "select at, tries from due where kind = 'close'");
  expect(due?.at).toBeGreaterThan(Date.now());
  await query(user, "update connections set slug = 'researcher'");
  await runDue(user, "close");
  expect(await report()).toMatchObject({ value: { state: "terminal", sockets: { pending: 0 } } });
});

test("what was to close before the stop, and has not, is the stop's to close", async () => {
  const opened = await open();
  const { id: user } = opened.person;
  const client = await connect(RESEARCHER, opened.token);
  // Its token has run out while its agent was out of reach.
  await query(user, "update connections set slug = 'out-of-reach', closing = 4401");
  expect(await ended(opened)).toMatchObject({ state: "pending", sockets: { closed: 0, pending: 1 } });
  await query(user, "update connections set slug = 'researcher'");
  await runDue(user, "close");
  expect(await client.closed()).toMatchObject({ code: 4403 });
  expect(await edge.ask(user, (authority) => authority.stopReport(opened.grant.path))).toMatchObject({
    value: { state: "terminal", sockets: { closed: 1, pending: 0 } },
  });
});

test("a socket whose entry has left the configuration keeps a stop pending to its token's end, and no longer", async () => {
  const opened = await open();
  const { id: user } = opened.person;
  await connect(RESEARCHER, opened.token);
  await query(user, "update connections set slug = 'removed-entry'");
  expect(await ended(opened)).toMatchObject({ state: "pending" });
  await query(user, "update connections set expires_at = ?", Date.now() - 1);
  await runDue(user, "close");
  expect(await edge.ask(user, (authority) => authority.stopReport(opened.grant.path))).toMatchObject({
    value: { state: "terminal" },
  });
});

test("a stop finds room in an object whose storage is full", async () => {
  const opened = await open();
  const { person } = opened;
  expect(await query(person.id, "select length(filler) as size from ballast")).toEqual([{ size: 65_536 }]);
  await runInDurableObject(env.AUTHORITY.getByName(person.id), (_, state) => {
    // As SQLite says it at the limit: whatever writes fails, until something has been deleted.
    const decide = Context.prototype.decide;
    Context.prototype.decide = function (decision) {
      const isFull = state.storage.sql.exec("select 1 from ballast").toArray().length > 0;
      return decide.call(this, () => {
        const outcome = decision();
        const writes = state.storage.sql.exec("select 1 from stops").toArray().length > 0;
        if (this.user === person.id && isFull && writes) throw new Error("database or disk is full: SQLITE_FULL");
        return outcome as never;
      }) as never;
    };
    restore = () => (Context.prototype.decide = decide);
  });
  try {
    expect(await ended(opened)).toMatchObject({ why: "terminated" });
    expect(await query(person.id, "select id from ballast")).toEqual([]);
  } finally {
    restore();
  }
  await runDue(person.id, "ballast");
  expect(await query(person.id, "select id from ballast")).toEqual([{ id: 1 }]);
});

let restore: () => void = () => {};
