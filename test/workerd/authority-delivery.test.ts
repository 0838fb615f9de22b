// The outbox: what an object committed reaches D1 once, in order, after failures and lost answers too; sockets are found
// by the stop or refused by it; sessions end when their time is over.
import { evictDurableObject, runDurableObjectAlarm, runInDurableObject } from "cloudflare:test";
import { env } from "cloudflare:workers";
import { describe, expect, test, vi } from "vitest";
import { makeUserId, type Micros } from "../../core/ids.ts";
import {
  authorityOf,
  by,
  connectionId,
  expectOk,
  idMac,
  newAgent,
  newPerson,
  now,
  open,
  openFor,
  question,
  random,
  reasonOf,
  socketIdentity,
  tokenOf,
  type Person,
} from "../support/workerd/authority.ts";

async function deliver(person: Person): Promise<void> {
  // The alarm is a quarter of a second away: run it now, as often as there is one.
  await vi.waitFor(async () => {
    await runDurableObjectAlarm(person.stub);
    const row = await runInDurableObject(person.stub, (_, state) =>
      state.storage.sql.exec("select count(*) as n from due where kind = 'deliver'").one(),
    );
    expect(row["n"]).toBe(0);
  }, 10_000);
}

async function auditOf(person: Person): Promise<{ seq: number; kind: string; hash: string }[]> {
  const { results } = await env.DB.prepare("select seq, kind, hash from agent_audit_log where user_id = ? order by seq")
    .bind(person.id)
    .all<{ seq: number; kind: string; hash: string }>();
  return results;
}

const ownAudit = (person: Person) =>
  runInDurableObject(person.stub, (_, state) =>
    state.storage.sql
      .exec<{ seq: number; kind: string; hash: string }>("select seq, kind, hash from audit order by seq")
      .toArray(),
  );

test("one act has one time: a person's first row is no later than the next", async () => {
  const person = authorityOf(makeUserId(random, idMac));
  let clock = Date.now();
  vi.spyOn(Date, "now").mockImplementation(() => clock++); // every look at it is later than the one before
  await open(person, { kind: "person", enrolment: { username: "late", tier: "free", createdAt: now() } });
  vi.restoreAllMocks();
  const rows = await runInDurableObject(person.stub, (_, { storage }) =>
    storage.sql.exec<{ kind: string; at: number }>("select kind, at from audit order by seq").toArray(),
  );
  expect(rows.map(({ kind }) => kind)).toEqual(["user.enrolled", "session.opened"]);
  expect(rows[0]?.at).toBe(rows[1]?.at);
});

test("rows reach D1 in order and once: a session with a call, ended by an operator", async () => {
  const person = await newPerson();
  const grant = await openFor(person, await newAgent(person));
  const token = await tokenOf(grant);
  for (const cost of [3, 4]) {
    const asked = question(token);
    const { hold } = expectOk(await person.authority.admit(asked));
    expectOk(await person.authority.settle({ hold, callId: asked.callId, cost: cost as Micros, failed: cost === 4 }));
  }
  expectOk(
    await person.authority.terminate({
      path: grant.path,
      why: "terminated",
      by: { kind: "operator", id: "usr_op", reason: "over" },
      reach: { kind: "operator" },
      wait: false,
      idempotency: null,
    }),
  );
  await deliver(person);
  expect((await auditOf(person)).map(({ kind }) => kind)).toEqual([
    "user.enrolled",
    "agent.registered",
    "session.opened",
    "session.used",
    "calls.counted",
    "session.ended",
  ]);
  expect(await auditOf(person)).toEqual(await ownAudit(person));
  const session = await env.DB.prepare("select * from agent_sessions where id = ?").bind(grant.session).first();
  expect(session).toMatchObject({
    user_id: person.id,
    agent_slug: "planner",
    instance_id: "default",
    end_reason: "terminated",
    ended_by: "usr_op",
    ip_address: "192.0.2.1",
    user_agent: "test",
  });
  expect(session?.["ended_at"]).toBeGreaterThan(0);
  const { results } = await env.DB.prepare("select * from agent_invocations where session_id = ?")
    .bind(grant.session)
    .all();
  expect(results).toMatchObject([
    { node: grant.path, agent_slug: "planner", kind: "minute", calls: 2, errors: 1, cost: 7 },
  ]);
});

test("an answer that is lost after D1 committed is not told twice", async () => {
  const person = await newPerson();
  await newAgent(person);
  await deliver(person);
  const before = await auditOf(person);
  await runInDurableObject(person.stub, (_, state) =>
    state.storage.sql.exec("delete from counters where name = 'delivered'").toArray(),
  );
  await newAgent(person);
  await deliver(person);
  await deliver(person);
  const after = await auditOf(person);
  expect(after.slice(0, before.length)).toEqual(before);
  expect(after.map(({ seq }) => seq)).toEqual(after.map((_, i) => i + 1));
  expect(after).toEqual(await ownAudit(person));
});

test("while D1 fails nothing is lost, and calls go on", async () => {
  const person = await newPerson();
  const token = await tokenOf(await openFor(person, await newAgent(person)));
  const dueNow = () =>
    runInDurableObject(person.stub, (_, state) => state.storage.sql.exec("update due set at = 1").toArray());
  // D1 refuses this person's rows alone: other files share the database.
  const trigger = `create trigger refuse before insert on agent_audit_log when new.user_id = '${person.id}' begin select raise(abort, 'down'); end`;
  await env.DB.prepare(trigger).run();
  try {
    await dueNow();
    await runDurableObjectAlarm(person.stub);
    const [due] = await runInDurableObject(person.stub, (_, state) =>
      state.storage.sql.exec("select tries, at from due where kind = 'deliver'").toArray(),
    );
    expect(due?.["tries"]).toBe(1);
    expect(due?.["at"]).toBeGreaterThan(Date.now());
    expectOk(await person.authority.admit(question(token)));
    expect(await auditOf(person)).toEqual([]);
  } finally {
    await env.DB.prepare("drop trigger refuse").run();
  }
  await dueNow();
  await deliver(person);
  expect(await auditOf(person)).toEqual(await ownAudit(person));
});

describe("what D1 says of a session's end", () => {
  const operator = { kind: "operator", id: "usr_op", reason: "over" } as const;
  const scene = async () => {
    const person = await newPerson();
    const grant = await openFor(person, await newAgent(person));
    await deliver(person);
    const stop = { path: grant.path, why: "terminated", by: operator, wait: false, idempotency: null } as const;
    return {
      person,
      grant,
      stop: async () => expectOk(await person.authority.terminate({ ...stop, reach: operator })),
    };
  };
  const told = (session: string) =>
    env.DB.prepare("select ended_at, end_reason, ended_by from agent_sessions where id = ?").bind(session).first();

  test.each([
    ["evicted", (person: Person) => evictDurableObject(person.stub)],
    [
      "restarted, without a last word",
      (person: Person) => runInDurableObject(person.stub, (_, state) => state.abort("a test")).catch(() => undefined),
    ],
  ] as const)("is right though its object was %s right after the mark", async (_, fail) => {
    const { person, grant, stop } = await scene();
    const { endedAt } = await stop();
    await fail(person);
    // Nobody asks it anything: what is due stands in its rows, and its alarm with them.
    await vi.waitFor(
      async () =>
        expect(await told(grant.session)).toEqual({
          ended_at: endedAt,
          end_reason: "terminated",
          ended_by: operator.id,
        }),
      { timeout: 10_000, interval: 100 },
    );
  });

  test("is right within a minute of D1's return, however long it was away", async () => {
    const { person, grant, stop } = await scene();
    await env.DB.prepare(
      `create trigger away before insert on agent_audit_log when new.user_id = '${person.id}' begin select raise(abort, 'down'); end`,
    ).run();
    const { endedAt } = await stop();
    const sql = (text: string) => runInDurableObject(person.stub, (_, state) => state.storage.sql.exec(text).toArray());
    try {
      for (const tries of [0, 3, 9, 1_000]) {
        await sql(`update due set at = 1, tries = ${tries} where kind = 'deliver'`);
        await runDurableObjectAlarm(person.stub);
        const [due] = await sql("select at from due where kind = 'deliver'");
        // The next try, and the five seconds that it may take.
        expect(Number(due?.["at"]) + 5_000 - Date.now()).toBeLessThan(60_000);
        expect(await told(grant.session)).toMatchObject({ ended_at: null });
      }
    } finally {
      await env.DB.prepare("drop trigger away").run();
    }
    await sql("update due set at = 1 where kind = 'deliver'");
    await deliver(person);
    expect(await told(grant.session)).toMatchObject({ ended_at: endedAt });
  });
});

test("a socket registers before the mark and is found by it, or after it and is refused", async () => {
  const person = await newPerson();
  const grant = await openFor(person, await newAgent(person));
  const token = await tokenOf(grant);
  const [early, late] = [await socketIdentity(person, token), await socketIdentity(person, token)];
  const connection = connectionId();
  expectOk(
    await person.authority.register({ connection, identity: early, agents: null, object: `${person.id}.default` }),
  );
  expectOk(
    await person.authority.register({ connection, identity: early, agents: null, object: `${person.id}.default` }),
  );
  expectOk(await person.authority.admitMessage({ connection, worker: "legate-agents", cost: 5 as Micros }));
  expect(
    reasonOf(await person.authority.admitMessage({ connection, worker: "another-worker", cost: 5 as Micros })),
  ).toBe("hold_mismatch:unknown");
  expect(expectOk(await person.authority.leash(token)).budget.settled).toBe(5);
  const report = expectOk(
    await person.authority.terminate({
      path: grant.path,
      why: "terminated",
      by,
      reach: { kind: "operator" },
      wait: false,
      idempotency: null,
    }),
  );
  expect(report.sockets.closed + report.sockets.pending).toBe(1);
  expect(
    reasonOf(
      await person.authority.register({ connection: connectionId(), identity: late, agents: null, object: "x" }),
    ),
  ).toBe("ended:terminated");
  expect(
    reasonOf(await person.authority.admitMessage({ connection, worker: "legate-agents", cost: 5 as Micros })),
  ).toMatch(/^(ended:terminated|hold_mismatch:unknown)$/);
});

test("a session ends by itself when its time is over, and a hold that nobody settles is charged in full", async () => {
  const person = await newPerson();
  const grant = await openFor(person, await newAgent(person), { ttlSeconds: 60 });
  const token = await tokenOf(grant);
  const asked = question(token);
  const { hold } = expectOk(await person.authority.admit(asked));
  vi.useFakeTimers({ toFake: ["Date"], now: Date.now() + 3_700_000 });
  try {
    expect(reasonOf(await person.authority.admit(question(token)))).toBe("ended:expired");
    await runDurableObjectAlarm(person.stub);
    expect(
      reasonOf(await person.authority.settle({ hold, callId: asked.callId, cost: 1 as Micros, failed: false })),
    ).toBe("hold_mismatch:expired");
    const view = expectOk(await person.authority.list()).find(({ id }) => id === grant.session);
    expect(view).toMatchObject({ endReason: "expired" });
    await runInDurableObject(person.stub, (_, state) =>
      state.storage.sql.exec("update due set at = 1 where kind = 'fold'").toArray(),
    );
    await runDurableObjectAlarm(person.stub);
    const rows = await runInDurableObject(person.stub, (_, state) => [
      ...state.storage.sql.exec("select count(*) as n from nodes").toArray(),
      ...state.storage.sql.exec("select settled from agents").toArray(),
    ]);
    expect(rows).toEqual([{ n: 0 }, { settled: 10 }]);
  } finally {
    vi.useRealTimers();
  }
});

test("nodes whose last token has expired fold into their parent, with what they spent", async () => {
  const person = await newPerson();
  const grant = await openFor(person, await newAgent(person), { ttlSeconds: 7_200 });
  const child = await tokenOf(grant, { act: "helper" });
  const asked = question(child);
  const { hold } = expectOk(await person.authority.admit(asked));
  expectOk(await person.authority.settle({ hold, callId: asked.callId, cost: 9 as Micros, failed: false }));
  vi.useFakeTimers({ toFake: ["Date"], now: Date.now() + 3_700_000 });
  try {
    await runDurableObjectAlarm(person.stub);
    const { tree, budget } = expectOk(await person.authority.inspect(grant.path, { kind: "person", cookie: null }));
    expect(tree.map(({ path }) => path)).toEqual([grant.path]);
    expect(budget.settled).toBe(9);
  } finally {
    vi.useRealTimers();
  }
});
