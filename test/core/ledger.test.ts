// The ledger's decisions as tables. Amounts are micros.
import * as fc from "fast-check";
import { describe, expect, test } from "vitest";
import { dayOf, decideHold, decideOutcome, type HoldOutcome, type Level } from "../../core/budget/ledger.ts";
import type { EpochMs, Micros } from "../../core/ids.ts";

const NOW = 1_800_000_000_000 as EpochMs;
const micros = (amount: number) => amount as Micros;

/** Without slices: the leases' own tests bring those. */
const level = (id: string, cap: number | null, settled: number, held: number): Level =>
  ({ id, cap, settled, held, leased: 0, lost: 0, reserved: 0, slack: 0 }) as Level;

/** `user 100: 40 + 10` is a cap of 100 with 40 settled and 10 held; `-` is no cap. */
function levels(picture: string): Level[] {
  return picture.split(" / ").map((part) => {
    const [, id, cap, settled, held] = /^(\w+) (-|\d+): (\d+) \+ (\d+)$/.exec(part) as unknown as [
      string,
      string,
      string,
      string,
      string,
    ];
    return {
      id,
      cap: cap === "-" ? null : micros(Number(cap)),
      settled: micros(Number(settled)),
      held: micros(Number(held)),
      leased: micros(0),
      lost: micros(0),
      reserved: micros(0),
      slack: micros(0),
    };
  });
}

const HOLDS: readonly (readonly [picture: string, cost: number, outcome: string])[] = [
  ["user -: 0 + 0", 1_000_000, "ok, uncapped"],
  ["user 100: 0 + 0", 100, "ok, 0 left"],
  ["user 100: 0 + 0", 101, "exhausted at user, 100 left"],
  ["user 100: 40 + 10", 50, "ok, 0 left"],
  ["user 100: 40 + 10", 51, "held at user"],
  ["user 100: 40 + 10", 60, "held at user"],
  ["user 100: 40 + 10", 61, "exhausted at user, 60 left"],
  ["user 100: 100 + 0", 0, "ok, 0 left"],
  ["user 100: 100 + 0", 1, "exhausted at user, 0 left"],
  ["user 0: 0 + 0", 0, "ok, 0 left"],
  ["user 0: 0 + 0", 1, "exhausted at user, 0 left"],
  ["user 100: 150 + 0", 0, "exhausted at user, 0 left"], // the cap was lowered below what is settled
  ["user 100: 40 + 90", 0, "held at user"], // … below what is committed
  ["user 100: 0 + 0 / agent 50: 0 + 0 / session 20: 0 + 0", 20, "ok, 0 left"],
  ["user 100: 0 + 0 / agent 50: 0 + 0 / session 20: 0 + 0", 21, "exhausted at session, 20 left"],
  ["user 100: 95 + 0 / agent 50: 0 + 0 / session 20: 0 + 0", 10, "exhausted at user, 5 left"],
  ["user 100: 0 + 95 / agent 50: 0 + 0 / session 5: 0 + 0", 10, "exhausted at session, 5 left"], // waiting would not help
  ["user 100: 0 + 95 / agent 50: 0 + 0 / session 20: 0 + 0", 10, "held at user"],
  ["user -: 9 + 9 / agent 50: 10 + 10 / session -: 9 + 9", 10, "ok, 20 left"],
];

describe("holding", () => {
  test.each(HOLDS)("%s, cost %i: %s", (picture, cost, outcome) => {
    const result = decideHold(levels(picture), micros(cost), (NOW + 500) as EpochMs, NOW);
    const said = result.ok
      ? `ok, ${result.value === null ? "uncapped" : `${result.value} left`}`
      : result.denial.reason === "budget_exhausted"
        ? `exhausted at ${result.denial.node}, ${result.denial.remaining} left`
        : result.denial.reason === "budget_held"
          ? `held at ${result.denial.node}`
          : result.denial.reason;
    expect(said).toBe(outcome);
  });

  test.each([
    [null, 1],
    [NOW - 5, 1],
    [NOW, 1],
    [NOW + 1, 1],
    [NOW + 500, 500],
    [NOW + 2_000, 2_000],
    [NOW + 60_000, 2_000],
  ])("waits for the earliest end: %s", (end, retryAfterMs) => {
    expect(decideHold(levels("user 10: 0 + 10"), micros(1), end as EpochMs | null, NOW)).toEqual({
      ok: false,
      denial: { reason: "budget_held", node: "user", retryAfterMs },
    });
  });

  test("never lets settled + held pass a cap, and never refuses what fits", () => {
    const amount = fc.oneof(fc.integer({ min: 0, max: 20 }), fc.maxSafeNat());
    const any = fc.tuple(fc.constant("x"), fc.option(amount), amount, amount);
    fc.assert(
      fc.property(fc.array(any, { minLength: 1, maxLength: 4 }), amount, (all, cost) => {
        const fits = all.every(
          ([, cap, settled, held]) => cap === null || BigInt(settled) + BigInt(held) + BigInt(cost) <= BigInt(cap),
        );
        expect(
          decideHold(
            all.map((each) => level(...each)),
            micros(cost),
            null,
            NOW,
          ).ok,
        ).toBe(fits);
      }),
      { numRuns: 1_000 },
    );
  });
});

const OUTCOMES: readonly (readonly [open: string, outcome: HoldOutcome, actual: number | null, result: string])[] = [
  ["open", "settled", 30, "30"],
  ["open", "settled", 0, "0"],
  ["open", "settled", 100, "100"],
  ["open", "settled", 101, "too_much"],
  ["open", "settled", null, "100"],
  ["open", "voided", null, "0"],
  ["open", "expired", null, "100"],
  ["settled", "settled", 30, "settled"],
  ["settled", "voided", null, "settled"],
  ["settled", "expired", null, "settled"],
  ["voided", "settled", 30, "voided"],
  ["voided", "expired", null, "voided"],
  ["expired", "settled", 30, "expired"],
  ["expired", "voided", null, "expired"],
];

describe("a hold of 100", () => {
  test.each(OUTCOMES)("that is %s, %s at %s: %s", (state, outcome, actual, expected) => {
    const hold = { amount: micros(100), outcome: state === "open" ? null : (state as HoldOutcome) };
    const result = decideOutcome(hold, outcome, actual === null ? null : micros(actual));
    expect(result.ok ? String(result.value) : result.denial.reason === "hold_mismatch" && result.denial.fault).toBe(
      expected,
    );
  });
});

test("days are UTC's and turn at midnight", () => {
  const midnight = Date.UTC(2026, 10, 22);
  expect(dayOf(midnight as EpochMs) - dayOf((midnight - 1) as EpochMs)).toBe(1);
  expect(dayOf((midnight + 86_399_999) as EpochMs)).toBe(dayOf(midnight as EpochMs));
});
