// Budgets through running servers: several copies of the edge before one authority, on plain workerd, under load and with
// faults. Exact to the unit whatever races or dies. That a hold ends once, whatever is said twice, late or by somebody
// else: test/workerd/authority-calls.test.ts, authority-leases.test.ts, gate-rpc.test.ts and holds.test.ts.
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import type { Micros } from "../../core/ids.ts";
import { HostClock } from "../support/copies/host-clock.ts";
import { drive, driveFor, type Load, type Target } from "../support/copies/load.ts";
import { Household, narrow } from "../support/copies/scene.ts";
import { Copies } from "../support/copies/workerd.ts";

const LEASE_MS = 2_000;
const ENVELOPE_SLACK_MS = 2_000;
const PARALLEL = 1_000;

let copies: Copies;
let hostClock: HostClock;
beforeAll(async () => {
  hostClock = new HostClock();
  copies = await hostClock.start({ copies: 4, leaseMs: LEASE_MS });
});
afterAll(async () => {
  await copies.end();
  hostClock.end();
});

const sleep = (ms: number) => new Promise((wake) => setTimeout(wake, ms));

/** An entry at each of some copies. */
function targets(tokens: readonly string[], query: string, { slug = "meter", edges = [0] } = {}): Target[] {
  const path = `/agents/${slug}/default?${query}`;
  const length = Math.max(tokens.length, edges.length) * edges.length;
  return Array.from({ length }, (_, i) => ({
    port: copies.port(`edge-${edges[i % edges.length] as number}`),
    path,
    token: tokens[i % tokens.length] as string,
  }));
}

/** Each caller makes one call, and asks again when it was told to, until it is served or told that nothing is left. */
function callOnce(to: readonly Target[], callers = PARALLEL): Promise<Load> {
  const deadline = performance.now() + 40_000;
  return drive(to, callers, async ({ status, head }) => {
    if (status === 200 || status === 402 || performance.now() > deadline) return false;
    const wait = /\nretry-after: (\d+)/i.exec(head)?.[1];
    if (wait === undefined) throw new Error(`no Retry-After: ${head}`);
    await sleep(Number(wait) * 1_000);
    return true;
  });
}

/** One caller, call after call, until it is told that nothing is left. */
async function callToTheEnd(to: Target, on: Copies = copies): Promise<{ served: number; last: unknown }> {
  const url = `http://127.0.0.1:${to.port}${to.path}`;
  for (let served = 0; ;) {
    const answer = await fetch(url, { headers: { authorization: `Bearer ${to.token}` } });
    const text = await answer.text();
    if (answer.status === 200) served++;
    else if (answer.status === 429) await sleep(Number(answer.headers.get("retry-after")) * 1_000);
    else return { served, last: { status: answer.status, ...(JSON.parse(text) as object) } };
    if (served > 10_000) throw new Error(`no end on ${on.pid}`);
  }
}

async function servedBy(run: string, on = copies): Promise<{ calls: number; cost: number }> {
  const told = await on.order<Record<string, { calls: number; cost: number }>>(0, { do: "served" });
  return told[run] ?? { calls: 0, cost: 0 };
}

async function deeper(token: string, depth: number): Promise<string> {
  let text = token;
  for (let i = 0; i < depth; i++) text = await narrow(text, i % 2 === 0 ? { act: `helper-${i}` } : { scope: "work" });
  return text;
}

describe("1,000 parallel calls of cost 1 on a budget of 100: exactly 100 are served", () => {
  const scenes: readonly {
    name: string;
    edges: number[];
    tokens: (house: Household, token: string) => Promise<string[]>;
  }[] = [
    { name: "one token, one copy of the edge", edges: [0], tokens: async (_, token) => [token] },
    {
      name: "five sibling grants of one parent",
      edges: [0],
      tokens: (house, token) => Promise.all(Array.from({ length: 5 }, () => house.grantBelow(token))),
    },
    { name: "eight nodes below the session", edges: [0], tokens: async (_, token) => [await deeper(token, 8)] },
    { name: "four copies of the edge", edges: [0, 1, 2, 3], tokens: async (_, token) => [token] },
  ];
  test.each(scenes)("$name", { timeout: 60_000 }, async ({ name, edges, tokens }) => {
    const run = name.replaceAll(" ", "-");
    const house = await Household.make(copies);
    const { grant, token } = await house.open(100);
    const load = await callOnce(targets(await tokens(house, token), `run=${run}&cost=1`, { edges }));
    expect(load.statuses).toMatchObject({ 200: 100, 402: PARALLEL - 100 });
    expect(await servedBy(run)).toMatchObject({ calls: 100, cost: 100 });
    await expect.poll(() => house.budget(grant.path), { timeout: 10_000 }).toMatchObject({ settled: 100, held: 0 });
  });
});

test("half of the copies die with slices in their hands: never more than 100, and the log names what was lost", async () => {
  const mine = await Copies.start({ copies: 4, leaseMs: LEASE_MS });
  try {
    const house = await Household.make(mine);
    const { grant, token } = await house.open(100);
    const to = (edge: number): Target => ({
      port: mine.port(`edge-${edge}`),
      path: "/agents/meter/default?run=dying&cost=1",
      token,
    });
    // One, two, four: each of the two that die has a slice of four, one call of which was made.
    for (const edge of [2, 3]) for (let i = 0; i < 4; i++) await drive([to(edge)], 1, () => false);
    await mine.kill(2);
    await mine.kill(3);
    const load = await callOnce([to(0), to(1)], 200);
    expect(Object.keys(load.statuses)).not.toContain("500");
    const { calls } = await servedBy("dying", mine);
    expect(calls).toBeLessThanOrEqual(100);
    // A minute later nobody will report them any more.
    await mine.order(0, { do: "clock", offsetMs: 61_000 });
    await mine.rpc(house.id, "alarmNow");
    const lost = (await house.query("select body from audit where kind = 'slice.lost'")).map(
      ({ body }) => JSON.parse(String(body)) as { node: string; cost: number },
    );
    expect(lost.length).toBeGreaterThanOrEqual(2);
    expect(lost.every(({ node }) => node === grant.path)).toBe(true);
    const lostUnits = lost.reduce((sum, { cost }) => sum + cost, 0);
    const { settled, held, remaining } = await house.budget(grant.path);
    expect({ settled, held, remaining }).toEqual({ settled: 100, held: 0, remaining: 0 });
    // Whatever was lost may have been served or not; everything else was served and told.
    expect(calls).toBeGreaterThanOrEqual(100 - lostUnits);
  } finally {
    await mine.end();
  }
}, 60_000);

test("a single caller's run ends exactly at its cap", { timeout: 40_000 }, async () => {
  const house = await Household.make(copies);
  const { grant, token } = await house.open(137);
  const [to] = targets([token], "run=single&cost=1") as [Target];
  const { served, last } = await callToTheEnd(to);
  expect(served).toBe(137);
  expect(last).toMatchObject({ status: 402, code: "budget_exhausted", node: grant.path });
});

test("an agent whose budget is spent opens another session: still 402", { timeout: 40_000 }, async () => {
  const house = await Household.make(copies, { cap: 20 });
  const first = await house.open();
  expect((await callToTheEnd(targets([first.token], "run=agent&cost=1")[0] as Target)).served).toBe(20);
  const second = await house.open();
  expect(await callToTheEnd(targets([second.token], "run=agent&cost=1")[0] as Target)).toMatchObject({
    served: 0,
    last: { status: 402, code: "budget_exhausted" },
  });
});

describe("nobody gets a call for nothing", () => {
  const slowly = (token: string, run: string, slug: string) =>
    fetch(`${copies.url()}/agents/${slug}/default?run=${run}&cost=1&wait=1500`, {
      headers: { authorization: `Bearer ${token}` },
    });

  test.each(["meter", "strict"])("stopped in mid-call, at an entry of %s", { timeout: 20_000 }, async (slug) => {
    const house = await Household.make(copies);
    const { grant, token } = await house.open(10);
    const call = slowly(token, `stop-${slug}`, slug);
    await expect.poll(() => servedBy(`stop-${slug}`)).toMatchObject({ calls: 1 });
    const report = await house.end(grant.path, false);
    expect(report.calls.running + report.calls.upTo).toBeGreaterThanOrEqual(1);
    expect((await call).status).toBe(200);
    const after = await fetch(`${copies.url()}/agents/${slug}/default`, {
      headers: { authorization: `Bearer ${token}` },
    });
    expect(after.status).toBe(401);
    await expect.poll(() => house.budget(grant.path), { timeout: 10_000 }).toMatchObject({ settled: 1, held: 0 });
  });

  test("a child that revokes itself in mid-call is charged to those above it", { timeout: 20_000 }, async () => {
    const house = await Household.make(copies);
    const { grant, token } = await house.open(10);
    const child = await narrow(token, { act: "child" });
    const call = slowly(child, "child", "meter");
    await expect.poll(() => servedBy("child")).toMatchObject({ calls: 1 });
    const headers = { authorization: `Bearer ${child}` };
    const own = (await (await fetch(`${copies.url()}/sessions/current`, { headers })).json()) as { node: string };
    const gone = await fetch(`${copies.url()}/sessions/${own.node}?wait=0`, { method: "DELETE", headers });
    expect(gone.status).toBeLessThan(300);
    expect((await call).status).toBe(200);
    expect((await fetch(`${copies.url()}/agents/meter/default`, { headers })).status).toBe(401);
    await expect.poll(() => house.budget(grant.path), { timeout: 10_000 }).toMatchObject({ settled: 1, held: 0 });
  });

  test("a hold that expires in mid-call is charged in full, and what comes later changes nothing", async () => {
    const mine = await Copies.start();
    try {
      const house = await Household.make(mine);
      const { grant, token } = await house.open(10);
      const call = fetch(`${mine.url()}/agents/strict/default?run=expiring&cost=0&wait=3000`, {
        headers: { authorization: `Bearer ${token}` },
      });
      await expect.poll(() => house.budget(grant.path)).toMatchObject({ settled: 0, held: 1 });
      await mine.order(0, { do: "clock", offsetMs: 601_000 });
      await mine.rpc(house.id, "alarmNow");
      expect(await house.budget(grant.path)).toMatchObject({ settled: 1, held: 0 });
      expect((await call).status).toBe(200);
      await sleep(500);
      expect(await house.budget(grant.path)).toMatchObject({ settled: 1, held: 0 });
    } finally {
      await mine.end();
    }
  }, 30_000);
});

describe("one user as fast as the generator can", () => {
  test("is admitted correctly, and a stop gets through meanwhile", { timeout: 40_000 }, async () => {
    const house = await Household.make(copies);
    const { grant, token } = await house.open(1e9);
    const to = targets([token], "run=flood&cost=1");
    await driveFor(to, 32, 2_000);
    let endedAt = Infinity;
    const late: number[] = [];
    const flood = drive(to, 32, ({ status }, startedAt) => {
      if (status === 200 && startedAt > endedAt) late.push(startedAt);
      return status === 200 || performance.now() < endedAt + 200;
    });
    await sleep(1_500);
    const asked = performance.now();
    const { fence } = await house.end(grant.path, false);
    expect(performance.now() - asked).toBeLessThan(2_000);
    await sleep(fence.at - Date.now());
    endedAt = performance.now();
    const load = await flood;
    expect(late).toEqual([]);
    expect(Object.keys(load.statuses).toSorted()).toEqual(["200", "401"]);
    const { calls } = await servedBy("flood");
    await expect
      .poll(async () => (await house.budget(grant.path)).settled, { timeout: 10_000 })
      .toBeGreaterThanOrEqual(calls);
  });

  test("a child that hammers a refused route drowns nobody: the parent is served, the stop arrives", async () => {
    const house = await Household.make(copies);
    const { grant, token } = await house.open(1e9);
    const child = await narrow(token, { act: "child", budget: 1 as Micros });
    expect((await callToTheEnd(targets([child], "run=hostile&cost=1")[0] as Target)).served).toBe(1);
    const before = (await copies.order<Record<string, number>>(0, { do: "asked" }))["admit"] ?? 0;
    const hammering = driveFor(targets([child], "run=hostile&cost=1"), 32, 4_000);
    const parent = await driveFor(targets([token], "run=parent&cost=1"), 1, 2_000);
    expect(parent.statuses).toEqual({ 200: parent.calls });
    const asked = performance.now();
    await house.end(grant.path, false);
    expect(performance.now() - asked).toBeLessThan(2_000);
    const { statuses, calls } = await hammering;
    expect(Object.keys(statuses).filter((status) => !["401", "402", "429"].includes(status))).toEqual([]);
    const hops = ((await copies.order<Record<string, number>>(0, { do: "asked" }))["admit"] ?? 0) - before;
    expect(hops).toBeLessThan(calls / 5);
  }, 30_000);
});

describe("the host's clock is set under load", () => {
  test.each([-10_000, 10_000])(
    "by %i ms: no call is admitted past a slice's real end",
    { timeout: 40_000 },
    async (by) => {
      const house = await Household.make(copies);
      const { token } = await house.open(1e9);
      const edges = [0, 1, 2, 3];
      let lastServed = 0;
      let stopAt = Infinity;
      const load = drive(targets([token], "run=clock&cost=1", { edges }), 8, async ({ status }, startedAt) => {
        if (status === 200) lastServed = Math.max(lastServed, startedAt);
        else await sleep(20);
        return performance.now() < stopAt;
      });
      try {
        await sleep(2_000);
        // From here on no slice is granted: what is admitted, is from those that the copies hold.
        for (const edge of edges) await copies.order(edge, { do: "faults", faults: { isCutOff: true } });
        const cutAt = performance.now();
        await sleep(300);
        await hostClock.set(copies, by);
        const told = await copies.order<number>(0, { do: "now" });
        expect(Math.abs(told - Date.now() - by)).toBeLessThan(2_000);
        stopAt = cutAt + LEASE_MS + ENVELOPE_SLACK_MS + 2_000;
        const { statuses } = await load;
        expect(statuses[200]).toBeGreaterThan(50);
        expect(lastServed - cutAt).toBeLessThan(LEASE_MS + ENVELOPE_SLACK_MS);
      } finally {
        stopAt = 0;
        await hostClock.set(copies, 0);
        for (const edge of edges) await copies.order(edge, { do: "faults", faults: { isCutOff: false } });
      }
    },
  );
});
