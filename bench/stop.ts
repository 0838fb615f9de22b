// npm run bench -- stop [--json] [--rounds 3] [--sockets 100,1000]: that stop means stopped, under load, measured from
// outside. Each round: 8 callers over HTTP, as fast as they are answered, at three levels of delegation, and 50 sockets
// over 5 objects that talk, and a DELETE in the middle; then how long it takes until the last of many clients has its
// close frame. The full run: --rounds 20 --sockets 100,1000,5000, some four minutes.
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { WebSocket } from "ws";
import { startServer } from "../scripts/lib/serve.mjs";
import { main, say } from "../scripts/lib/term.mjs";
import type { AgentSession } from "../sdk/client.ts";
import { Member, type RegisteredAgent } from "../test/support/conformance/people.ts";
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

function openSocket(token: string, instance: string): Promise<Held> {
  const ws = new WebSocket(`${url.replace("http", "ws")}/agents/researcher/${instance}`, {
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

async function openMany(session: AgentSession, many: number): Promise<Held[]> {
  const token = await session.token();
  const sockets: Held[] = [];
  while (sockets.length < many) {
    const batch = Array.from({ length: Math.min(25, many - sockets.length) }, (_, i) =>
      openSocket(token, `many${(sockets.length + i) % OBJECTS}`),
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
  const sockets = await openMany(root, SOCKETS);
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

/** Until the last of so many clients has its close frame. */
async function stopMany(agent: RegisteredAgent, member: Member, many: number): Promise<number> {
  const sockets: Held[] = [];
  const sessions: AgentSession[] = [];
  try {
    for (let left = many; left > 0; left -= SESSION_SOCKETS_MAX) {
      const session = await agent.open();
      sessions.push(session);
      sockets.push(...(await openMany(session, Math.min(left, SESSION_SOCKETS_MAX))));
    }
    const from = performance.now();
    const stopped =
      sessions.length === 1
        ? end((sessions[0] as AgentSession).id, false)
        : operator.browser.done("POST", `/admin/users/${member.id}/stop?wait=0`, { json: { reason: "bench" } });
    while (sockets.some(({ closedAt }) => closedAt === null)) {
      await sleep(5);
      if (performance.now() - from > 60_000) throw new Error(`${many} sockets: some were open after a minute`);
    }
    await stopped;
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
    const growth: Record<string, ReturnType<typeof spread>> = {};
    for (const size of option("sockets", "100,1000").split(",").map(Number)) {
      const took: number[] = [];
      // A user of its own, for each may stop all there is of one; once for the largest, which takes the longest to open.
      for (let i = 0; i < (size > SESSION_SOCKETS_MAX ? 1 : 3); i++) {
        const { member, agent: own } = await started();
        const openedAt = performance.now();
        took.push(await stopMany(own, member, size));
        tell(`· ${size} sockets: ${took.at(-1)} ms, of ${Math.round(performance.now() - openedAt)} with their opening`);
      }
      growth[`stop_${size}_sockets_ms`] = spread(took);
    }

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
    const isQuick = result.fence_ms_over_lease.most <= 2_200 && result.fence_ms_without_lease <= 50;
    return isStopped && isQuick && (growth["stop_1000_sockets_ms"]?.most ?? 0) <= 3_000 ? 0 : 1;
  } finally {
    await server.stop();
    rmSync(stateDir, { recursive: true, force: true });
  }
});
