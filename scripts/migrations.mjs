// npm run db:generate: writes the migrations that the schemas in drizzle/ are ahead by. With --check, in CI, having
// had to write one is the failure; what it wrote stays, to be read and committed.
import { spawnSync } from "node:child_process";
import { globSync } from "node:fs";
import { join } from "node:path";
import { nodeBinary, ROOT } from "./lib/paths.mjs";
import { Sentence, main, step } from "./lib/term.mjs";

const KIT = join(ROOT, "node_modules/drizzle-kit/bin.cjs");

function generate(config) {
  const kit = spawnSync(nodeBinary(), [KIT, "generate", "--config", config], {
    cwd: ROOT,
    encoding: "utf8",
    stdio: "pipe",
  });
  if (kit.status !== 0) throw new Sentence(`drizzle-kit failed on ${config}:\n${kit.stdout}${kit.stderr}`);
  const isCurrent = kit.stdout.includes("No schema changes");
  step(`${config}: ${isCurrent ? "no changes" : "wrote a migration"}`);
  return isCurrent;
}

await main(() => {
  const ahead = globSync("drizzle/*/drizzle.config.ts", { cwd: ROOT }).filter((config) => !generate(config));
  return process.argv.includes("--check") && ahead.length > 0 ? 1 : 0;
});
