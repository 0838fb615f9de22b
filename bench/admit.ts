/**
 * `npm run bench -- admit`: what admission costs. Hops and rows are counted by a virtual clock (edge, object and SQLite
 * are the real ones; only the way between them takes no time); everything else is real time, on plain workerd, in
 * interleaved rounds. Ratios are what carries over to other machines.
 *
 *   --json        prints {"figures": …} alone
 *   --rounds <n>  interleaved rounds of the comparison (default 30)
 */
import { parseArgs } from "node:util";
import { driveOneUser, hammerRefusals } from "./admit/one-user.ts";
import { once, summarise, type Summary } from "./lib/summary.ts";
import { compareAnswers, compareMessages, countHops, countRows, spendAll } from "./admit/measure.ts";

const { values: options } = parseArgs({
  options: { json: { type: "boolean", default: false }, rounds: { type: "string", default: "30" } },
});
const rounds = Number(options.rounds);
if (!Number.isInteger(rounds) || rounds < 3) throw new Error("--rounds takes a whole number of at least 3");

interface Goal {
  readonly goal: number;
  readonly atMost: boolean;
}
const atMost = (goal: number): Goal => ({ goal, atMost: true });
const atLeast = (goal: number): Goal => ({ goal, atMost: false });

const GOALS: Readonly<Record<string, Goal>> = {
  hops_per_1000_at_1: atMost(300),
  hops_per_1000_at_10: atMost(30),
  hops_per_1000_at_100: atMost(10),
  object_rows_per_1000: atMost(20),
  gate_over_same_answer: atLeast(0.75),
  gate_cpu_over_same_answer: atMost(1.35),
  gate_over_row_per_call: atLeast(10),
  overspent_micros: atMost(0),
  one_user_calls_per_second: atLeast(3_000),
  one_user_miscounted: atMost(0),
  refusals_admitted: atMost(0),
};

const RATES = [1, 10, 100];
// The first slices, which grow from one call, are in them.
const CALLS: Readonly<Record<number, number>> = { 1: 1_000, 10: 3_000, 100: 10_000 };
const cases = [5_000, 2_000].flatMap((leaseMs) =>
  RATES.map((callsPerSecond) => ({ leaseMs, callsPerSecond, calls: CALLS[callsPerSecond] as number })),
);

const figures: Record<string, Summary> = {};

const say = (text: string) => options.json || console.log(text);
function show(name: string, summary: Summary): void {
  figures[name] = summary;
  const { median, p10, p90 } = summary;
  const digits = median >= 100 ? 0 : 2;
  const spread = p10 === p90 ? "" : `${p10.toFixed(digits)} – ${p90.toFixed(digits)}`;
  const goal = GOALS[name];
  const isMet = goal === undefined || (goal.atMost ? median <= goal.goal : median >= goal.goal);
  const note = goal === undefined ? "" : `goal ${goal.atMost ? "≤" : "≥"} ${goal.goal}${isMet ? "" : "  MISSED"}`;
  say(`  ${name.padEnd(38)}${median.toFixed(digits).padStart(10)}${spread.padStart(20)}  ${note}`.trimEnd());
}

say(`Admission (one session, one isolate, evenly spaced calls; virtual clock)\n`);
for (const [i, { calls, hops, refused }] of (await countHops(cases)).entries()) {
  const { leaseMs, callsPerSecond } = cases[i] as (typeof cases)[number];
  if (refused > 0) throw new Error(`${refused} of ${calls} calls were refused`);
  show(`hops_${leaseMs === 5_000 ? "" : "2s_"}per_1000_at_${callsPerSecond}`, once((hops * 1_000) / calls));
}
const written = await countRows(10_000);
if (written.refused > 0) throw new Error(`${written.refused} calls were refused`);
show("object_rows_per_1000", once((written.rows * 1_000) / written.calls));

say(`\nThe gate beside the same answer (${rounds} interleaved rounds, 16 connections, plain workerd)
  same: the same status, headers and body by the same hop to the same agent's object, nothing checked
  same_alone: the same without a hop · row_per_call: the gate at a strict entry, asking the object for each call\n`);
const samples = await compareAnswers(rounds);
const of = (name: string) => samples.map((sample) => sample[name] as number);
const ratio = (over: string, under: string) =>
  summarise(of(over).map((value, round) => value / (of(under)[round] as number)));
for (const name of ["gate", "same", "same_alone", "row_per_call"]) {
  show(`${name}_calls_per_second`, summarise(of(`${name}_calls_per_second`)));
  show(`${name}_cpu_us`, summarise(of(`${name}_cpu_us`)));
}
show("gate_over_same_answer", ratio("gate_calls_per_second", "same_calls_per_second"));
show("gate_cpu_over_same_answer", ratio("gate_cpu_us", "same_cpu_us"));
show("gate_over_same_alone", ratio("gate_calls_per_second", "same_alone_calls_per_second"));
show("gate_cpu_over_same_alone", ratio("gate_cpu_us", "same_alone_cpu_us"));
show("gate_over_row_per_call", ratio("gate_calls_per_second", "row_per_call_calls_per_second"));

say(`\nA message's admission beside a bare call of the same service (microseconds)\n`);
const { bare, admit } = await compareMessages();
show("bare_rpc_us", summarise(bare));
show("message_admit_us", summarise(admit));
show("message_admit_over_bare_rpc", summarise(admit.map((value, turn) => value / Math.max(1, bare[turn] as number))));

const spent = await spendAll(20_000);
say(
  `\nOne cap of ${spent.cap} micros, 4 copies of the edge, one in ten questions or answers lost: ${spent.calls} calls\n`,
);
show("served_micros", once(spent.served));
show("settled_micros", once(spent.settled));
show("overspent_micros", once(Math.max(0, spent.served - spent.cap, spent.settled - spent.cap)));

const one = await driveOneUser();
say(`\nOne user's session as fast as answers come (64 connections, one workerd), ended in the middle of it\n`);
show("one_user_calls_per_second", once(one.callsPerSecond));
show("one_user_calls", once(one.answered));
show("one_user_miscounted", once(Math.abs(one.served - one.answered) + Math.abs(one.charged - one.served)));
show("terminate_ms_under_load", once(one.terminateMs));
show("last_call_after_terminate_ms", once(one.lastCallMs));
if (one.lastCallMs > one.fenceMs) throw new Error(`a call was admitted ${one.lastCallMs} ms after the stop`);

const hostile = await hammerRefusals();
say(`\nA child without a budget calls in 200 narrowings of its token, and its parent is ended meanwhile\n`);
show("refusals_per_second", once(hostile.refusalsPerSecond));
show("refusals_admitted", once(hostile.admitted));
show("terminate_ms_under_refusals", once(hostile.terminateMs));

if (options.json) {
  const round = (value: number) => Number(value.toPrecision(4));
  console.log(
    JSON.stringify({ figures: Object.fromEntries(Object.entries(figures).map(([n, s]) => [n, round(s.median)])) }),
  );
}
