// wrangler's configurations of both Workers, for a deployment with a legate.config.ts of its own in a folder of a test's.
import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import type { LegateConfigInput } from "../../../core/config.ts";
import { ROOT } from "../../../scripts/lib/paths.mjs";

const EDGE = "wrangler.jsonc";
const AGENTS = "examples/agents/wrangler.jsonc";

function replaced(text: string, from: string, to: string): string {
  if (!text.includes(from)) throw new Error(`the configuration has no ${from} any more`);
  return text.replace(from, () => to);
}

/** The edge's own wrangler.jsonc, but for where its legate.config.ts is. */
function edgeConfig(configModule: string): string {
  const alias = JSON.stringify({ "../legate.config.ts": configModule });
  const main = JSON.stringify(join(ROOT, "worker/index.ts"));
  const text = replaced(
    readFileSync(join(ROOT, EDGE), "utf8"),
    '"main": "worker/index.ts"',
    `"main": ${main}, "alias": ${alias}`,
  );
  return replaced(text, '"drizzle/d1/migrations"', JSON.stringify(join(ROOT, "drizzle/d1/migrations")));
}

function agentsConfig(module: string): string {
  const main = JSON.stringify(join(ROOT, module));
  return replaced(readFileSync(join(ROOT, AGENTS), "utf8"), '"main": "index.ts"', `"main": ${main}`);
}

/** The file that stands in the place of legate.config.ts. */
export const configModuleIn = (folder: string): string => join(folder, "legate.config.ts");

/**
 * @param agents another module in the place of the agents' Worker, by its path in the repository
 * @returns paths of wrangler's configurations
 */
export function writeConfigs(
  folder: string,
  input: LegateConfigInput,
  agents = "examples/agents/index.ts",
): { readonly edge: string; readonly agents: string } {
  const configModule = configModuleIn(folder);
  writeFileSync(
    configModule,
    `import { checkConfig } from ${JSON.stringify(join(ROOT, "core/config.ts"))};
const checked = checkConfig(${JSON.stringify(input)});
if (!checked.ok) throw new Error(checked.denial.join("\\n"));
export const config = checked.value;\n`,
  );
  const paths = { edge: join(folder, EDGE), agents: join(folder, "agents.jsonc") };
  writeFileSync(paths.edge, edgeConfig(configModule));
  writeFileSync(paths.agents, agentsConfig(agents));
  return paths;
}
