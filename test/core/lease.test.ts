// Slices: how large one is, and that what an isolate takes from one, gives back and reports always adds up to what was
// granted.
import * as fc from "fast-check";
import { describe, expect, test } from "vitest";
import { HeldSlice, sliceCalls, SLICE_CALLS_MAX } from "../../core/budget/lease.ts";
import type { CallId, EpochMs, LeaseId, Micros } from "../../core/ids.ts";

const NOW = 1_800_000_000_000 as EpochMs;
const at = (ms: number): EpochMs => (NOW + ms) as EpochMs;
const micros = (value: number): Micros => value as Micros;
const id = (n: number): CallId => `call-${n}` as CallId;

describe("the size of a slice", () => {
  test.each([
    ["the first call", { calls: 0, ranOut: false }, null, 10, 0, 1],
    ["one was used up", { calls: 1, ranOut: true }, null, 10, 0, 2],
    ["sixteen were used up", { calls: 16, ranOut: true }, null, 10, 0, 32],
    ["time ran out after thirty", { calls: 30, ranOut: false }, null, 10, 0, 30],
    ["no more than any isolate calls", { calls: SLICE_CALLS_MAX, ranOut: true }, null, 10, 0, SLICE_CALLS_MAX],
    ["half of what is left", { calls: 50, ranOut: true }, 100, 10, 0, 5],
    ["shared with three that live", { calls: 50, ranOut: true }, 160, 10, 3, 2],
    ["one, where there is room for one", { calls: 50, ranOut: true }, 10, 10, 9, 1],
    ["none, where there is none", { calls: 50, ranOut: true }, 9, 10, 0, 0],
    ["free calls are not bounded by money", { calls: 50, ranOut: true }, 0, 0, 0, 100],
  ] as const)("%s", (_, demand, left, cost, live, expected) => {
    expect(sliceCalls(demand, left === null ? null : micros(left), micros(cost), live)).toBe(expected);
  });
});

const slice = (units: number, calls: number): HeldSlice =>
  new HeldSlice({ id: "s" as LeaseId, units: micros(units), calls, termMs: 2_000 }, NOW);

describe("an isolate's slice", () => {
  test("is live to the last millisecond of its term, from before it was asked for", () => {
    expect(slice(10, 1).take(id(1), "default", micros(10), at(1_999))).toBe(true);
    expect(slice(10, 1).take(id(1), "default", micros(10), at(2_000))).toBe(false);
    const ended = slice(10, 1);
    ended.voidNow();
    expect(ended.take(id(1), "default", micros(10), NOW)).toBe(false);
  });

  test("gives what a call did not spend to the next one", () => {
    const held = slice(20, 3);
    expect(held.take(id(1), "default", micros(15), NOW)).toBe(true);
    expect(held.take(id(2), "default", micros(15), NOW)).toBe(false);
    held.settle(id(1), micros(3), false, at(5));
    expect(held.take(id(2), "default", micros(15), at(6))).toBe(true);
    expect(held.close()).toMatchObject({ settled: 3, calls: 2, running: [{ callId: "call-2", held: 15 }] });
  });

  test("what is reported as running is no longer settled here, and nothing is taken any more", () => {
    const held = slice(20, 3);
    held.take(id(1), "default", micros(5), NOW);
    held.close();
    expect(held.settle(id(1), micros(5), false, NOW)).toBe(false);
    expect(held.take(id(2), "default", micros(5), NOW)).toBe(false);
  });

  test("a cost that is more than was held, or that nobody named, charges what was held", () => {
    const held = slice(30, 3);
    for (const [n, cost] of [
      [1, null],
      [2, micros(11)],
      [3, micros(0)],
    ] as const) {
      held.take(id(n), "default", micros(10), NOW);
      held.settle(id(n), cost, n === 3, at(n));
    }
    expect(held.close()).toEqual({
      id: "s",
      settled: 20,
      calls: 3,
      tallies: [{ instance: "default", calls: 3, errors: 1, cost: 20, firstAt: NOW, lastAt: at(3) }],
      running: [],
    });
  });
});

test("whatever is taken, settled and given back: settled + running ≤ units, calls ≤ granted, tallies tell of the settled", () => {
  const act = fc.record({
    do: fc.constantFrom("take", "settle", "giveBack"),
    call: fc.nat({ max: 20 }),
    cost: fc.nat({ max: 30 }),
    ms: fc.nat({ max: 150 }),
  });
  fc.assert(
    fc.property(fc.nat({ max: 300 }), fc.nat({ max: 20 }), fc.array(act, { maxLength: 80 }), (units, calls, acts) => {
      const held = slice(units, calls);
      const taken = new Set<CallId>();
      let now = 0;
      for (const step of acts) {
        now += step.ms;
        const call = id(step.call);
        if (step.do === "take" && !taken.has(call)) {
          if (held.take(call, `i${step.call % 2}`, micros(step.cost), at(now))) taken.add(call);
        } else if (step.do === "settle") held.settle(call, micros(step.cost), false, at(now));
        else held.giveBack(call);
      }
      const report = held.close();
      const running = report.running.reduce((sum, { held: amount }) => sum + amount, 0);
      expect(report.settled + running).toBeLessThanOrEqual(units);
      expect(report.calls).toBeLessThanOrEqual(calls);
      expect(report.tallies.reduce((sum, tally) => sum + tally.cost, 0)).toBe(report.settled);
      expect(report.tallies.reduce((sum, tally) => sum + tally.calls, 0) + report.running.length).toBe(report.calls);
    }),
  );
});
