// npm run types: makes the Workers' declarations where wrangler.jsonc is newer, then checks every world with tsc.
// Each world has its own globals, so that what a file may not touch does not compile there.
import { spawnSync } from "node:child_process";
import { globSync, readFileSync, statSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { CONFIGS, nodeBinary, ROOT, quietEnv, wrangler } from "./lib/paths.mjs";
import { Sentence, green, main, red, say, seconds } from "./lib/term.mjs";

const WORLDS = ["core", "worker", "sdk", "examples/agents", ".", "test/workerd", "bench/workerd"];
const ENV_NAMES = { "wrangler.jsonc": "Env", "examples/agents/wrangler.jsonc": "AgentsEnv" };

const changed = (path) => statSync(join(ROOT, path), { throwIfNoEntry: false })?.mtimeMs ?? 0;

function generate(config, force) {
  const out = join(dirname(config), "worker-configuration.d.ts");
  if (!force && changed(out) > Math.max(changed(config), changed("package-lock.json"))) return;
  const options = ["-c", config, "--env-interface", ENV_NAMES[config], "--strict-vars=false"];
  const made = spawnSync(nodeBinary(), wrangler("types", out, ...options), {
    cwd: ROOT,
    env: quietEnv(),
    encoding: "utf8",
  });
  if (made.status !== 0) throw new Sentence(`wrangler could not make ${out}:\n${made.stdout}${made.stderr}`);
  // What TextEncoder makes is never shared memory; the DOM's and node's types say so, workerd's do not yet (2026-10-01).
  const text = readFileSync(join(ROOT, out), "utf8");
  writeFileSync(
    join(ROOT, out),
    text.replaceAll("encode(input?: string): Uint8Array;", "encode(input?: string): Uint8Array<ArrayBuffer>;"),
  );
}

/** A world without a file has nothing to check; tsc would call that an error. */
const hasFiles = (world) =>
  world === "." || globSync("**/*.ts", { cwd: join(ROOT, world) }).some((file) => !file.endsWith(".d.ts"));

await main(() => {
  for (const config of CONFIGS) generate(config, process.argv.includes("--generate"));
  if (process.argv.includes("--generate")) return 0;
  let failed = 0;
  for (const world of WORLDS.filter(hasFiles)) {
    const began = Date.now();
    const tsc = spawnSync(nodeBinary(), [join(ROOT, "node_modules/typescript/bin/tsc"), "-p", world], {
      cwd: ROOT,
      stdio: "inherit",
    });
    if (tsc.status !== 0) failed += 1;
    say(`${tsc.status === 0 ? green("✓") : red("✗")} ${world === "." ? "node" : world} ${seconds(Date.now() - began)}`);
  }
  return failed === 0 ? 0 : 1;
});
