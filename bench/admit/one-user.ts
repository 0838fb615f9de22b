/** One user's object under all that one machine can send: whether every call is counted, and a stop gets through. */
import type { Micros } from "../../core/ids.ts";
import { drive, type LoadAnswer, type Target } from "../../test/support/copies/load.ts";
import { Household, narrow } from "../../test/support/copies/scene.ts";
import { Copies } from "../../test/support/copies/workerd.ts";

const CONNECTIONS = 64;
const WARM_UP_MS = 1_500;
const DRIVE_MS = 4_000;
/** After the stop: longer than slices live and envelopes last. */
const TAIL_MS = 5_000;
const HOSTILE_TOKENS = 200;

const sleep = (ms: number) => new Promise((wake) => setTimeout(wake, ms));

export interface OneUser {
  readonly callsPerSecond: number;
  /** Until the object had answered the stop. */
  readonly terminateMs: number;
  /** From that answer to the last call that was admitted: within the fence. */
  readonly lastCallMs: number;
  readonly fenceMs: number;
  /** Calls that were answered with 200, that the agent served, and that the object charged one micro each. */
  readonly answered: number;
  readonly served: number;
  readonly charged: number;
}

/** A session called as fast as answers come, and ended in the middle of it. */
export async function driveOneUser(): Promise<OneUser> {
  const copies = await Copies.start();
  try {
    const house = await Household.make(copies, { tier: "pro" });
    const { grant, token } = await house.open(1e9);
    const target = { port: copies.port("plain"), path: "/agents/wide/default?run=one&cost=1", token };
    let answered = 0;
    let lastAt = 0;
    const load = keepDriving([target], ({ status }) => {
      if (status !== 200) return;
      answered++;
      lastAt = performance.now();
    });
    await sleep(WARM_UP_MS);
    const [before, start] = [answered, performance.now()];
    await sleep(DRIVE_MS);
    const callsPerSecond = ((answered - before) * 1_000) / (performance.now() - start);
    const askedAt = performance.now();
    const { endedAt, fence } = await house.end(grant.path, false);
    const stoppedAt = performance.now();
    await sleep(TAIL_MS);
    await load.end();
    await sleep(2_000); // what still is to be reported
    const { one } = await copies.order<Record<string, { calls: number; cost: number }>>(0, { do: "served" });
    const { settled, held } = await house.budget(grant.path);
    return {
      callsPerSecond,
      terminateMs: stoppedAt - askedAt,
      lastCallMs: Math.max(0, lastAt - stoppedAt),
      fenceMs: fence.at - endedAt,
      answered,
      served: one?.calls ?? 0,
      charged: settled + held,
    };
  } finally {
    await copies.end();
  }
}

/** A child without a budget calls in two hundred narrowings of its token and is refused; its parent is ended meanwhile. */
export async function hammerRefusals(): Promise<{
  readonly refusalsPerSecond: number;
  readonly admitted: number;
  readonly terminateMs: number;
}> {
  const copies = await Copies.start();
  try {
    const house = await Household.make(copies, { tier: "pro" });
    const { grant, token } = await house.open(1e9);
    const child = await narrow(token, { act: "hostile", budget: 0 as Micros });
    const targets: Target[] = [
      { port: copies.port("plain"), path: "/agents/wide/default?run=none&cost=1", token: child },
    ];
    for (let i = 1; i < HOSTILE_TOKENS; i++)
      targets.push({ ...(targets[0] as Target), token: await narrow(child, { act: "again" }) });
    const seen = { refused: 0, admitted: 0 };
    const load = keepDriving(targets, ({ status }) => {
      if (status === 200) seen.admitted++;
      else seen.refused++;
    });
    await sleep(WARM_UP_MS);
    const [before, start] = [seen.refused, performance.now()];
    await sleep(DRIVE_MS);
    const refusalsPerSecond = ((seen.refused - before) * 1_000) / (performance.now() - start);
    const askedAt = performance.now();
    await house.end(grant.path, false);
    const terminateMs = performance.now() - askedAt;
    await load.end();
    return { refusalsPerSecond, admitted: seen.admitted, terminateMs };
  } finally {
    await copies.end();
  }
}

function keepDriving(targets: readonly Target[], see: (answer: LoadAnswer) => void): { end(): Promise<unknown> } {
  let isOver = false;
  const driven = drive(targets, Math.max(CONNECTIONS, targets.length), (answer) => {
    see(answer);
    return !isOver;
  });
  return {
    end: () => {
      isOver = true;
      return driven;
    },
  };
}
