/** What `npm run bench -- admit` measures, each part on a plain workerd of its own or beside the others in one. */
import { get } from "node:http";
import { drive, driveFor, type Target } from "../../test/support/copies/load.ts";
import { Household, narrow } from "../../test/support/copies/scene.ts";
import { Copies } from "../../test/support/copies/workerd.ts";

const CONNECTIONS = 16;
/** Short, so that what else the machine does meets neighbours alike. */
const TURN_MS = 300;
/** Not measured, before each turn: by then the session has its lease again, which ended while the others had theirs. */
const LEAD_IN_MS = 300;
const WARM_UP_MS = 1_500;
const DEPTH = 3;

/** One number of each round, by name. */
export type Samples = Record<string, number>[];

/** One session, one isolate, evenly spaced calls by a virtual clock. */
export interface Spaced {
  readonly calls: number;
  readonly refused: number;
  readonly hops: number;
  readonly rows: number;
}

/**
 * Throughput and CPU of the gate, of what it is compared with, and of an entry that asks the object for each call.
 *
 * - `gate`: the edge as it is deployed, a counted entry, then the agent's object
 * - `same`: a Worker that sends the same status, headers and body, by the same hop to the same agent's object
 * - `same_alone`: the same without any hop
 * - `row_per_call`: the gate at a strict entry: a question, a hold row and its outcome for each call
 */
export async function compareAnswers(rounds: number): Promise<Samples> {
  const copies = await Copies.start();
  // A workerd of its own: what it still has to write and tell after a turn is not the others' work.
  const asking = await Copies.start();
  try {
    const target = async (on: Copies, socket: string, slug: string): Promise<Target> => ({
      port: on.port(socket),
      path: `/agents/${slug}/default`,
      token: (await (await Household.make(on, { tier: "pro" })).open(1e11)).token,
    });
    const gate = await target(copies, "plain", "meter");
    const beside: readonly (readonly [string, Target])[] = [
      ["gate", gate],
      ["same", { ...gate, port: copies.port("same") }],
      ["same_alone", { ...gate, port: copies.port("same-alone") }],
    ];
    const strict = await target(asking, "plain", "strict");
    await sameHeaders(copies, gate);
    for (const [, to] of [...beside, ["row_per_call", strict] as const]) await driveFor([to], CONNECTIONS, WARM_UP_MS);
    const samples: Samples = [];
    for (let round = 0; round < rounds; round++) {
      const sample: Record<string, number> = {};
      for (let i = 0; i < beside.length; i++) {
        const [name, to] = beside[(i + round) % beside.length] as (typeof beside)[number];
        await turn(copies, name, to, sample);
      }
      await turn(asking, "row_per_call", strict, sample);
      await rest(asking);
      samples.push(sample);
    }
    return samples;
  } finally {
    await Promise.all([copies.end(), asking.end()]);
  }
}

async function turn(on: Copies, name: string, to: Target, sample: Record<string, number>): Promise<void> {
  await driveFor([to], CONNECTIONS, LEAD_IN_MS);
  const before = on.cpuMs();
  const { calls, seconds, statuses } = await driveFor([to], CONNECTIONS, TURN_MS);
  if (statuses[200] !== calls) throw new Error(`${name} answered ${JSON.stringify(statuses)}`);
  sample[`${name}_calls_per_second`] = calls / seconds;
  sample[`${name}_cpu_us`] = ((on.cpuMs() - before) * 1_000) / calls;
}

/** Waits until a workerd has nothing left to do. */
async function rest(on: Copies): Promise<void> {
  for (let before = -Infinity, tries = 0; on.cpuMs() - before > 10 && tries < 20; tries++) {
    before = on.cpuMs();
    await new Promise((wake) => setTimeout(wake, 200));
  }
}

/** Tells the Worker that the gate is compared with which headers an answer of the gate's has. */
async function sameHeaders(copies: Copies, { port, path, token }: Target): Promise<void> {
  const answer = await fetch(`http://127.0.0.1:${port}${path}`, { headers: { authorization: `Bearer ${token}` } });
  await answer.arrayBuffer();
  const headers = Object.fromEntries([...answer.headers].filter(([name]) => !/^(content-length|transfer-)/.test(name)));
  await fetch(`http://127.0.0.1:${copies.port("same")}/`, { method: "PUT", body: JSON.stringify(headers) });
}

/** @returns what evenly spaced calls asked of the object, by lease and rate */
export async function countHops(
  cases: readonly { readonly leaseMs: number; readonly callsPerSecond: number; readonly calls: number }[],
): Promise<Spaced[]> {
  const copies = await Copies.start();
  try {
    const found: Spaced[] = [];
    for (const each of cases) {
      found.push(await copies.order<Spaced>(0, { do: "spaced", ...(await freshSession(copies)), ...each }));
    }
    return found;
  } finally {
    await copies.end();
  }
}

async function freshSession(copies: Copies, depth = 0): Promise<{ user: string; token: string }> {
  const house = await Household.make(copies);
  let { token } = await house.open(1e9);
  for (let i = 0; i < depth; i++) token = await narrow(token, { act: `helper-${i}` });
  return { user: house.id, token };
}

/** Rows that the object writes for counted calls at 500 a second, three nodes below their session. */
export async function countRows(calls: number): Promise<Spaced> {
  const copies = await Copies.start();
  try {
    const who = await freshSession(copies, DEPTH);
    return await copies.order<Spaced>(0, { do: "spaced", ...who, callsPerSecond: 500, calls, leaseMs: 2_000 });
  } finally {
    await copies.end();
  }
}

/** A message's admission and a bare call of the same service, microseconds each, by turns. */
export async function compareMessages(): Promise<{ readonly bare: number[]; readonly admit: number[] }> {
  const copies = await Copies.start();
  try {
    const { token } = await (await Household.make(copies)).open(1e9);
    const text = await new Promise<string>((resolve, reject) => {
      // An upgrade that the agent answers with a page: the only way to an envelope that may register.
      const headers = { connection: "Upgrade", upgrade: "websocket", authorization: `Bearer ${token}` };
      const path = "/agents/talk/default/messages?count=200";
      get({ host: "127.0.0.1", port: copies.port("plain"), path, headers }, (answer) => {
        let body = "";
        answer.on("data", (chunk: Buffer) => (body += String(chunk))).on("end", () => resolve(body));
      }).once("error", reject);
    });
    return JSON.parse(text) as { bare: number[]; admit: number[] };
  } finally {
    await copies.end();
  }
}

export interface Spent {
  readonly cap: number;
  /** What the agents' answers said, together. */
  readonly served: number;
  /** What the object counts as spent: never less. */
  readonly settled: number;
  readonly calls: number;
  readonly seconds: number;
}

/** Four copies of the edge spend one cap to its end, and one in ten questions or answers is lost on the way. */
export async function spendAll(cap: number): Promise<Spent> {
  const copies = await Copies.start({ copies: 4 });
  try {
    const house = await Household.make(copies);
    const { grant, token } = await house.open(cap);
    const losses = { losesQuestions: 0.05, losesAnswers: 0.05 };
    for (let i = 0; i < 4; i++) await copies.order(i, { do: "faults", faults: losses });
    const targets = Array.from({ length: 4 }, (_, i) => ({
      port: copies.port(`edge-${i}`),
      path: "/agents/wide/default?run=spend&most=10",
      token,
    }));
    const load = await drive(targets, CONNECTIONS, async ({ status, head }) => {
      const wait = Number(/\nretry-after: (\d+)/i.exec(head)?.[1] ?? 0);
      if (wait > 0) await new Promise((wake) => setTimeout(wake, wait * 1_000));
      return status !== 402;
    });
    await new Promise((wake) => setTimeout(wake, 3_000)); // what still is to be reported
    const told = await copies.order<Record<string, { cost: number }>>(0, { do: "served" });
    const { settled, held } = await house.budget(grant.path);
    const { calls, seconds } = load;
    return { cap, served: told["spend"]?.cost ?? 0, settled: settled + held, calls, seconds };
  } finally {
    await copies.end();
  }
}
