// Where things are, and which node runs them.
import { existsSync } from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";

export const ROOT = dirname(dirname(dirname(fileURLToPath(import.meta.url))));
const BIN = join(ROOT, "node_modules/.bin");
// Its command line itself: node_modules/.bin/wrangler would only put one more process before it.
const WRANGLER = join(ROOT, "node_modules/wrangler/wrangler-dist/cli.js");
export const CONFIGS = ["wrangler.jsonc", "examples/agents/wrangler.jsonc"];

/** npm brings node 24 on Linux x64, because the machine's own may be too old for wrangler; elsewhere the machine's own runs. */
const bundledNode = join(BIN, "node");
export const hasBundledNode = process.platform === "linux" && process.arch === "x64";
/** Asked anew each time: in a fresh clone it is not there yet when the first script starts. */
export const nodeBinary = () => (hasBundledNode && existsSync(bundledNode) ? bundledNode : process.execPath);

/** Arguments of node for a tool of ours: wrangler warns of node's experiments, which are not ours to mend. */
export const wrangler = (...args) => ["--no-warnings", WRANGLER, ...args];

/**
 * The environment in which wrangler neither asks, nor reports, nor looks for anything outside this machine. Secrets of
 * ours that stand in our own environment stay here: wrangler would take them before those of the state folder, and one
 * secret of two that belong together.
 */
export function quietEnv(stateDir = join(ROOT, ".legate")) {
  const inherited = Object.entries(process.env).filter(([name]) => !name.startsWith("LEGATE_"));
  return {
    ...Object.fromEntries(inherited),
    PATH: `${BIN}:${process.env.PATH ?? ""}`,
    CI: "true",
    WRANGLER_SEND_METRICS: "false",
    WRANGLER_HIDE_BANNER: "true",
    WRANGLER_REGISTRY_PATH: join(stateDir, "registry"),
    WRANGLER_LOG_PATH: join(stateDir, "logs"),
    CLOUDFLARE_CF_FETCH_ENABLED: "false",
    // wrangler would write every request's URL into a database of its own.
    X_LOCAL_OBSERVABILITY: "false",
  };
}
