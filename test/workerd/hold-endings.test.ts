// A hold has one ending, whoever names another, and each of them is told the documented answer. Every row runs again with
// the object evicted before each step; what was spent and what is held afterwards is the same.
import { evictDurableObject, runDurableObjectAlarm, runInDurableObject } from "cloudflare:test";
import { afterEach, describe, expect, test, vi } from "vitest";
import type { CallId, HoldId, Micros } from "../../core/ids.ts";
import { HOLD_LIFE_DEFAULT_MS } from "../../core/limits.ts";
import {
  expectOk,
  newAgent,
  newPerson,
  openFor,
  question,
  reasonOf,
  tokenOf,
  type Person,
} from "../support/workerd/authority.ts";

const micros = (value: number): Micros => value as Micros;
const NO_HOLD = "hld_aaaaaaaaaaaaaaaaaaaa_aaaaaaaaaaaaaaaaaaaaaaaaaaaa" as HoldId;

/** Two open calls of 10, each in a session of its own. */
async function scene() {
  const person = await newPerson();
  const agent = await newAgent(person);
  const calls = [];
  for (let i = 0; i < 2; i++) {
    const token = await tokenOf(await openFor(person, agent));
    const asked = question(token);
    const { hold } = expectOk(await person.authority.admit(asked));
    calls.push({ token, asked, hold, callId: asked.callId });
  }
  const [own, other] = calls as [(typeof calls)[number], (typeof calls)[number]];
  return { person, own, other };
}

type Scene = Awaited<ReturnType<typeof scene>>;

const settleAs = async (
  { person }: Scene,
  hold: HoldId | null,
  callId: CallId,
  cost: number | null,
): Promise<string> => {
  const told = await person.authority.settle({ hold, callId, cost: cost as Micros | null, failed: false });
  return told.ok ? `${told.value.cost}${told.value.repeated ? " again" : ""}` : reasonOf(told);
};
const settle = (cost: number | null) => (s: Scene) => settleAs(s, s.own.hold, s.own.callId, cost);
const voided = async ({ person, own: { hold, callId } }: Scene): Promise<string> => {
  const told = await person.authority.void({ hold, callId });
  return told.ok ? `${told.value.cost}${told.value.repeated ? " again" : ""}` : reasonOf(told);
};
const expired = async ({ person }: Scene): Promise<string> => {
  vi.useFakeTimers({ toFake: ["Date"], now: Date.now() + HOLD_LIFE_DEFAULT_MS + 1_000 });
  await runDurableObjectAlarm(person.stub);
  return "expired";
};
const asked =
  (cost: number) =>
  async ({ person, own }: Scene) => {
    const told = await person.authority.admit({ ...own.asked, cost: micros(cost) });
    return told.ok && told.value.hold === own.hold ? "the same hold" : reasonOf(told);
  };
const charged =
  (id: string, cost: number) =>
  async ({ person, own: { hold, callId } }: Scene) => {
    const told = await person.authority.charge({ hold: hold as HoldId, callId, id, micros: micros(cost) });
    return told.ok ? `charged ${told.value.charged}` : reasonOf(told);
  };

type Step = readonly [act: (scene: Scene) => Promise<string>, told: string];

// Of the own session of 10 held: its steps with their answers, and what is settled and held in the end.
const ROWS: readonly (readonly [title: string, steps: readonly Step[], settled: number, held: number])[] = [
  [
    "settled twice",
    [
      [settle(7), "7"],
      [settle(7), "7 again"],
    ],
    7,
    0,
  ],
  [
    "settled twice, otherwise",
    [
      [settle(7), "7"],
      [settle(8), "hold_mismatch:settled"],
    ],
    7,
    0,
  ],
  [
    "settled in full twice",
    [
      [settle(null), "10"],
      [settle(10), "10 again"],
    ],
    10,
    0,
  ],
  [
    "settled, then void",
    [
      [settle(7), "7"],
      [voided, "hold_mismatch:settled"],
    ],
    7,
    0,
  ],
  [
    "void, then settled",
    [
      [voided, "0"],
      [settle(7), "hold_mismatch:voided"],
    ],
    0,
    0,
  ],
  [
    "void twice",
    [
      [voided, "0"],
      [voided, "0 again"],
    ],
    0,
    0,
  ],
  [
    "expired, then settled",
    [
      [expired, "expired"],
      [settle(7), "hold_mismatch:expired"],
    ],
    10,
    0,
  ],
  [
    "expired, then void",
    [
      [expired, "expired"],
      [voided, "hold_mismatch:expired"],
    ],
    10,
    0,
  ],
  [
    "settled, then past its deadline",
    [
      [settle(7), "7"],
      [expired, "expired"],
      [settle(7), "7 again"],
    ],
    7,
    0,
  ],
  [
    "more than held",
    [
      [settle(11), "hold_mismatch:too_much"],
      [settle(10), "10"],
    ],
    10,
    0,
  ],
  [
    "another session's hold, by the own call",
    [[(s) => settleAs(s, s.other.hold, s.own.callId, 1), "hold_mismatch:unknown"]],
    0,
    10,
  ],
  [
    "the own hold, by another session's call",
    [[(s) => settleAs(s, s.own.hold, s.other.callId, 1), "hold_mismatch:unknown"]],
    0,
    10,
  ],
  ["no hold at all", [[(s) => settleAs(s, NO_HOLD, s.own.callId, 1), "hold_mismatch:unknown"]], 0, 10],
  ["another session's call settles its own alone", [[(s) => settleAs(s, s.other.hold, s.other.callId, 3), "3"]], 0, 10],
  [
    "the same call with another amount",
    [
      [asked(10), "the same hold"],
      [asked(11), "idempotency_conflict"],
    ],
    0,
    10,
  ],
  [
    "charged twice under one id",
    [
      [charged("charge-1", 4), "charged 4"],
      [charged("charge-1", 4), "charged 4"],
      [settle(null), "4"],
    ],
    4,
    0,
  ],
  [
    "the same charge with another amount",
    [
      [charged("charge-1", 4), "charged 4"],
      [charged("charge-1", 5), "idempotency_conflict"],
    ],
    0,
    10,
  ],
  [
    "charged, then void",
    [
      [charged("charge-1", 4), "charged 4"],
      [voided, "hold_mismatch:settled"],
      [settle(0), "4"],
    ],
    4,
    0,
  ],
  [
    "charged after its end",
    [
      [settle(7), "7"],
      [charged("charge-1", 1), "hold_mismatch:settled"],
    ],
    7,
    0,
  ],
];

afterEach(() => void vi.useRealTimers());

describe.each([{ evicted: false }, { evicted: true }])("evicted between steps: $evicted", ({ evicted }) => {
  test.each(ROWS)("%s", async (_, steps, settled, held) => {
    const given = await scene();
    const { person, own } = given;
    for (const [act, told] of steps) {
      if (evicted) await evictDurableObject(person.stub);
      expect(await act(given)).toBe(told);
    }
    expect(expectOk(await person.authority.leash(own.token)).budget).toMatchObject({ settled, held });
    expect(await endings(person, own.hold)).toBe(held === 0 ? 1 : 0);
  });
});

function endings(person: Person, hold: HoldId | null): Promise<number> {
  return runInDurableObject(person.stub, (_, state) => {
    const rows = state.storage.sql.exec("select count(*) as n from outcomes where hold_id = ?", hold).one();
    return Number(rows["n"]);
  });
}
