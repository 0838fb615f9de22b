// npm run bench -- stop [--json] [--rounds 3] [--sockets 100,1000]: that stop means stopped, under load, measured from
// outside. Each round: 8 callers over HTTP, as fast as they are answered, at three levels of delegation, and 50 sockets
// over 5 objects that talk, and a DELETE in the middle; then how long it takes until the last of many clients has its
// close frame. The full run: --rounds 20 --sockets 100,1000,5000, some six minutes.
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { WebSocket } from "ws";
import { startServer } from "../scripts/lib/serve.mjs";
import { main, say } from "../scripts/lib/term.mjs";
import { Member, send, type RegisteredAgent } from "../test/support/conformance/people.ts";
import { Plain } from "../test/support/conformance/plain.ts";
import { drive } from "../test/support/copies/load.ts";

const LEASE_MS = 2_000; // of legate.config.ts
const CALLERS = 8;
const SOCKETS = 50;
const OBJECTS = 5;
const SESSION_SOCKETS_MAX = 1_000;
const LOAD_MS = 1_500; // before the stop
const WARM_CALLS = 50; // whatever is cold answers by then
const TALK_MS = 1_000; // each socket's messages: the machine is the callers' otherwise
const PATHS = ["/agents/planner/default/history", "/agents/researcher/default/lookup?q=coral"];
const QUESTION = JSON.stringify({ question: "What do corals need?" });

function option(name: string, otherwise: string): string {
  const at = process.argv.findIndex((arg) => arg === `--${name}` || arg.startsWith(`--${name}=`));
  if (at === -1) return otherwise;
  return process.argv[at]?.split("=", 2)[1] ?? process.argv[at + 1] ?? otherwise;
}
const sleep = (ms: number) => new Promise((wake) => setTimeout(wake, ms));

interface Report {
  readonly state: string;
  readonly endedAt: number;
  readonly fence: { readonly at: number };
}

let url = "";
let operator: Member;

/** An open socket, and when its client had the close frame. */
interface Held {
  readonly ws: WebSocket;
  closedAt: number | null;
}

function openSocket(at: string, token: string, instance: string): Promise<Held> {
  const ws = new WebSocket(`${at.replace("http", "ws")}/agents/researcher/${instance}`, {
    headers: { authorization: `Bearer ${token}` },
  });
  const held: Held = { ws, closedAt: null };
  // The frame itself: workerd keeps the connection below it for another ten seconds.
  const receiver = () => (ws as unknown as { _receiver: NodeJS.EventEmitter })._receiver;
  return new Promise((resolve, reject) => {
    ws.once("open", () => {
      receiver().once("conclude", () => (held.closedAt = performance.now()));
      resolve(held);
    });
    ws.once("error", reject);
  });
}

async function openMany(at: string, token: string, many: number): Promise<Held[]> {
  const sockets: Held[] = [];
  while (sockets.length < many) {
    const batch = Array.from({ length: Math.min(25, many - sockets.length) }, (_, i) =>
      openSocket(at, token, `many${(sockets.length + i) % OBJECTS}`),
    );
    sockets.push(...(await Promise.all(batch)));
  }
  for (const { ws } of sockets) ws.on("error", () => {});
  return sockets;
}

const end = async (id: string, wait: boolean): Promise<Report> =>
  (await operator.browser.done("DELETE", `/admin/agents/sessions/${id}${wait ? "" : "?wait=0"}`, {
    json: { reason: "bench" },
  })) as unknown as Report;

/** One stop under load. What was sent before the answer does not count, whenever it was answered. */
async function round(agent: RegisteredAgent) {
  const root = await agent.open();
  const child = await root.spawn("reader");
  const grandchild = await child.spawn("skimmer");
  const tokens = await Promise.all([root, child, grandchild].map((one) => one.token()));
  const sockets = await openMany(url, tokens[0] as string, SOCKETS);
  let stoppedAt = Infinity;
  const state = { isOver: false };
  const seen = { admitted: 0, served: 0, calls: 0, messages: 0 };
  const targets = Array.from({ length: CALLERS }, (_, i) => ({
    port: Number(new URL(url).port),
    path: PATHS[i % 4 === 3 ? 1 : 0] as string,
    token: tokens[i % tokens.length] as string,
  }));
  const callers = drive(targets, CALLERS, async ({ status }, startedAt) => {
    if (status === 200) {
      seen.calls++;
      if (startedAt > stoppedAt) seen.admitted++;
    } else await sleep(20); // refused: as fast as a client that does not believe it
    return !state.isOver;
  });
  const chat = sockets.map(async ({ ws }, i) => {
    let askedAt = 0;
    ws.on("message", (data) => {
      if (!(data as Buffer).toString().includes("findings")) return;
      seen.messages++;
      if (askedAt > stoppedAt) seen.served++;
    });
    await sleep((i * TALK_MS) / SOCKETS);
    while (!state.isOver && ws.readyState === WebSocket.OPEN) {
      askedAt = performance.now();
      ws.send(QUESTION);
      await sleep(TALK_MS);
    }
  });
  while (seen.calls < WARM_CALLS) await sleep(10);
  const [warm, warmAt] = [seen.calls, performance.now()];
  await sleep(LOAD_MS);
  const askedAt = performance.now();
  const callsSecond = Math.round(((seen.calls - warm) * 1_000) / (askedAt - warmAt));
  const report = await end(root.id, true);
  stoppedAt = performance.now();
  await sleep(1_000);
  const open = sockets.filter(({ closedAt }) => closedAt === null).length;
  await sleep(300);
  state.isOver = true;
  await Promise.all([callers, ...chat]);
  for (const { ws } of sockets) ws.terminate();
  return {
    ...seen,
    open,
    isTerminal: report.state === "terminal",
    fenceMs: report.fence.at - report.endedAt,
    answerMs: Math.round(stoppedAt - askedAt),
    callsSecond,
  };
}

/** A user's sessions for so many sockets, opened where there is a D1. */
interface Prepared {
  readonly many: number;
  readonly user: string;
  readonly sessions: readonly { readonly id: string; readonly token: string }[];
}

async function prepare({ member, agent }: { member: Member; agent: RegisteredAgent }, many: number): Promise<Prepared> {
  const sessions: { id: string; token: string }[] = [];
  for (let left = many; left > 0; left -= SESSION_SOCKETS_MAX) {
    const session = await agent.open();
    sessions.push({ id: session.id, token: await session.token() });
  }
  return { many, user: member.id, sessions };
}

/** Until the last of so many clients has its close frame: one session's by its stop, more by their user's. */
async function stopMany(at: string, { many, user, sessions }: Prepared): Promise<number> {
  const sockets: Held[] = [];
  try {
    for (const { token } of sessions)
      sockets.push(...(await openMany(at, token, Math.min(many - sockets.length, SESSION_SOCKETS_MAX))));
    const [one, ...more] = sessions;
    const [method, path] =
      more.length === 0 ? ["DELETE", `/admin/agents/sessions/${one?.id}`] : ["POST", `/admin/users/${user}/stop`];
    const headers = { origin: url, cookie: operator.browser.cookie };
    const from = performance.now();
    const stopped = send(`${at}${path}?wait=0`, method, { headers, json: { reason: "bench" } });
    while (sockets.some(({ closedAt }) => closedAt === null)) {
      await sleep(5);
      if (performance.now() - from > 60_000) throw new Error(`${many} sockets: some were open after a minute`);
    }
    const { status, text } = await stopped;
    if (status !== 200) throw new Error(text);
    return Math.round(Math.max(...sockets.map(({ closedAt }) => closedAt ?? Infinity)) - from);
  } finally {
    for (const { ws } of sockets) ws.terminate();
  }
}

function spread(numbers: readonly number[]): { least: number; median: number; most: number } {
  const sorted = numbers.toSorted((a, b) => a - b);
  const at = (share: number) => sorted[Math.floor((sorted.length - 1) * share)] ?? NaN;
  return { least: at(0), median: at(0.5), most: at(1) };
}

/**
 * By plain workerd, on the same objects: in `wrangler dev` each socket passes through one more process, and five thousand
 * meet its bound on descriptors.
 */
async function grow(
  server: { stop(): Promise<void>; readonly secrets: Readonly<Record<string, string>>; readonly stateDir: string },
  tell: (line: string) => void,
  make: (many: number) => Promise<Prepared>,
): Promise<Record<string, ReturnType<typeof spread>>> {
  const sizes = option("sockets", "100,1000").split(",").map(Number);
  const all: Prepared[] = [];
  // Once for the largest, which takes the longest to open.
  for (const size of sizes) for (let i = 0; i < (size > SESSION_SOCKETS_MAX ? 1 : 3); i++) all.push(await make(size));
  await server.stop();
  const folder = mkdtempSync(join(tmpdir(), "legate-bench-plain-"));
  const objectsDir = join(server.stateDir, "state/v3/do");
  const took = new Map<number, number[]>();
  try {
    const plain = await Plain.build({ folder, objectsDir, issuer: url, secrets: server.secrets });
    const edge = await plain.start();
    try {
      for (const one of all) {
        const openedAt = performance.now();
        const ms = await stopMany(edge.url, one);
        took.set(one.many, [...(took.get(one.many) ?? []), ms]);
        tell(`· ${one.many} sockets: ${ms} ms, of ${Math.round(performance.now() - openedAt)} with their opening`);
      }
    } finally {
      await edge.stop();
    }
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
  return Object.fromEntries([...took].map(([size, times]) => [`stop_${size}_sockets_ms`, spread(times)]));
}

await main(async () => {
  const stateDir = mkdtempSync(join(tmpdir(), "legate-bench-"));
  const server = await startServer({ stateDir });
  url = server.url;
  const started = async () => {
    const member = await Member.signUp(url);
    const json = { tier: "admin", reason: "no rate windows" };
    await operator.browser.done("PATCH", `/admin/users/${member.id}`, { json });
    return { member, agent: await member.registerAgent({ budget: 40_000_000 }) };
  };
  try {
    operator = await Member.signUp(url, server.secrets["LEGATE_BOOTSTRAP"]);
    const { agent } = await started();
    const quiet = await agent.open();
    const began = performance.now();
    const { endedAt, fence } = await end(quiet.id, true);
    const without = { fence: fence.at - endedAt, answer: performance.now() - began };

    const tell = (line: string) => (process.argv.includes("--json") ? undefined : say(line));
    const rounds: Awaited<ReturnType<typeof round>>[] = [];
    for (let i = 0; i < Number(option("rounds", "3")); i++) {
      const one = await round(agent);
      rounds.push(one);
      tell(`· round ${i + 1}: ${one.callsSecond} calls a second, answered after ${one.answerMs} ms`);
    }
    const growth = await grow({ ...server, stateDir }, tell, async (many) => prepare(await started(), many));

    const sum = (of: "admitted" | "served" | "open" | "calls" | "messages") =>
      rounds.reduce((total, one) => total + one[of], 0);
    const result = {
      rounds: rounds.length,
      calls: sum("calls"),
      calls_second: spread(rounds.map(({ callsSecond }) => callsSecond)),
      messages: sum("messages"),
      admitted_after_fence: sum("admitted"),
      served_after_fence: sum("served"),
      sockets_open_after_1s: sum("open"),
      not_terminal: rounds.filter(({ isTerminal }) => !isTerminal).length,
      fence_ms_over_lease: spread(rounds.map(({ fenceMs }) => fenceMs - LEASE_MS)),
      answer_ms: spread(rounds.map(({ answerMs }) => answerMs)),
      fence_ms_without_lease: without.fence,
      answer_ms_without_lease: Math.round(without.answer),
      ...growth,
    };
    if (process.argv.includes("--json")) say(JSON.stringify(result));
    else
      for (const [name, value] of Object.entries(result))
        say(`${name.padEnd(26)} ${typeof value === "number" ? value : Object.values(value).join(" / ")}`);
    const isStopped = sum("admitted") + sum("served") + sum("open") + result.not_terminal === 0;
    const isQuick = rounds.every(({ fenceMs }) => fenceMs - LEASE_MS <= 2_200) && result.fence_ms_without_lease <= 50;
    return isStopped && isQuick && (growth["stop_1000_sockets_ms"]?.most ?? 0) <= 3_000 ? 0 : 1;
  } finally {
    await server.stop();
    rmSync(stateDir, { recursive: true, force: true });
  }
});
