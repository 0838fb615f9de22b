// Simulated runs of budgets, leases and stops against the real object (docs/simulation.md): as many as asked, in
// processes of their own, until one breaks a promise. Then it is cut down, told step by step, and replayed by its seed.
import { fork, type ChildProcess } from "node:child_process";
import { availableParallelism } from "node:os";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";
import type { Shard, Told } from "../test/simulate/shard.ts";
import { nodeBinary, quietEnv } from "./lib/paths.mjs";
import { bold, dim, green, main, red, say, seconds, Sentence } from "./lib/term.mjs";

const HELP = `Simulated runs of the budget: random commands, faults and clocks, checked against a small model.

  npm run simulate -- --runs 1000            runs 0 to 999 of the seed of the day
  npm run simulate -- --seed 7 --run 42      one of them again, to the letter

  --seed N       a number; printed with every failure (default: drawn)
  --runs M       how many (default 100)
  --run K        only the K-th
  --commands K   of one run (default 200)
  --on WHERE     core: the object in node, over node:sqlite, thousands of runs (default)
                 object: the object in workerd, over RPC, tens of runs
  --jobs N       processes at once (default: 2 on core, 1 on object)
  --json         one JSON object at the end, nothing else
`;

const SHARD_RUNS = { core: 100, object: 25 };
const SCRIPT = fileURLToPath(new URL("../test/simulate/shard.ts", import.meta.url));

interface Sums {
  runs: number;
  calls: number;
  served: number;
  failure: Extract<Told, { kind: "failure" }> | null;
}

function count(name: string, text: string | undefined, otherwise: number): number {
  const value = text === undefined ? otherwise : Number(text);
  if (!Number.isSafeInteger(value) || value < 0) throw new Sentence(`--${name} is a whole number.`);
  return value;
}

const isWhere = (text: string): text is Shard["on"] => text === "core" || text === "object";

function readArgs() {
  const text = { type: "string" } as const;
  const yes = { type: "boolean", default: false } as const;
  const { values } = parseArgs({
    options: { seed: text, runs: text, run: text, commands: text, on: text, jobs: text, json: yes, help: yes },
  });
  const on = values.on ?? "core";
  if (!isWhere(on)) throw new Sentence("--on is core or object.");
  const only = values.run === undefined ? null : count("run", values.run, 0);
  return {
    ...values,
    on,
    seed: count("seed", values.seed, Math.floor(Math.random() * 0x7fffffff)),
    from: only ?? 0,
    to: only === null ? count("runs", values.runs, 100) : only + 1,
    commands: Math.max(2, count("commands", values.commands, 200)),
    jobs: Math.max(1, count("jobs", values.jobs, on === "core" ? Math.min(2, availableParallelism()) : 1)),
  };
}

/** One shard in a process of its own; resolves when it is done. */
function runShard(shard: Shard, children: Set<ChildProcess>, tell: (told: Told) => void): Promise<void> {
  const child = fork(SCRIPT, {
    execPath: nodeBinary(),
    execArgv: ["--disable-warning=ExperimentalWarning", "--max-semi-space-size=64"],
    serialization: "advanced",
    env: quietEnv(),
  });
  children.add(child);
  let isDone = false;
  child.on("message", (told: Told) => {
    if (told.kind === "done") isDone = true;
    else tell(told);
  });
  child.send(shard);
  return new Promise((resolve, reject) => {
    child.once("close", (code, signal) => {
      children.delete(child);
      if (isDone || signal === "SIGTERM") resolve();
      else reject(new Sentence(`A process of the simulation ended with ${String(code ?? signal)}.`));
    });
  });
}

await main(async () => {
  const args = readArgs();
  if (args.help) return say(HELP);
  const { on, seed, from, to, commands, jobs, json } = args;
  const shards: Shard[] = [];
  for (let at = from; at < to; at += SHARD_RUNS[on])
    shards.push({ on, seed, from: at, to: Math.min(to, at + SHARD_RUNS[on]), commands });
  const sums: Sums = { runs: 0, calls: 0, served: 0, failure: null };
  const began = Date.now();
  const children = new Set<ChildProcess>();
  const isLive = process.stdout.isTTY && !json;
  if (!json) say(`${bold(`${to - from} runs`)} of ${commands} commands on ${on}, seed ${bold(String(seed))}`);
  const tell = (told: Told): void => {
    if (told.kind === "run") {
      sums.runs++;
      sums.calls += told.calls;
      sums.served += told.served;
      const progress = `${sums.runs} of ${to - from}, ${seconds(Date.now() - began)}`;
      if (isLive) process.stdout.write(`\r${dim(progress)} `);
      else if (!json && (sums.runs * 10) % (to - from) < 10 && sums.runs < to - from) say(progress);
    } else if (told.kind === "failure") {
      if (sums.failure === null || told.number < sums.failure.number) sums.failure = told;
      shards.length = 0;
    }
  };
  let interrupted: number | null = null;
  const stop = (status: number): void => {
    interrupted = status;
    shards.length = 0;
    for (const child of children) child.kill("SIGTERM");
  };
  process.once("SIGINT", () => stop(130));
  process.once("SIGTERM", () => stop(143));
  await Promise.all(
    Array.from({ length: jobs }, async () => {
      for (let shard = shards.shift(); shard !== undefined; shard = shards.shift())
        await runShard(shard, children, tell);
    }),
  );
  if (isLive) process.stdout.write("\r\u001b[K");
  if (interrupted !== null && sums.failure === null) {
    console.error(`Interrupted after ${sums.runs} of ${to - from} runs of seed ${seed}; none of them broke a promise.`);
    return interrupted;
  }
  const ms = Date.now() - began;
  if (json) say(JSON.stringify({ on, seed, from, commands, ...sums, ms }));
  else tellHuman(sums, { on, seed, ms, commands });
  return sums.failure === null ? 0 : 1;
});

function tellHuman(
  { runs, calls, served, failure }: Sums,
  at: { on: string; seed: number; ms: number; commands: number },
): void {
  if (failure === null) {
    const held = `in ${seconds(at.ms)}: every promise held`;
    say(`${green("✓")} ${runs} runs, ${calls} calls, ${served} of them served, ${held}`);
    return;
  }
  const { number, failure: found } = failure;
  say(`${red("✗")} run ${number} of seed ${at.seed} broke a promise; ${found.commands.length} commands are enough:\n`);
  for (const line of found.history) say(`  ${line}`);
  say(`\n  ${red(found.message)}\n`);
  say(`Again: npm run simulate -- --on ${at.on} --seed ${at.seed} --run ${number} --commands ${at.commands}`);
}
