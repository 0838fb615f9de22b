// The isolate's leases at the edge, before the real object: what is admitted without asking, how the last unit is spent,
// what a refusal saves the object from, and what a clock that jumps does.
import { expect, test } from "vitest";
import type { EpochMs, UserId } from "../../core/ids.ts";
import type { Edge } from "../../worker/env.ts";
import { bearer, edgeWith, enrol, narrow, open, send } from "../support/workerd/gate.ts";

interface Counted {
  readonly gate: Edge;
  /** Questions to the user's object since the last look. */
  asked(): string[];
  step(ms: number): void;
}

/** An open entry of counted calls; the edge's clock can be stepped, and questions to objects are told. */
function counted(most: number, cost: number | null = null): Counted {
  const real = edgeWith({
    seen: {
      entry: { cost: { most }, level: "counted" },
      serve: () => new Response("ok", cost === null ? {} : { headers: { "legate-cost": String(cost) } }),
    },
  });
  const asked: string[] = [];
  let offset = 0;
  const ask: Edge["ask"] = (user: UserId, question) =>
    real.ask(user, (authority) =>
      question(
        new Proxy(authority, {
          get: (target, name) => {
            asked.push(String(name));
            const methods = target as unknown as Record<string, (...given: unknown[]) => unknown>;
            return (...given: unknown[]) => methods[String(name)]?.(...given);
          },
        }),
      ),
    );
  return {
    gate: { ...real, ask, now: () => (Date.now() + offset) as EpochMs },
    asked: () => asked.splice(0),
    step: (ms) => (offset += ms),
  };
}

/** One call, read to its end: until then it is running. */
async function call(gate: Edge, token: string): Promise<{ status: number; headers: Headers; text: string }> {
  const answer = await send(gate, "/agents/seen", bearer(token));
  const text = await answer.text();
  await new Promise((resolve) => setTimeout(resolve, 0)); // the pipe behind the answer has seen its end, too
  return { status: answer.status, headers: answer.headers, text };
}

test("after the first calls nearly every call is admitted in memory", async () => {
  const { gate, asked } = counted(0);
  const { token } = await open({ person: await enrol("admin") });
  const answers = await Promise.all(Array.from({ length: 60 }, () => call(gate, token)));
  expect(answers.map(({ status }) => status)).toEqual(Array(60).fill(200));
  asked();
  for (let i = 0; i < 60; i++) expect((await call(gate, token)).status).toBe(200);
  expect(asked().length).toBeLessThan(12);
});

test("one caller's run ends exactly at its cap: no 402 while units only lie in slices", async () => {
  const { gate } = counted(10);
  const { token } = await open({ person: await enrol("admin"), budget: 1_000 });
  let admitted = 0;
  let last = await call(gate, token);
  for (; last.status === 200; last = await call(gate, token)) admitted++;
  expect(last.status).toBe(402);
  expect(admitted).toBe(100);
  expect(JSON.parse(last.text)).toMatchObject({ code: "budget_exhausted", remaining: 0, cost: 10 });
});

test("what a call did not cost is spent by later ones", async () => {
  const { gate, asked } = counted(10, 3);
  const { token } = await open({ person: await enrol("admin"), budget: 100 });
  let admitted = 0;
  for (;;) {
    const { status, headers } = await call(gate, token);
    if (status !== 200) break;
    admitted++;
    expect(Number(headers.get("legate-budget")?.split("=")[1])).toBeGreaterThanOrEqual(0);
  }
  // 31 calls of 3 leave 7, which is less than the most that one more may cost.
  expect(admitted).toBe(31);
  expect(asked().length).toBeGreaterThan(0);
});

test("a refused caller does not drown its object, and a raised cap is seen after the lease", async () => {
  const { gate, asked, step } = counted(10);
  const { token } = await open({ person: await enrol("admin"), budget: 5 });
  for (let i = 0; i < 50; i++) expect((await call(gate, token)).status).toBe(402);
  expect(asked().filter((name) => name === "admit")).toHaveLength(1);
  step(2_001);
  expect((await call(gate, token)).status).toBe(402);
  expect(asked().filter((name) => name === "admit")).toHaveLength(1);
});

test("an ended session is remembered until its token ends: later knocks wake nothing", async () => {
  const { gate, asked } = counted(0);
  const { token, grant, person } = await open({ person: await enrol("admin") });
  const child = await narrow(token, { act: "helper" });
  const end = {
    path: grant.path,
    why: "terminated",
    by: person.by,
    reach: { kind: "person", cookie: null },
    wait: false,
    idempotency: null,
  } as const;
  expect((await gate.ask(person.id, (authority) => authority.terminate(end))).ok).toBe(true);
  asked();
  expect((await call(gate, child)).status).toBe(401);
  expect(asked()).toEqual(["admit"]);
  for (const text of [child, token, await narrow(token, { act: "other" })])
    expect((await call(gate, text)).status).toBe(401);
  expect(asked()).toEqual([]);
});

test("a clock that goes back makes every slice void; one that jumps ahead ends it", async () => {
  for (const jump of [-10_000, 10_000]) {
    const { gate, asked, step } = counted(0);
    const { token } = await open({ person: await enrol("admin") });
    for (let i = 0; i < 10; i++) await call(gate, token);
    asked();
    step(jump);
    expect((await call(gate, token)).status).toBe(200);
    expect(asked()).toContain("admit");
  }
});

test("twenty refusals in a second are enough: the isolate answers by itself, but for what a slice covers", async () => {
  const { gate, asked } = counted(10);
  const { token } = await open({ person: await enrol("admin"), budget: 100 });
  const statuses: number[] = [];
  // A hostile child narrows anew for every call, under a budget that covers none of them.
  for (let i = 0; i < 60; i++) {
    const { status } = await call(gate, await narrow(token, { act: "hostile", budget: 1 as never, n: "HHHHHHHHHHHH" }));
    statuses.push(status);
  }
  expect(new Set(statuses)).toEqual(new Set([402]));
  expect(asked().filter((name) => name === "admit").length).toBeLessThanOrEqual(20);
  expect((await call(gate, token)).status).toBe(200);
});
