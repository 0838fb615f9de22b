// GCRA as tables and properties: what a window admits, when a refused call passes, and that a clock that goes back
// neither refills nor drains (threats.md I16, I17).
import * as fc from "fast-check";
import { describe, expect, test } from "vitest";
import { mostThrottled, rateShare, refund, throttle, type Bucket } from "../../core/budget/throttle.ts";
import type { EpochMs } from "../../core/ids.ts";

const NOW = 1_800_000_000_000 as EpochMs;
const at = (ms: number): EpochMs => (NOW + ms) as EpochMs;

/** `10/1s burst 5`. */
function bucket(picture: string, tat = 0, level = "node"): Bucket {
  const [, calls, seconds, burst] = /^(\d+)\/(\d+)s(?: burst (\d+))?$/.exec(picture) as unknown as [
    string,
    string,
    string,
    string | undefined,
  ];
  return {
    level,
    window: { calls: Number(calls), periodMs: Number(seconds) * 1_000, burst: Number(burst ?? calls) },
    tat,
  };
}

/** Calls one after the other at those moments: `+` admitted, a number is the wait in milliseconds. */
function run(picture: string, moments: readonly number[], share = 1): (string | number)[] {
  let tat = 0;
  return moments.map((ms) => {
    const decided = throttle([bucket(picture, tat)], 1, share, at(ms));
    if (!decided.ok) return decided.denial.retryAfterMs;
    tat = decided.value.tats[0] as number;
    return "+";
  });
}

describe("one window", () => {
  test.each<[string, number[], (string | number)[]]>([
    ["2/1s", [0, 0, 0, 499, 500, 500], ["+", "+", 500, 1, "+", 500]],
    ["10/1s burst 1", [0, 99, 100, 150, 200], ["+", 1, "+", 50, "+"]],
    ["3/60s burst 3", [0, 1, 2, 3, 20_000, 20_001], ["+", "+", "+", 19_997, "+", 19_999]],
    ["1/1s", [0, 10_000, 10_000, 10_999, 11_000], ["+", "+", 1_000, 1, "+"]],
  ])("%s", (picture, moments, expected) => {
    expect(run(picture, moments)).toEqual(expected);
  });

  test("with the budget nearly spent a tenth of the rate is left", () => {
    expect(run("10/1s burst 1", [0, 100, 999, 1_000], rateShare(0))).toEqual(["+", 900, 1, "+"]);
  });

  test.each([
    [1, 1],
    [0.5, 1],
    [0.25, 0.55],
    [0, 0.1],
    [-1, 0.1],
  ])("a budget of which %d is left leaves %d of the rate", (left, share) => {
    expect(rateShare(left)).toBeCloseTo(share, 12);
  });

  test("a burst's worth at once passes, one more never", () => {
    expect(throttle([bucket("5/1s")], 5, 1, NOW).ok).toBe(true);
    expect(throttle([bucket("5/1s")], 6, 1, NOW).ok).toBe(false);
    expect(mostThrottled([bucket("5/1s")], 100, 1, NOW)).toBe(5);
  });
});

test("several windows: all or nothing, and the strictest is the one reported", () => {
  const burst = bucket("10/1s", 0, "burst");
  const spent = bucket("20/60s", NOW + 60_000, "sustained");
  const refused = throttle([burst, spent], 1, 1, NOW);
  expect(refused).toMatchObject({ ok: false, denial: { retryAfterMs: 3_000, bucket: { level: "sustained" } } });
  const passed = throttle([burst, bucket("20/60s", NOW + 54_000, "sustained")], 1, 1, NOW);
  expect(passed).toMatchObject({ ok: true, value: { strictest: { remaining: 1, bucket: { level: "sustained" } } } });
});

const windows = fc.record({
  calls: fc.integer({ min: 1, max: 1_000 }),
  seconds: fc.integer({ min: 1, max: 120 }),
  burst: fc.integer({ min: 1, max: 1_000 }),
});
const steps = fc.array(fc.integer({ min: -50, max: 3_000 }), { minLength: 1, maxLength: 60 });

test("at exactly Retry-After the call passes, a millisecond earlier it does not", () => {
  fc.assert(
    fc.property(windows, steps, ({ calls, seconds, burst }, deltas) => {
      const picture = `${calls}/${seconds}s burst ${burst}`;
      let tat = 0;
      let now = 0;
      for (const delta of deltas) {
        now = Math.max(0, now + delta);
        const decided = throttle([bucket(picture, tat)], 1, 1, at(now));
        if (decided.ok) {
          tat = decided.value.tats[0] as number;
          continue;
        }
        const { retryAfterMs } = decided.denial;
        expect(throttle([bucket(picture, tat)], 1, 1, at(now + retryAfterMs)).ok).toBe(true);
        expect(throttle([bucket(picture, tat)], 1, 1, at(now + retryAfterMs - 1)).ok).toBe(false);
      }
    }),
  );
});

test("in any stretch of time no more than burst + rate × time is admitted, whatever the clock does", () => {
  fc.assert(
    fc.property(windows, steps, ({ calls, seconds, burst }, deltas) => {
      const picture = `${calls}/${seconds}s burst ${burst}`;
      let tat = 0;
      let now = 0;
      let latest = 0;
      let admitted = 0;
      for (const delta of deltas) {
        now += delta;
        latest = Math.max(latest, now);
        for (let i = 0; i < 5; i++) {
          const decided = throttle([bucket(picture, tat)], 1, 1, at(now));
          if (!decided.ok) break;
          tat = decided.value.tats[0] as number;
          admitted++;
        }
      }
      expect(admitted).toBeLessThanOrEqual(burst + (calls / (seconds * 1_000)) * latest + 1e-6 + 1);
    }),
  );
});

test("what is given back may be called again, never more than a burst", () => {
  const charged = throttle([bucket("10/1s")], 10, 1, NOW);
  if (!charged.ok) throw new Error("refused");
  const granted = charged.value.tats[0] as number;
  const tat = refund(bucket("10/1s", granted), 4, 1, granted, NOW);
  expect(mostThrottled([bucket("10/1s", tat)], 100, 1, NOW)).toBe(4);
  expect(mostThrottled([bucket("10/1s", refund(bucket("10/1s", tat), 1_000, 1, granted, NOW))], 100, 1, NOW)).toBe(10);
});

test("what time has given back is not given back again", () => {
  const first = throttle([bucket("10/1s")], 10, 1, NOW);
  const later = (NOW + 1_000) as EpochMs;
  const granted = first.ok ? (first.value.tats[0] as number) : 0;
  const second = throttle([bucket("10/1s", granted)], 10, 1, later); // full again, and spent again
  if (!second.ok) throw new Error("refused");
  const tat = refund(bucket("10/1s", second.value.tats[0]), 10, 1, granted, later);
  expect(mostThrottled([bucket("10/1s", tat)], 100, 1, later)).toBe(0);
});

test("a budget that falls admits no second burst", () => {
  const full = throttle([bucket("10/1s")], 10, 1, NOW);
  if (!full.ok) throw new Error("refused");
  const after = [bucket("10/1s", full.value.tats[0])];
  expect(mostThrottled(after, 100, 0.5, NOW)).toBe(0);
  expect(throttle(after, 1, 0.5, NOW).ok).toBe(false);
  expect(mostThrottled([bucket("10/1s")], 100, 0.05, NOW)).toBe(1); // one call at least, however little is left
});
