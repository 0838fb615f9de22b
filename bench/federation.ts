/**
 * `npm run bench -- federation`: what a credential costs that is kept, as a ratio to the exchange with a real STS, and how
 * many exchanges there are. Times are taken inside workerd, by an agents' Worker that asks its service binding; the STS is a
 * Ceph on this machine's loopback, the nearest there can be, so the ratio is the worst there can be.
 *
 *   --json        prints {"figures": …} alone
 *   --rounds <n>  exchanges, each followed by warm answers with the same credential (default 20)
 */
import { createServer, request as forward } from "node:http";
import type { AddressInfo } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { parseArgs } from "node:util";
import type { LegateConfigInput } from "../core/config.ts";
import { input } from "../legate.config.ts";
import { newOidcKey } from "../scripts/lib/oidc-key.mjs";
import { main, say, Sentence } from "../scripts/lib/term.mjs";
import { aptLine, TOOLS } from "../scripts/lib/tools.mjs";
import { Ceph } from "../test/support/ceph.ts";
import { Member } from "../test/support/conformance/people.ts";
import { once, summarise, type Summary } from "./lib/summary.ts";

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

const COLD = 1_000;
const WARM = 100; // answers of a round
const GOALS: Readonly<Record<string, number>> = {
  exchanges_for_1000_cold: 1,
  exchanges_after_eviction: 0,
  warm_over_exchange: 0.05,
};

/** Passes everything on to the STS, and counts the exchanges: what it saw, and nobody's word for it. */
async function counting(sts: string): Promise<{ readonly url: string; count(): number; end(): void }> {
  let exchanges = 0;
  const server = createServer((asked, answer) => {
    if (asked.method === "POST") exchanges++;
    const { hostname, port } = new URL(sts);
    const { url: path, method, headers } = asked;
    const on = forward({ hostname, port, path, method, headers }, (got) => {
      answer.writeHead(got.statusCode ?? 502, got.headers);
      got.pipe(answer);
    });
    on.once("error", () => answer.destroy());
    asked.pipe(on);
  });
  await new Promise<void>((ready) => server.listen(0, "127.0.0.1", ready));
  const url = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
  return { url, count: () => exchanges, end: () => server.close().closeAllConnections() };
}

/** The clock inside workerd goes by milliseconds: ten answers together are told apart by it. */
function tens(tookMs: readonly number[]): number[] {
  const groups = Array.from({ length: Math.floor(tookMs.length / 10) }, (_, i) => tookMs.slice(10 * i, 10 * i + 10));
  return groups.map((group) => group.reduce((sum, ms) => sum + ms, 0) / group.length);
}

const aliases = (rounds: number) => Array.from({ length: rounds }, (_, i) => `timed-${i}`);

function deployment(sts: string, counted: string, rounds: number): LegateConfigInput {
  const names = [...aliases(rounds), "counted"];
  return {
    ...input,
    scopes: [
      ...input.scopes,
      ...names.map((alias) => ({ name: `aws:${alias}`, leastTier: "free" as const, description: "The bench's." })),
    ],
    roles: names.map((alias) => ({
      provider: "aws" as const,
      alias,
      atRest: "encrypted" as const,
      roleArn: "arn:aws:iam:::role/bench",
      region: "default",
      endpoint: alias === "counted" ? counted : sts,
      requiredTier: "free" as const,
    })),
  };
}

interface Measured {
  readonly exchangeMs: readonly number[];
  readonly warmMs: readonly number[];
  readonly coldCallers: number;
  readonly coldExchanges: number;
  readonly afterEviction: number;
}

async function measure(rounds: number): Promise<Measured> {
  const { Variant } = await import("../test/support/conformance/variant.ts");
  const ceph = await Ceph.start();
  const counter = await counting(ceph.endpoint);
  const variant = await Variant.start({
    input: deployment(ceph.endpoint, counter.url, rounds),
    agents: "bench/workerd/federation.ts",
    vars: { LEGATE_OIDC_KEYS: JSON.stringify([newOidcKey()]) },
  });
  try {
    await variant.migrate();
    await ceph.trust(variant.url);
    await ceph.role("bench", variant.url, [{ Effect: "Allow", Action: "s3:*", Resource: "*" }]);
    const member = await Member.signUp(variant.url);
    const scope = ["research", ...[...aliases(rounds), "counted"].map((alias) => `aws:${alias}`)];
    const session = await (await member.registerAgent({ scope: scope.join(" ") })).open({ scope });
    const token = await session.token();
    const order = async (alias: string, times: number, atOnce: boolean) => {
      const body = JSON.stringify({ token, alias, times, atOnce });
      const answer = await session.fetch("/agents/researcher/default/measure", { method: "POST", body });
      if (!answer.ok) throw new Error(`${answer.status} ${await answer.text()}`);
      return (await answer.json()) as { tookMs: number[]; credentials: number };
    };
    const exchangeMs: number[] = [];
    const warmMs: number[] = [];
    for (const alias of aliases(rounds)) {
      const [first = 0, ...rest] = (await order(alias, 1 + WARM, false)).tookMs;
      exchangeMs.push(first);
      warmMs.push(summarise(tens(rest)).median);
    }
    const cold = await order("counted", COLD, true);
    const coldExchanges = counter.count();
    if (cold.credentials !== 1) throw new Error(`${cold.credentials} credentials for one key`);
    await variant.evict(member.id);
    await order("counted", WARM, false);
    const afterEviction = counter.count() - coldExchanges;
    return { exchangeMs, warmMs, coldCallers: COLD, coldExchanges, afterEviction };
  } finally {
    await variant.end();
    counter.end();
    await ceph.end();
  }
}

await main(async () => {
  const { values: options } = parseArgs({
    options: { json: { type: "boolean", default: false }, rounds: { type: "string", default: "20" } },
  });
  const rounds = Number(options.rounds);
  if (!Number.isInteger(rounds) || rounds < 3 || rounds > 50) throw new Sentence("--rounds takes 3 to 50.");
  const tool = TOOLS["ceph"];
  if (!tool?.find()) throw new Sentence(`This needs Ceph's gateway: ${aptLine(tool?.packages ?? [])}`);
  const { exchangeMs, warmMs, coldExchanges, afterEviction } = await measure(rounds);
  const figures: Record<string, Summary> = {
    exchanges_for_1000_cold: once(coldExchanges),
    exchanges_after_eviction: once(afterEviction),
    exchange_ms: summarise(exchangeMs),
    warm_ms: summarise(warmMs),
    warm_over_exchange: summarise(warmMs.map((warm, round) => warm / (exchangeMs[round] as number))),
  };
  if (options.json) {
    const entries = Object.entries(figures).map(([name, { median }]) => [name, Number(median.toPrecision(3))]);
    say(JSON.stringify({ figures: Object.fromEntries(entries) as object }));
  } else print(figures, rounds);
});

function print(figures: Readonly<Record<string, Summary>>, rounds: number): void {
  say(
    `Credentials by RPC inside workerd, from a Ceph on loopback (${rounds} exchanges, ${WARM} warm answers after each)\n`,
  );
  say(`  ${"".padEnd(28)}${"median".padStart(10)}${"10 % – 90 %".padStart(20)}`);
  for (const [name, { median, p10, p90 }] of Object.entries(figures)) {
    const digits = p10 === p90 ? 0 : 3;
    const spread = p10 === p90 ? "" : `${p10.toFixed(digits)} – ${p90.toFixed(digits)}`;
    const goal = GOALS[name];
    const note = goal === undefined ? "" : `goal ≤ ${goal}${median <= goal ? "" : "  MISSED"}`;
    say(`  ${name.padEnd(28)}${median.toFixed(digits).padStart(10)}${spread.padStart(20)}  ${note}`.trimEnd());
  }
}
