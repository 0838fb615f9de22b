// Slices and rates in the object: what is granted never exceeds a cap, whatever is reported, lost, told twice or told
// late, and with the object evicted in between.
import { env } from "cloudflare:workers";
import { evictDurableObject, runDurableObjectAlarm, runInDurableObject } from "cloudflare:test";
import { afterEach, beforeEach, describe, expect, test, vi } from "vitest";
import type { Demand, SliceReport } from "../../core/budget/lease.ts";
import type { CallId, Micros, NodePath } from "../../core/ids.ts";
import { REFUSALS_FOLDED_MS } from "../../core/limits.ts";
import { Alarms } from "../../durable-objects/authority/alarms.ts";
import { Audit } from "../../durable-objects/authority/audit.ts";
import { BudgetBook } from "../../durable-objects/authority/budget-book.ts";
import { Context } from "../../durable-objects/authority/context.ts";
import { Lines } from "../../durable-objects/authority/line.ts";
import { People } from "../../durable-objects/authority/people.ts";
import { Rates } from "../../durable-objects/authority/rates.ts";
import { config } from "../../legate.config.ts";
import type { Admission } from "../../core/wire/answers.ts";
import type { VerifiedToken } from "../../core/token/verify.ts";
import {
  by,
  expectOk,
  idMac,
  newAgent,
  newPerson,
  now,
  openFor,
  question,
  random,
  reasonOf,
  tokenOf,
  type Person,
  redeem,
} from "../support/workerd/authority.ts";

const micros = (value: number): Micros => value as Micros;
const FIRST: Demand = { calls: 0, ranOut: false };

function ask(
  person: Person,
  token: VerifiedToken,
  lease: Demand = FIRST,
  reports: readonly SliceReport[] = [],
  cost = 10,
) {
  return person.authority.admit(question(token, { lease, reports, cost: micros(cost) }));
}

function reportOf({ slice }: Admission, over: Partial<SliceReport> = {}): SliceReport {
  if (slice === null) throw new Error("no slice");
  const at = now();
  const settled = over.settled ?? micros(0);
  const calls = over.calls ?? 0;
  return {
    id: slice.id,
    settled,
    calls,
    tallies: calls === 0 ? [] : [{ instance: "default", calls, errors: 0, cost: settled, firstAt: at, lastAt: at }],
    running: [],
    ...over,
  };
}

async function scene(cap: number): Promise<{ person: Person; token: VerifiedToken }> {
  const person = await newPerson("admin"); // no rate windows
  return { person, token: await tokenOf(await openFor(person, await newAgent(person, { cap }))) };
}

describe.each([{ evicted: false }, { evicted: true }])("evicted between steps: $evicted", ({ evicted }) => {
  const step = async (person: Person): Promise<void> => {
    if (evicted) await evictDurableObject(person.stub);
  };

  test(
    "slices double with demand and shrink with what is left; all of the cap can be spent, nothing more",
    { timeout: 60_000 },
    async () => {
      const { person, token } = await scene(200);
      let demand = FIRST;
      let reports: SliceReport[] = [];
      const sizes: number[] = [];
      for (;;) {
        const answer = await ask(person, token, demand, reports);
        await step(person);
        if (!answer.ok) {
          expect(answer.denial).toMatchObject({ reason: "budget_exhausted", remaining: 0 });
          break;
        }
        const { calls, units } = answer.value.slice ?? { calls: 0, units: 0 };
        expect(units).toBe(calls * 10);
        sizes.push(calls);
        demand = { calls, ranOut: true };
        reports = [reportOf(answer.value, { calls, settled: micros(units) })];
      }
      expect(sizes).toEqual([1, 2, 4, 6, 3, 2, 1, 1]);
      expect(expectOk(await person.authority.leash(token)).budget).toEqual({
        cap: 200,
        settled: 200,
        held: 0,
        remaining: 0,
      });
    },
  );

  test("what was not spent flows back with the report; told twice it is told once", async () => {
    const { person, token } = await scene(100);
    const first = expectOk(await ask(person, token, { calls: 8, ranOut: true }));
    expect(first.slice).toMatchObject({ calls: 5, units: 50 });
    await step(person);
    expect(expectOk(await person.authority.leash(token)).budget).toMatchObject({ settled: 0, held: 50, remaining: 50 });
    const report = reportOf(first, { calls: 2, settled: micros(13) });
    expectOk(await person.authority.report([report, report]));
    await step(person);
    expectOk(await person.authority.report([report]));
    expect(expectOk(await person.authority.leash(token)).budget).toMatchObject({ settled: 13, held: 0, remaining: 87 });
  });

  test("a call that is still running when its slice is reported is a hold, settled by its own id", async () => {
    const { person, token } = await scene(100);
    const first = expectOk(await ask(person, token, { calls: 2, ranOut: true }));
    const callId = `running-${token.session.slice(-8)}` as CallId;
    const running = [{ callId, instance: "default", held: micros(10), admittedAt: now() }];
    expectOk(await person.authority.report([reportOf(first, { calls: 2, settled: micros(4), tallies: [], running })]));
    await step(person);
    expect(expectOk(await person.authority.leash(token)).budget).toMatchObject({ settled: 4, held: 10 });
    expect(expectOk(await person.authority.settle({ hold: null, callId, cost: micros(7), failed: false }))).toEqual({
      cost: 7,
      repeated: false,
    });
    await step(person);
    expect(
      expectOk(await person.authority.settle({ hold: null, callId, cost: micros(7), failed: false })).repeated,
    ).toBe(true);
    expect(expectOk(await person.authority.leash(token)).budget).toMatchObject({ settled: 11, held: 0, remaining: 89 });
  });

  test("only slices stand in the way: 429 with the end of the first; once it is over and unreported: 402", async () => {
    const { person, token } = await scene(10);
    expectOk(await ask(person, token));
    await step(person);
    const held = await ask(person, token);
    expect(held).toMatchObject({ ok: false, denial: { reason: "budget_held" } });
    if (!held.ok && held.denial.reason === "budget_held") expect(held.denial.retryAfterMs).toBeLessThanOrEqual(2_000);
    vi.useFakeTimers({ toFake: ["Date"], now: Date.now() + 3_000 });
    try {
      expect(reasonOf(await ask(person, token))).toBe("budget_exhausted");
    } finally {
      vi.useRealTimers();
    }
  });

  test("a slice that nobody reports is spent: named in the log after a minute, and a late report changes nothing", async () => {
    const { person, token } = await scene(100);
    const first = expectOk(await ask(person, token, { calls: 3, ranOut: true }));
    await step(person);
    vi.useFakeTimers({ toFake: ["Date"], now: Date.now() + 61_000 });
    try {
      await runDurableObjectAlarm(person.stub);
      expectOk(await person.authority.report([reportOf(first, { calls: 1, settled: micros(1) })]));
      expect(expectOk(await person.authority.leash(token)).budget).toMatchObject({
        settled: 50,
        held: 0,
        remaining: 50,
      });
      const rows = await runInDurableObject(person.stub, (_, state) =>
        state.storage.sql.exec("select body from audit where kind = 'slice.lost'").toArray(),
      );
      expect(rows.map(({ body }) => JSON.parse(body as string) as unknown)).toMatchObject([{ cost: 50, calls: 5 }]);
    } finally {
      vi.useRealTimers();
    }
  });
});

test("an isolate that counts wrong is not believed: all of its slice is spent", async () => {
  const { person, token } = await scene(100);
  const first = expectOk(await ask(person, token, { calls: 2, ranOut: true }));
  expectOk(await person.authority.report([reportOf(first, { calls: 4, settled: micros(41) })]));
  expect(expectOk(await person.authority.leash(token)).budget).toMatchObject({ settled: 40, remaining: 60 });
});

test("5 siblings of one parent racing for slices: units granted never exceed the parent's cap", async () => {
  const person = await newPerson("admin");
  const grant = await openFor(person, await newAgent(person, { cap: 1_000 }), { budget: micros(300) });
  const siblings = await Promise.all(Array.from({ length: 5 }, (_, i) => tokenOf(grant, { act: `s${i}` })));
  const answers = await Promise.all(
    Array.from({ length: 100 }, (_, i) => ask(person, siblings[i % 5] as VerifiedToken, { calls: 4, ranOut: true })),
  );
  const units = answers.reduce((sum, answer) => sum + (answer.ok ? (answer.value.slice?.units ?? 0) : 0), 0);
  expect(units).toBe(300);
});

test("a stop waits for the slices below it, and is at once where none lives", async () => {
  const { person, token } = await scene(100);
  const end = {
    path: token.node,
    why: "terminated",
    by,
    reach: { kind: "operator" },
    wait: true,
    idempotency: null,
  } as const;
  const other = await tokenOf(await openFor(person, await newAgent(person)));
  expectOk(await ask(person, token));
  const started = Date.now();
  const quick = expectOk(await person.authority.terminate({ ...end, path: other.node }));
  expect(quick.fence.at - started).toBeLessThan(1_000);
  const report = expectOk(await person.authority.terminate(end));
  expect(report.calls.upTo).toBe(1);
  expect(report.fence.at - report.endedAt).toBeGreaterThan(3_000);
  expect(report.fence.at - report.endedAt).toBeLessThanOrEqual(4_000);
  expect(report.fence.passed).toBe(true);
  expect(reasonOf(await ask(person, token))).toBe("ended:terminated");
});

describe("rates: free callers have 20 a second", () => {
  // The clock stands still: what is admitted is the burst.
  beforeEach(() => void vi.useFakeTimers({ toFake: ["Date"], now: Date.now() }));
  afterEach(() => void vi.useRealTimers());

  test("strict calls one by one, and a thousand narrowings of one token share the windows above them", async () => {
    const person = await newPerson("free");
    const grant = await openFor(person, await newAgent(person));
    const answers = [];
    for (let i = 0; i < 30; i++)
      answers.push(await person.authority.admit(question(await tokenOf(grant, { act: "child" }), { cost: micros(0) })));
    expect(answers.filter(({ ok }) => ok)).toHaveLength(20);
    const refused = answers.find(({ ok }) => !ok);
    expect(refused).toMatchObject({ denial: { reason: "rate_limited", limit: 20, window: "burst" } });
  });

  test("a slice is charged for all of its calls, and gives back what was not called", async () => {
    const person = await newPerson("free");
    const token = await tokenOf(await openFor(person, await newAgent(person)));
    const first = expectOk(await ask(person, token, { calls: 40, ranOut: true }, [], 1));
    expect(first.slice?.calls).toBe(20);
    expect(first.rate).toMatchObject({ name: "burst", remaining: 0 });
    expect(reasonOf(await ask(person, token, FIRST, [], 1))).toBe("rate_limited");
    expectOk(await person.authority.report([reportOf(first, { calls: 5, settled: micros(5) })]));
    expect(expectOk(await ask(person, token, { calls: 40, ranOut: true }, [], 1)).slice?.calls).toBeGreaterThanOrEqual(
      15,
    );
  });

  test("an evicted object refills nothing", async () => {
    const person = await newPerson("free");
    const token = await tokenOf(await openFor(person, await newAgent(person)));
    expectOk(await ask(person, token, { calls: 40, ranOut: true }, [], 1));
    await evictDurableObject(person.stub);
    expect(reasonOf(await ask(person, token, { calls: 40, ranOut: true }, [], 1))).toBe("rate_limited");
  });
});

test("a node that is folded takes its rate windows out of memory", async () => {
  const { person, token } = await scene(100);
  await runInDurableObject(person.stub, (_, { storage }) => {
    const context = new Context({
      user: person.id,
      storage,
      config,
      issuer: env.LEGATE_ISSUER,
      random,
      idMac,
    });
    const alarms = new Alarms(context, storage);
    const people = new People(context, new Audit(context, alarms));
    const rates = new Rates(context);
    const lines = new Lines({ context, people, alarms, book: new BudgetBook(context), rates });
    const path = `${token.node}.folded` as NodePath;
    const end = Math.floor(Date.now() / 1000) - 1;
    storage.sql.exec(
      `insert into nodes (path, session, kind, content, settled, day, settled_day, live_until_seconds)
       values (?, ?, 'narrowed', '[]', 0, 0, 0, ?)`,
      path,
      token.session,
      end,
    );
    const charge = { path, agent: null, rates: rates.of("", "free"), share: 1 };
    context.decide(() => rates.charge(charge, 1, now()));
    expect([...rates.remembered()]).toContain(path);
    lines.sweep();
    expect([...rates.remembered()]).not.toContain(path);
    expect([...rates.remembered()]).toContain(token.node);
  });
});

describe("charges in the middle of a call", () => {
  test("add up, enlarge the hold where it is too small, and are what the call costs in the end", async () => {
    const { person, token } = await scene(100);
    const asked = question(token, { level: "strict", cost: micros(20) });
    const { hold } = expectOk(await person.authority.admit(asked));
    if (hold === null) throw new Error("no hold");
    const charge = (id: string, amount: number) =>
      person.authority.charge({ hold, callId: asked.callId, id, micros: micros(amount) });
    expect(expectOk(await charge("a", 15))).toMatchObject({ charged: 15, held: 20 });
    expect(expectOk(await charge("a", 15))).toMatchObject({ charged: 15, held: 20 });
    expect(reasonOf(await charge("a", 16))).toBe("idempotency_conflict");
    expect(expectOk(await charge("b", 25))).toMatchObject({ charged: 40, held: 40, remaining: 60 });
    expect(reasonOf(await charge("c", 61))).toBe("budget_held");
    expect(reasonOf(await charge("c", 200))).toBe("budget_exhausted");
    await evictDurableObject(person.stub);
    expect(expectOk(await person.authority.settle({ hold, callId: asked.callId, cost: null, failed: false }))).toEqual({
      cost: 40,
      repeated: false,
    });
    expect(reasonOf(await charge("d", 1))).toBe("hold_mismatch:settled");
    expect(expectOk(await person.authority.leash(token)).budget).toEqual({
      cap: 100,
      settled: 40,
      held: 0,
      remaining: 60,
    });
  });

  test("that are refused again and again are two rows of the log: the first, and how many more in its minute", async () => {
    const { person, token } = await scene(100);
    const asked = question(token, { level: "strict", cost: micros(20) });
    const { hold } = expectOk(await person.authority.admit(asked));
    const charge = () =>
      person.authority.charge({ hold: hold!, callId: asked.callId, id: "much", micros: micros(1_000) });
    const rows = () =>
      runInDurableObject(person.stub, (_, { storage }) =>
        storage.sql
          .exec<{ body: string }>("select body from audit where kind = 'hold.refused'")
          .toArray()
          .map(({ body }) => (JSON.parse(body) as { count: number }).count),
      );
    for (let i = 0; i < 40; i++) expect(reasonOf(await charge())).toBe("budget_exhausted");
    expect(await rows()).toEqual([1]);
    vi.useFakeTimers({ toFake: ["Date"], now: Date.now() + REFUSALS_FOLDED_MS });
    await runDurableObjectAlarm(person.stub);
    expect(await rows()).toEqual([1, 39]);
    expect(reasonOf(await charge())).toBe("budget_exhausted");
    expect(await rows()).toEqual([1, 39, 1]);
  });

  test("count in what a stop says is left to settle", async () => {
    const { person, token } = await scene(100);
    const asked = question(token, { level: "strict", cost: micros(20) });
    const { hold } = expectOk(await person.authority.admit(asked));
    for (const [id, amount] of [
      ["a", 15],
      ["b", 25],
    ] as const)
      expectOk(await person.authority.charge({ hold: hold!, callId: asked.callId, id, micros: micros(amount) }));
    const path = token.node;
    const reach = { kind: "operator" as const };
    const stop = { path, why: "terminated" as const, by, reach, wait: false, idempotency: null };
    expect(expectOk(await person.authority.terminate(stop)).holds).toEqual({ left: 1, micros: 40 });
  });
});

describe.each([{ evicted: false }, { evicted: true }])(
  "reservations, evicted between steps: $evicted",
  ({ evicted }) => {
    test("what is reserved is kept from siblings, costs the parent no more when it is used, and flows back at the end", async () => {
      const person = await newPerson("admin");
      const planner = await newAgent(person, { cap: 1_000 });
      const searcher = await newAgent(person);
      const grant = await openFor(person, planner, { budget: micros(100) });
      const token = await tokenOf(grant);
      const step = async (): Promise<void> => {
        if (evicted) await evictDurableObject(person.stub);
      };
      const delegate = async (reserve: number) =>
        redeem(person, searcher, await tokenOf(grant, { for: searcher.id }), { reserve: micros(reserve) });
      const spend = async (from: VerifiedToken, cost: number): Promise<string> => {
        const asked = question(from, { level: "strict", cost: micros(cost) });
        const admitted = await person.authority.admit(asked);
        if (admitted.ok)
          expectOk(
            await person.authority.settle({
              hold: admitted.value.hold,
              callId: asked.callId,
              cost: micros(cost),
              failed: false,
            }),
          );
        await step();
        return reasonOf(admitted);
      };
      const child = expectOk(await delegate(60));
      await step();
      expect(reasonOf(await delegate(41))).toBe("budget_held");
      expect(expectOk(await person.authority.leash(token)).budget.remaining).toBe(40);
      expect(await spend(token, 41)).toBe("budget_held");
      expect(await spend(await tokenOf(child), 50)).toBe("ok"); // out of its reservation
      expect(expectOk(await person.authority.leash(token)).budget.remaining).toBe(40);
      expect(await spend(await tokenOf(child), 30)).toBe("ok"); // 10 of it, and 20 of what the parent has left
      expect(expectOk(await person.authority.leash(token)).budget.remaining).toBe(20);
      const other = expectOk(await delegate(20));
      await step();
      expect(await spend(token, 1)).toBe("budget_held");
      expectOk(
        await person.authority.revoke({
          path: other.path,
          why: "revoked",
          by,
          reach: { kind: "person", cookie: null },
          wait: false,
          idempotency: null,
        }),
      );
      await step();
      expect(expectOk(await person.authority.leash(token)).budget).toMatchObject({ settled: 80, remaining: 20 });
      expect(await spend(token, 20)).toBe("ok");
      expect(await spend(token, 1)).toBe("budget_exhausted");
    });
  },
);
