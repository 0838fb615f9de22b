// npm test: installs what is missing, runs every layer whose tools are there, and ends with one line of sums.
import { spawn } from "node:child_process";
import { existsSync, mkdtempSync, readFileSync, readdirSync, rmSync } from "node:fs";
import { constants, setPriority, tmpdir } from "node:os";
import { join } from "node:path";
import { install } from "./lib/install.mjs";
import { nodeBinary, ROOT, quietEnv } from "./lib/paths.mjs";
import { bold, green, main, red, say, seconds, yellow } from "./lib/term.mjs";
import { TOOLS, aptLine } from "./lib/tools.mjs";

/**
 * The layers in the order in which they are worth knowing: what breaks first is cheapest to find. One that only computes
 * runs `beside` another that mostly waits for sockets and timers, at a priority that takes nothing from it.
 */
const LAYERS = [
  { name: "core", needs: [] },
  { name: "workerd", needs: [] },
  { name: "conformance", needs: [] },
  { name: "ceph", needs: ["ceph"] },
  { name: "simulate", needs: [], beside: "conformance" },
  { name: "browser", needs: ["chromium"] },
];

const HELP = `Usage: npm test [-- <layer>… [vitest options or file filters]]

Layers: ${LAYERS.map(({ name }) => name).join(", ")}; all of them without a name.
A layer that lacks a tool is skipped, and fails when CI=true.

  npm test -- core                     one layer
  npm test -- core token               its files with "token" in the path
  npm test -- workerd -t "ends once"   its tests with that name`;

const isCi = process.env.CI === "true" || process.env.CI === "1";

function hasTests(layer) {
  if (layer === "core") return true; // test/tidy.test.ts
  const folder = join(ROOT, "test", layer);
  return (
    existsSync(folder) && readdirSync(folder, { recursive: true }).some((file) => String(file).endsWith(".test.ts"))
  );
}

/** Runs vitest for one layer and counts from its JSON report; a crash without a report counts as one failure. */
async function runLayer({ name: layer }, args, isBeside) {
  const scratch = mkdtempSync(join(tmpdir(), "legate-test-"));
  const report = join(scratch, "report.json");
  const reporters = ["--reporter=default", "--reporter=json", `--outputFile.json=${report}`];
  const vitest = spawn(
    nodeBinary(),
    [join(ROOT, "node_modules/vitest/vitest.mjs"), "run", "--project", layer, ...reporters, ...args],
    {
      cwd: ROOT,
      stdio: ["ignore", isBeside ? "pipe" : "inherit", isBeside ? "pipe" : "inherit"],
      env: { ...quietEnv(), CI: process.env.CI ?? "" },
    },
  );
  const printed = [];
  if (isBeside) {
    setPriority(vitest.pid, constants.priority.PRIORITY_LOW);
    for (const stream of [vitest.stdout, vitest.stderr]) stream.on("data", (chunk) => printed.push(chunk));
  }
  const code = await new Promise((done) => vitest.once("close", done));
  const found = existsSync(report) ? JSON.parse(readFileSync(report, "utf8")) : {};
  rmSync(scratch, { recursive: true });
  const failed = found.numFailedTests ?? 0;
  return {
    passed: found.numPassedTests ?? 0,
    // A file that does not load, or an error outside any test, fails no test and yet fails the run.
    failed: code !== 0 && failed === 0 ? 1 : failed,
    skipped: (found.numPendingTests ?? 0) + (found.numTodoTests ?? 0),
    printed: Buffer.concat(printed),
  };
}

async function result(layer, args, isBeside) {
  const began = Date.now();
  const found = await resultOf(layer, args, isBeside);
  return { name: layer.name, ...found, ms: Date.now() - began };
}

async function resultOf(layer, args, isBeside) {
  if (!hasTests(layer.name)) return { passed: 0, failed: 0, skipped: 0, note: "no tests yet" };
  const missing = layer.needs.map((need) => TOOLS[need]).filter((tool) => tool.find() === null);
  if (missing.length === 0) return runLayer(layer, args, isBeside);
  const line = `needs ${missing.map((tool) => tool.name).join(", ")}: ${aptLine(missing.flatMap((tool) => tool.packages))}`;
  return isCi ? { passed: 0, failed: 1, skipped: 0, note: line } : { passed: 0, failed: 0, skipped: 1, note: line };
}

function table(rows) {
  say(`\n${bold("layer          passed  failed  skipped     time")}`);
  for (const { name, passed, failed, skipped, ms, note } of rows) {
    const numbers = [passed, failed, skipped].map((n) => String(n).padStart(7)).join(" ");
    const mark = failed > 0 ? red("✗") : skipped > 0 ? yellow("–") : green("✓");
    say(`${mark} ${name.padEnd(12)}${numbers} ${seconds(ms).padStart(8)}${note ? `  ${note}` : ""}`);
  }
}

await main(async () => {
  const args = process.argv.slice(2);
  if (args.includes("--help")) return say(HELP);
  await install();

  const names = LAYERS.map(({ name }) => name);
  const first = args.findIndex((arg) => !names.includes(arg));
  const asked = first === -1 ? args : args.slice(0, first);
  const rest = first === -1 ? [] : args.slice(first);
  const layers = LAYERS.filter(({ name }) => asked.length === 0 || asked.includes(name));

  const rows = [];
  const begun = new Map();
  for (const layer of layers) {
    say(`\n${bold(`── ${layer.name}`)}`);
    for (const other of layers) if (other.beside === layer.name) begun.set(other.name, result(other, rest, true));
    const row = await (begun.get(layer.name) ?? result(layer, rest, false));
    if (row.printed) process.stdout.write(row.printed);
    if (row.note) say(row.note);
    rows.push(row);
  }
  table(rows);
  const sum = (key) => rows.reduce((total, row) => total + row[key], 0);
  const skipped = sum("skipped");
  say(`\n${sum("passed")} passed, ${sum("failed")} failed${skipped > 0 ? `, ${skipped} skipped` : ""}`);
  return sum("failed") === 0 ? 0 : 1;
});
