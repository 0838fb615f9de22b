// The limiter's decisions as a table: the tries that were made, by the second, and what the last one is told.
import * as fc from "fast-check";
import { describe, expect, test } from "vitest";
import type { EpochMs } from "../../core/ids.ts";
import { ALLOWANCES, countTry, giveBack, limiterOf, type Allowance } from "../../core/signin.ts";

const ONE_A_MINUTE: Allowance = { burst: 3, everyMs: 60_000 };
const at = (seconds: number) => (1_800_000_000_000 + seconds * 1000) as EpochMs;

/** Plays tries at these seconds; `r12` gives one back at second 12. @returns what the last try got */
function play(script: readonly (number | string)[], allowance: Allowance): string {
  let fullAt: EpochMs | null = null;
  let said = "";
  for (const step of script) {
    if (typeof step === "string") {
      fullAt = giveBack(fullAt ?? at(0), allowance, at(Number(step.slice(1))));
      continue;
    }
    const decision = countTry(fullAt, allowance, at(step));
    said = decision.isAllowed ? "allowed" : `wait ${decision.retryAfterMs / 1000}`;
    if (decision.isAllowed) fullAt = decision.fullAt;
  }
  return said;
}

describe("countTry, three at once and one a minute", () => {
  test.each<[name: string, script: (number | string)[], said: string]>([
    ["the first", [0], "allowed"],
    ["the third", [0, 0, 0], "allowed"],
    ["the fourth", [0, 0, 0, 0], "wait 60"],
    ["refused tries cost nothing", [0, 0, 0, 0, 0, 0], "wait 60"],
    ["half a minute later", [0, 0, 0, 30], "wait 30"],
    ["a minute later", [0, 0, 0, 60], "allowed"],
    ["a minute later, twice", [0, 0, 0, 60, 60], "wait 60"],
    ["three minutes later it is whole again", [0, 0, 0, 180, 180, 180], "allowed"],
    ["and never more than whole", [0, 0, 0, 9_999, 9_999, 9_999, 9_999], "wait 60"],
    ["one that was right is given back", [0, 0, 0, "r0", 0], "allowed"],
    ["but only one", [0, 0, 0, "r0", 0, 0], "wait 60"],
    ["nothing is given back that was not used", ["r0", "r0", 0, 0, 0, 0], "wait 60"],
    ["a clock that goes back refills nothing", [100, 100, 100, 40], "wait 60"],
    ["and makes nobody wait for the time it lost", [9_999, 9_999, 9_999, 0], "wait 60"],
  ])("%s", (_, script, said) => expect(play(script, ONE_A_MINUTE)).toBe(said));
});

test("after the wait it is allowed, a millisecond before it is not", () => {
  let fullAt: EpochMs | null = null;
  for (let i = 0; i < ALLOWANCES.name.burst; i++) {
    const decision = countTry(fullAt, ALLOWANCES.name, at(0));
    fullAt = decision.isAllowed ? decision.fullAt : fullAt;
  }
  const refused = countTry(fullAt, ALLOWANCES.name, at(1));
  if (refused.isAllowed) throw new Error("the allowance has no end");
  const later = (ms: number) => countTry(fullAt, ALLOWANCES.name, (at(1) + refused.retryAfterMs + ms) as EpochMs);
  expect(later(-1).isAllowed).toBe(false);
  expect(later(0).isAllowed).toBe(true);
});

test("in no window are there more tries than the burst and what came back", () => {
  const gaps = fc.array(fc.integer({ min: 0, max: 200_000 }), { maxLength: 60 });
  fc.assert(
    fc.property(gaps, (steps) => {
      let now = at(0) as number;
      let fullAt: EpochMs | null = null;
      const made: number[] = [];
      for (const gap of steps) {
        now += gap;
        const decision = countTry(fullAt, ONE_A_MINUTE, now as EpochMs);
        if (!decision.isAllowed) continue;
        fullAt = decision.fullAt;
        made.push(now);
      }
      return made.every((from, i) =>
        made.slice(i).every((to, more) => more + 1 <= ONE_A_MINUTE.burst + (to - from) / ONE_A_MINUTE.everyMs),
      );
    }),
  );
});

test("everyone meets a 429 within sixty tries", () => {
  for (const { burst } of Object.values(ALLOWANCES)) expect(burst).toBeLessThanOrEqual(60);
});

test("sixteen limiters, no more", () => {
  const all = new Set(Array.from({ length: 256 }, (_, byte) => limiterOf(Uint8Array.of(byte))));
  expect([...all].sort((a, b) => a - b)).toEqual(Array.from({ length: 16 }, (_, i) => i));
});
