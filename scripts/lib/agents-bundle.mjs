// Bundles the agents' Worker with wrangler, as a deploy would, for test layers that take only a finished script.
import { execFileSync } from "node:child_process";
import { readdirSync, statSync } from "node:fs";
import { join } from "node:path";
import { nodeBinary, ROOT, quietEnv, wrangler } from "./paths.mjs";

const OUT = join(ROOT, ".legate/build/legate-agents");
const SOURCES = ["core", "sdk", "examples/agents", "legate.config.ts", "package-lock.json"];

/** Newest change time below a path; 0 where there is nothing. */
function newest(path) {
  const stat = statSync(path, { throwIfNoEntry: false });
  if (!stat) return 0;
  if (!stat.isDirectory()) return stat.mtimeMs;
  return Math.max(stat.mtimeMs, ...readdirSync(path).map((name) => newest(join(path, name))));
}

/** Returns the path of the bundle, built again only when a source is newer. */
export async function bundleAgents() {
  const script = join(OUT, "index.js");
  if (newest(script) > Math.max(...SOURCES.map((source) => newest(join(ROOT, source))))) return script;
  const config = join(ROOT, "examples/agents/wrangler.jsonc");
  execFileSync(nodeBinary(), wrangler("deploy", "--dry-run", "--outdir", OUT, "-c", config), {
    cwd: ROOT,
    env: quietEnv(),
    stdio: ["ignore", "ignore", "inherit"],
  });
  return script;
}
