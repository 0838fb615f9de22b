/**
 * `npm run bench -- verify`: what it costs to check a session token, as ratios to one raw `crypto.subtle` HMAC over the
 * same bytes. Everything is measured inside workerd, in one isolate and one run; microseconds are of this machine, the
 * ratios are what carries over.
 *
 *   --json        prints {"figures": …} alone
 *   --rounds <n>  interleaved rounds (default 30)
 */
import { tmpdir } from "node:os";
import { join } from "node:path";
import { parseArgs } from "node:util";
import { summarise, type Summary } from "./lib/summary.ts";

// wrangler reads these when it loads: it neither asks, nor reports, nor writes outside the temporary folder.
Object.assign(process.env, {
  CI: "true",
  WRANGLER_SEND_METRICS: "false",
  WRANGLER_HIDE_BANNER: "true",
  WRANGLER_LOG: "error",
  WRANGLER_LOG_PATH: join(tmpdir(), "legate-bench-logs"),
  WRANGLER_REGISTRY_PATH: join(tmpdir(), "legate-bench-registry"),
  CLOUDFLARE_CF_FETCH_ENABLED: "false",
  X_LOCAL_OBSERVABILITY: "false",
});
const { createTestHarness } = await import("wrangler");

const { values: options } = parseArgs({
  options: { json: { type: "boolean", default: false }, rounds: { type: "string", default: "30" } },
});
const rounds = Number(options.rounds);
if (!Number.isInteger(rounds) || rounds < 5) throw new Error("--rounds takes a whole number of at least 5");

const GOALS: Record<string, { readonly goal: number; readonly atMost: boolean }> = {
  verify_cold_over_raw: { goal: 3.2, atMost: true },
  verify_remembered_over_raw: { goal: 0.35, atMost: true },
  es256_over_verify_cold: { goal: 8, atMost: false },
};

const LABELS: Record<string, string> = {
  raw: "raw crypto.subtle HMAC-SHA256, key held",
  cold_0: "ours, cold, plain",
  cold_1: "ours, cold, narrowed once",
  cold_4: "ours, cold, narrowed 4 times",
  cold_8: "ours, cold, narrowed 8 times",
  remembered: "ours, remembered, header read",
  jose_hs256: "jose HS256",
  jose_es256: "jose ES256",
};

async function measure(): Promise<Record<string, number>[]> {
  const harness = createTestHarness({
    workers: [{ configPath: join(import.meta.dirname, "workerd/verify.wrangler.jsonc") }],
  });
  try {
    const { url } = await harness.listen();
    const response = await fetch(new URL(`/?rounds=${rounds}`, url));
    if (!response.ok) throw new Error(`the bench Worker answered ${response.status}: ${await response.text()}`);
    return (await response.json()) as Record<string, number>[];
  } finally {
    await harness.close();
  }
}

const samples = await measure();
const of = (name: string) => samples.map((round) => round[name] as number);
/** Round by round, so that what slows a whole round cancels out. */
const ratio = (over: string, under: string) =>
  summarise(of(over).map((value, round) => value / (of(under)[round] as number)));

const ratios: Record<string, Summary> = {
  verify_cold_over_raw: ratio("cold_0", "raw"),
  verify_cold_depth_1_over_raw: ratio("cold_1", "raw"),
  verify_cold_depth_4_over_raw: ratio("cold_4", "raw"),
  verify_cold_depth_8_over_raw: ratio("cold_8", "raw"),
  verify_remembered_over_raw: ratio("remembered", "raw"),
  jose_hs256_over_verify_cold: ratio("jose_hs256", "cold_0"),
  es256_over_verify_cold: ratio("jose_es256", "cold_0"),
};
const round = (value: number) => Number(value.toPrecision(3));

if (options.json) {
  const figures: Record<string, number> = {};
  for (const name of Object.keys(LABELS)) figures[`${name}_us`] = round(summarise(of(name)).median);
  for (const [name, { median }] of Object.entries(ratios)) figures[name] = round(median);
  console.log(JSON.stringify({ figures }));
} else {
  const row = (label: string, { median, p10, p90 }: Summary, note = "") =>
    console.log(
      `  ${label.padEnd(42)}${median.toFixed(2).padStart(8)}${`${p10.toFixed(2)} – ${p90.toFixed(2)}`.padStart(19)}  ${note}`.trimEnd(),
    );
  console.log(`Checking a session token, inside workerd (${rounds} interleaved rounds)\n`);
  console.log(`  ${"microseconds".padEnd(42)}${"median".padStart(8)}${"10 % – 90 %".padStart(19)}`);
  for (const [name, label] of Object.entries(LABELS)) row(label, summarise(of(name)));
  console.log(`\n  ${"ratios".padEnd(42)}`);
  for (const [name, summary] of Object.entries(ratios)) {
    const goal = GOALS[name];
    const met = goal === undefined || (goal.atMost ? summary.median <= goal.goal : summary.median >= goal.goal);
    row(
      name,
      summary,
      goal === undefined ? "" : `goal ${goal.atMost ? "≤" : "≥"} ${goal.goal}${met ? "" : "  MISSED"}`,
    );
  }
}
