// npm run bench -- stop [--json] [--rounds=20] [--sizes=100,1000,5000]: that stop means stopped, under load, measured from
// outside. Each round: 8 callers over HTTP at three levels of delegation and 50 sockets over 5 objects, and a DELETE in
// the middle; then how long it takes until the last of many clients has its close frame.
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { WebSocket } from "ws";
import { startServer } from "../scripts/lib/serve.mjs";
import { main, say } from "../scripts/lib/term.mjs";
import type { AgentSession } from "../sdk/client.ts";
import { Member, type RegisteredAgent } from "../test/support/conformance/people.ts";

const LEASE_MS = 2_000; // of legate.config.ts
const SOCKETS = 50;
const OBJECTS = 5;
const SESSION_SOCKETS_MAX = 1_000;
const LOOKUP = "/agents/researcher/default/lookup?q=coral";
const QUESTION = JSON.stringify({ question: "What do corals need?" });

const option = (name: string, otherwise: string) =>
  process.argv.find((arg) => arg.startsWith(`--${name}=`))?.split("=", 2)[1] ?? otherwise;
const sleep = (ms: number) => new Promise((wake) => setTimeout(wake, ms));

interface Report {
  readonly endedAt: number;
  readonly fence: { readonly at: number };
}

let url = "";
let operator: Member;

function openSocket(session: { token: string }, instance: string): Promise<WebSocket> {
  const ws = new WebSocket(`${url.replace("http", "ws")}/agents/researcher/${instance}`, {
    headers: { authorization: `Bearer ${session.token}` },
  });
  return new Promise((resolve, reject) => {
    ws.once("open", () => resolve(ws));
    ws.once("error", reject);
  });
}

async function openMany(session: AgentSession, many: number): Promise<WebSocket[]> {
  const token = await session.token();
  const sockets: WebSocket[] = [];
  while (sockets.length < many) {
    const batch = Array.from({ length: Math.min(25, many - sockets.length) }, (_, i) =>
      openSocket({ token }, `many${(sockets.length + i) % OBJECTS}`),
    );
    sockets.push(...(await Promise.all(batch)));
  }
  for (const ws of sockets) ws.on("error", () => {});
  return sockets;
}

const end = async (id: string, wait: boolean): Promise<Report> =>
  (await operator.browser.done("DELETE", `/admin/agents/sessions/${id}${wait ? "" : "?wait=0"}`, {
    json: { reason: "bench" },
  })) as unknown as Report;

/** @returns whether it was answered as a call that was admitted; a connection that broke was none */
async function call(token: string): Promise<boolean> {
  try {
    const answer = await fetch(`${url}${LOOKUP}`, { headers: { authorization: `Bearer ${token}` } });
    await answer.arrayBuffer();
    return answer.ok;
  } catch {
    return false;
  }
}

/** One stop under load. Whatever was sent before the answer does not count, whenever it was answered. */
async function round(agent: RegisteredAgent) {
  const root = await agent.open();
  const child = await root.spawn("reader");
  const grandchild = await child.spawn("skimmer");
  const line = [root, child, grandchild];
  let stoppedAt = Infinity;
  const state = { isOver: false };
  const seen = { admitted: 0, served: 0, calls: 0, messages: 0 };
  const callers = Array.from({ length: 8 }, async (_, i) => {
    const token = await (line[i % line.length] as AgentSession).token();
    while (!state.isOver) {
      const sentAt = performance.now();
      const isAdmitted = await call(token);
      if (isAdmitted) seen.calls++;
      if (isAdmitted && sentAt > stoppedAt) seen.admitted++;
      await sleep(20);
    }
  });
  const sockets = await openMany(root, SOCKETS);
  const chat = sockets.map(async (ws, i) => {
    let askedAt = 0;
    ws.on("message", (data) => {
      if (!(data as Buffer).toString().includes("findings")) return;
      seen.messages++;
      if (askedAt > stoppedAt) seen.served++;
    });
    await sleep(i * 10);
    while (!state.isOver && ws.readyState === WebSocket.OPEN) {
      askedAt = performance.now();
      ws.send(QUESTION);
      await sleep(250);
    }
  });
  await sleep(1_500);
  const { endedAt, fence } = await end(root.id, true);
  stoppedAt = performance.now();
  await sleep(1_000);
  const open = sockets.filter((ws) => ws.readyState === WebSocket.OPEN).length;
  await sleep(300);
  state.isOver = true;
  await Promise.all([...callers, ...chat]);
  for (const ws of sockets) ws.terminate();
  return { ...seen, open, fenceMs: fence.at - endedAt };
}

/** Until the last of so many clients has its close frame. */
async function stopMany(agent: RegisteredAgent, member: Member, many: number) {
  const sockets: WebSocket[] = [];
  const sessions: AgentSession[] = [];
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
  while (sockets.some((ws) => ws.readyState === WebSocket.OPEN)) {
    await sleep(5);
    if (performance.now() - from > 60_000) break;
  }
  const took = performance.now() - from;
  await stopped;
  for (const ws of sockets) ws.terminate();
  return Math.round(took);
}

await main(async () => {
  const stateDir = mkdtempSync(join(tmpdir(), "legate-bench-"));
  const server = await startServer({ stateDir });
  url = server.url;
  try {
    operator = await Member.signUp(url, server.secrets["LEGATE_BOOTSTRAP"]);
    const member = await Member.signUp(url);
    const json = { tier: "admin", reason: "no rate windows" };
    await operator.browser.done("PATCH", `/admin/users/${member.id}`, { json });
    const agent = await member.registerAgent({ budget: 40_000_000 });

    const quiet = await agent.open();
    const began = performance.now();
    const { endedAt, fence } = await end(quiet.id, true);
    const without = { fence: fence.at - endedAt, answer: performance.now() - began };

    const rounds: Awaited<ReturnType<typeof round>>[] = [];
    for (let i = 0; i < Number(option("rounds", "20")); i++) rounds.push(await round(agent));
    const growth: Record<string, number | null> = {};
    for (const size of option("sizes", "100,1000,5000").split(",").map(Number))
      // Null: this machine's server did not hold so many (each takes two file descriptors in each of its processes).
      growth[`stop_${size}_sockets_ms`] = await stopMany(agent, member, size).catch(() => null);

    const sum = (of: "admitted" | "served" | "open" | "calls" | "messages") =>
      rounds.reduce((total, one) => total + one[of], 0);
    const result = {
      rounds: rounds.length,
      calls: sum("calls"),
      messages: sum("messages"),
      admitted_after_fence: sum("admitted"),
      served_after_fence: sum("served"),
      sockets_open_after_1s: sum("open"),
      fence_ms_over_lease: Math.max(0, ...rounds.map(({ fenceMs }) => fenceMs - LEASE_MS)),
      fence_ms_without_lease: without.fence,
      answer_ms_without_lease: Math.round(without.answer),
      ...growth,
    };
    if (process.argv.includes("--json")) say(JSON.stringify(result));
    else for (const [name, value] of Object.entries(result)) say(`${name.padEnd(26)} ${value}`);
    const isStopped = sum("admitted") + sum("served") + sum("open") === 0;
    const isQuick = result.fence_ms_over_lease <= 2_200 && result.fence_ms_without_lease <= 50;
    return isStopped && isQuick && (growth["stop_1000_sockets_ms"] ?? Infinity) <= 3_000 ? 0 : 1;
  } finally {
    await server.stop();
    rmSync(stateDir, { recursive: true, force: true });
  }
});
