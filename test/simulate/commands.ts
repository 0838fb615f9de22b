/**
 * What can happen in a simulated run. A command is a kind and a seed of its own, and picks what it acts on from what is
 * there: so any part of a history is a history, and a failing one can be cut down (run.ts).
 */
import { again, burst, call, charge, deliver, drip, finish, hostile, lie, overdue, strict } from "./acts-calls.ts";
import { alarm, clock, compare, evict, fail, kill, retry, wait, waitLong } from "./acts-faults.ts";
import { cap, delegate, narrow, open, terminate } from "./acts-people.ts";
import type { Chance } from "./random.ts";
import type { World } from "./world.ts";

export interface Command {
  readonly kind: Kind;
  readonly seed: number;
}

type Act = (world: World, chance: Chance) => Promise<void>;

const KINDS = {
  open: [4, open],
  delegate: [4, delegate],
  narrow: [9, narrow],
  call: [36, call],
  burst: [5, burst],
  drip: [2, drip],
  strict: [10, strict],
  finish: [14, finish],
  deliver: [12, deliver],
  charge: [6, charge],
  hostile: [6, hostile],
  again: [3, again],
  lie: [1, lie],
  overdue: [5, overdue],
  wait: [30, wait],
  waitLong: [2, waitLong],
  clock: [5, clock],
  evict: [4, evict],
  kill: [2, kill],
  cap: [4, cap],
  terminate: [2, terminate],
  alarm: [4, alarm],
  fail: [2, fail],
  compare: [3, compare],
  retry: [4, retry],
} as const satisfies Readonly<Record<string, readonly [number, Act]>>;

export type Kind = keyof typeof KINDS;

const WEIGHTED: readonly Kind[] = (Object.keys(KINDS) as Kind[]).flatMap((kind) =>
  Array.from({ length: KINDS[kind][0] }, () => kind),
);

/** A history to be: it opens with a session, so that there is something to call with. */
export function drawCommands(chance: Chance, length: number): Command[] {
  const draw = (kind: Kind): Command => ({ kind, seed: chance.int(0, 0x7fffffff) });
  return [draw("open"), draw("narrow"), ...Array.from({ length: length - 2 }, () => draw(chance.pick(WEIGHTED)))];
}

export function execute(world: World, { kind }: Command, chance: Chance): Promise<void> {
  return KINDS[kind][1](world, chance);
}
