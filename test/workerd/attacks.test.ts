// Attacks on the object itself, each of them tried because something like it once worked: a hostile agent, a sub-agent
// that was handed less than it wants, a reader of the database who edits it, work that fails in the middle of an alarm.
import { createHash } from "node:crypto";
import { env } from "cloudflare:workers";
import { evictDurableObject, runDurableObjectAlarm, runInDurableObject } from "cloudflare:test";
import { expect, test, vi } from "vitest";
import type { Denial } from "../../core/denial.ts";
import type { Micros, Slug } from "../../core/ids.ts";
import type { Result } from "../../core/result.ts";
import type { Reach } from "../../core/wire/questions.ts";
import {
  authenticate,
  by,
  connectionId,
  expectOk,
  newAgent,
  newPerson,
  open,
  openFor,
  question,
  reasonOf,
  socketIdentity,
  tokenOf,
  type Person,
  redeem,
} from "../support/workerd/authority.ts";

const sql = <T extends Record<string, SqlStorageValue>>(person: Person, text: string, ...bind: unknown[]) =>
  runInDurableObject(person.stub, (_, { storage }) => storage.sql.exec<T>(text, ...bind).toArray());

const stopBy = { kind: "operator" as const, id: "op", reason: "a test" };

test("a task that throws neither starves the others of its alarm nor is it forgotten", async () => {
  const person = await newPerson();
  const grant = await open(person);
  const soon = Date.now() - 1_000;
  // Folding a session that nothing has ended can't work; the row is older than the sweep's, which is due as well.
  await sql(person, "insert into due (kind, key, at, tries) values ('fold', ?, ?, 0)", grant.session, soon);
  await sql(person, "insert into due (kind, key, at, tries) values ('sweep', '', ?, 0)", soon + 1);
  await runInDurableObject(person.stub, (_, { storage }) => storage.setAlarm(Date.now() + 60_000));
  await runDurableObjectAlarm(person.stub);
  const due = await sql<{ kind: string; at: number; tries: number }>(person, "select kind, at, tries from due");
  expect(due.find(({ kind }) => kind === "sweep")).toBeUndefined();
  const failed = due.find(({ kind }) => kind === "fold");
  expect(failed?.tries).toBe(1);
  expect(failed?.at).toBeGreaterThan(Date.now());
  expect(await runInDurableObject(person.stub, (_, { storage }) => storage.getAlarm())).not.toBeNull();
  await sql(person, "delete from due");
});

test("an object that has lost its alarm sets it again when it wakes", async () => {
  const person = await newPerson();
  await open(person);
  await runInDurableObject(person.stub, async (_, { storage }) => {
    // As after six failures in a row: the platform drops the alarm, the rows stand.
    storage.sql.exec("update due set at = ?", Date.now() - 60_000);
    await storage.deleteAlarm();
    await storage.sync();
  });
  await evictDurableObject(person.stub);
  expectOk(await person.authority.person());
  expect(await runInDurableObject(person.stub, (_, { storage }) => storage.getAlarm())).not.toBeNull();
});

interface AuditRow extends Record<string, SqlStorageValue> {
  seq: number;
  at: number;
  kind: string;
  session: string | null;
  body: string;
  hash: string;
}

/** @returns the number of the first row that is not what was written, or null */
function brokenAt(user: string, rows: readonly AuditRow[]): number | null {
  let before = user;
  for (const [i, { seq, at, kind, session, body, hash }] of rows.entries()) {
    const says = JSON.parse(body) as Record<string, unknown>;
    const isWhole =
      seq === i + 1 &&
      createHash("sha256").update(`${before}\n${body}`).digest("hex") === hash &&
      says["user"] === user &&
      says["seq"] === seq &&
      says["at"] === at &&
      says["kind"] === kind &&
      says["session"] === session;
    if (!isWhole) return seq;
    before = hash;
  }
  return null;
}

test("the log verifies from end to end, and any column that is edited is found", async () => {
  const person = await newPerson();
  const grant = await openFor(person, await newAgent(person));
  const token = await tokenOf(grant);
  const asked = question(token, { level: "sensitive" });
  const { hold } = expectOk(await person.authority.admit(asked));
  expectOk(await person.authority.settle({ hold, callId: asked.callId, cost: 3 as Micros, failed: false }));
  const identity = await socketIdentity(person, token);
  const connection = connectionId();
  expectOk(await person.authority.register({ connection, identity, agents: null, object: `${person.id}.default` }));
  expectOk(await person.authority.disconnect({ connection, worker: identity.worker, code: 1000 }));
  const rows = await sql<AuditRow>(person, "select * from audit order by seq");
  expect(rows.map(({ kind }) => kind)).toEqual([
    "user.enrolled",
    "agent.registered",
    "session.opened",
    "call.admitted",
    "session.used",
    "call.settled",
    "call.settled",
  ]);
  expect(brokenAt(person.id, rows)).toBeNull();
  for (const [i, row] of rows.entries()) {
    for (const edit of [{ kind: "user.enabled" }, { at: row.at + 1 }, { session: "ses_x" }, { body: `${row.body} ` }])
      expect(brokenAt(person.id, rows.with(i, { ...row, ...edit }))).toBe(row.seq);
    if (i < rows.length - 1) expect(brokenAt(person.id, rows.toSpliced(i, 1))).toBe(row.seq + 1);
  }
});

test("an agent that opens all the sessions there are does not keep its person from signing in to stop it", async () => {
  const person = await newPerson();
  const agent = await newAgent(person);
  await sql(
    person,
    `with recursive n(i) as (select 1 union all select i + 1 from n where i < 1000)
     insert into sessions (id, kind, client_id, opened_at, expires_seconds, folded)
     select 'ses_' || i, 'agent', ?, 0, ?, 0 from n`,
    agent.id,
    Math.floor(Date.now() / 1000) + 3_600,
  );
  await expect(openFor(person, agent)).rejects.toThrow("quota_reached");
  const signedIn = await open(person, { kind: "person" });
  expect(signedIn.session).toMatch(/^ses_/);
});

test("a sub-agent sees its own node and below, not what the session above it may do and spend", async () => {
  const person = await newPerson();
  const grant = await openFor(person, await newAgent(person), { budget: 777_777 as Micros });
  const child = await tokenOf(grant, { scope: "plan", budget: 55 as Micros, act: "summarizer" });
  const spent = question(await tokenOf(grant), { cost: 1_234 as Micros });
  const { hold } = expectOk(await person.authority.admit(spent));
  expectOk(await person.authority.settle({ hold, callId: spent.callId, cost: 1_234 as Micros, failed: false }));
  const reach: Reach = { kind: "node", token: child };
  const seen = expectOk(await person.authority.inspect(child.node, reach));
  expect(seen.scope).toEqual(["plan"]);
  expect(seen.budget).toMatchObject({ cap: 55, settled: 0, remaining: 55 });
  expect(seen.nodes).toBe(1);
  expect(JSON.stringify(seen)).not.toMatch(/777777|1234/);
});

test("a tier that was lowered binds what is renewed and narrowed", async () => {
  const person = await newPerson("pro");
  const agent = await newAgent(person, { scope: ["plan", "catalog:write"] });
  const grant = await openFor(person, agent);
  const token = await tokenOf(grant);
  expect([...token.scope]).toContain("catalog:write");
  expectOk(await person.authority.setTier("free", by));
  const { stopCount } = expectOk(await authenticate(person, agent, await agent.assertion()));
  const renewed = expectOk(await person.authority.renew({ token, client: { id: agent.id, stopCount } }));
  expect(renewed).toMatchObject({ tier: "free", scope: ["plan"] });
  const narrowed = await person.authority.delegate({
    token,
    client: { id: agent.id, stopCount },
    how: "narrow",
    scope: ["catalog:write"],
    agents: null,
    audience: null,
    budget: null,
    reserve: null,
    ttlSeconds: null,
    by,
  });
  expect(reasonOf(narrowed)).toBe("scope_invalid");
});

test("a tier that was lowered takes its scopes out of the tokens that are out", async () => {
  const person = await newPerson("pro");
  const grant = await openFor(person, await newAgent(person, { scope: ["plan", "catalog:write"] }));
  const token = await tokenOf(grant);
  const less = await tokenOf(grant, { scope: "plan", act: "reader" });
  expectOk(await person.authority.admit(question(token)));
  expectOk(await person.authority.setTier("free", by));
  expect(reasonOf(await person.authority.admit(question(token)))).toBe("token_invalid:tier");
  expectOk(await person.authority.admit(question(less)));
  expect(expectOk(await person.authority.introspect(token, env.LEGATE_ISSUER)).scope).toEqual(["plan"]);
  expect(expectOk(await person.authority.leash(token)).tier).toBe("free");
});

test("a token that lowers its cap over and over, or renews over and over, does so at the rate of its calls", async () => {
  const person = await newPerson("free");
  const agent = await newAgent(person);
  const { stopCount } = expectOk(await authenticate(person, agent, await agent.assertion()));
  const token = await tokenOf(await openFor(person, agent, { budget: 1_000 as Micros }));
  const reach: Reach = { kind: "node", token };
  const by = { kind: "agent" as const, id: agent.id, reason: null };
  const acts: readonly ((i: number) => Promise<Result<unknown, Denial>>)[] = [
    (i) => person.authority.setCap({ path: token.node, cap: (999 - i) as Micros, by, reach, idempotency: null }),
    () => person.authority.renew({ token, client: { id: agent.id, stopCount } }),
  ];
  vi.useFakeTimers({ toFake: ["Date"] }); // it stands still: all at once, however slow the machine is
  for (const act of acts) {
    vi.setSystemTime(Date.now() + 60_000);
    const outcomes = new Set<string>();
    for (let i = 0; i < 30; i++) outcomes.add(reasonOf(await act(i)));
    expect(outcomes).toContain("rate_limited");
  }
  const rows = await sql<{ n: number }>(
    person,
    "select count(*) as n from audit where kind in ('cap.changed', 'grant.renewed')",
  );
  expect(rows[0]?.n).toBeLessThan(60);
  // A person does as they like with what is theirs.
  const own: Reach = { kind: "person", cookie: null };
  expectOk(await person.authority.setCap({ path: token.node, cap: 5 as Micros, by, reach: own, idempotency: null }));
  vi.useRealTimers();
});

test("an open socket acts with the tier of this moment", async () => {
  const person = await newPerson("pro");
  const token = await tokenOf(await open(person));
  const identity = await socketIdentity(person, token);
  const connection = connectionId();
  expectOk(await person.authority.register({ connection, identity, agents: null, object: `${person.id}.default` }));
  const message = { connection, worker: identity.worker, cost: 1 as Micros };
  const before = expectOk(await person.authority.admitMessage(message)).chain;
  expect([before.tier, before.scope.includes("catalog:write")]).toEqual(["pro", true]);
  expectOk(await person.authority.setTier("free", by));
  // The entry takes anyone; what it calls on behalf of this person is decided by the tier that they have now.
  const after = expectOk(await person.authority.admitMessage(message)).chain;
  expect([after.tier, after.scope.includes("catalog:write")]).toEqual(["free", false]);
});

test("a push that is told again ends nothing that was started since", async () => {
  const owner = await newPerson();
  const agent = await newAgent(owner);
  const other = await newPerson();
  const delegating = await open(other);
  const told = { agent: agent.id, stopCount: 1, why: "agent_stopped" as const, by: stopBy };
  expectOk(await owner.authority.stopAgent(agent.id, stopBy));
  expectOk(await other.authority.agentStopped(told));
  const { stopCount } = expectOk(await authenticate(owner, agent, await agent.assertion(), other.id));
  const grant = expectOk(
    await redeem(other, { id: agent.id, stopCount }, await tokenOf(delegating, { for: agent.id })),
  );
  expectOk(await other.authority.agentStopped(told)); // the answer to the first was lost
  expect(reasonOf(await other.authority.admit(question(await tokenOf(grant), { slug: "planner" as Slug })))).toBe("ok");
  expectOk(await other.authority.agentStopped({ ...told, stopCount: 2 }));
  expect(reasonOf(await other.authority.admit(question(await tokenOf(grant))))).toBe("ended:agent_stopped");
});

test("what was begun yesterday can't be enlarged past the caps of either day", async () => {
  vi.useFakeTimers({ toFake: ["Date"] });
  try {
    const midnight = Math.ceil(Date.now() / 86_400_000) * 86_400_000;
    vi.setSystemTime(midnight - 5_000);
    const person = await newPerson();
    expectOk(await person.authority.setDayCap(1_000 as Micros, by));
    const token = await tokenOf(await open(person));
    const calls = [];
    for (let i = 0; i < 3; i++) {
      const asked = question(token, { kind: "stream", level: "strict", cost: 100 as Micros });
      calls.push({ asked, ...expectOk(await person.authority.admit(asked)) });
    }
    vi.setSystemTime(midnight + 5_000);
    for (const [i, { asked, hold }] of calls.entries())
      await person.authority.charge({ hold: hold!, callId: asked.callId, id: `charge-${i}`, micros: 900 as Micros });
    const [{ total } = { total: 0 }] = await sql<{ total: number }>(person, "select sum(micros) as total from charges");
    const after = await person.authority.admit(question(token, { level: "strict", cost: 1_000 as Micros }));
    // Two days of a thousand each: whatever was charged to which, no more than that.
    expect(total + (after.ok ? 1_000 : 0)).toBeLessThanOrEqual(2_000);
  } finally {
    vi.useRealTimers();
  }
});
