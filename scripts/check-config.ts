/**
 * Whether legate.config.ts and the two Workers' configurations agree: every mistake at once, as sentences. `npm start`
 * and `npm run deploy` ask before they begin, and a test asks too; at run time an entry without its binding answers 503.
 */
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { unstable_readConfig } from "wrangler";
import { missingBindings } from "../core/config.ts";

const ROOT = dirname(dirname(fileURLToPath(import.meta.url)));

/** What of a Worker's configuration is looked at. */
interface WorkerConfig {
  readonly name?: string;
  readonly durable_objects: {
    readonly bindings: readonly { readonly name: string; readonly class_name: string; readonly script_name?: string }[];
  };
}

function read(path: string): WorkerConfig {
  return unstable_readConfig({ config: join(ROOT, path) }, { hideWarnings: true }) as WorkerConfig;
}

/** @returns nothing, where all agree */
export async function configMistakes(): Promise<readonly string[]> {
  const checked = await import("../legate.config.ts").catch((mistake: Error) => mistake);
  if (checked instanceof Error) return [checked.message]; // it has checked itself, and names every mistake
  const { agents: registry } = checked.config;
  const bindings = new Map(read("wrangler.jsonc").durable_objects.bindings.map((binding) => [binding.name, binding]));
  const agents = read("examples/agents/wrangler.jsonc");
  const classes = new Set(agents.durable_objects.bindings.map((binding) => binding.class_name));
  const mistakes = missingBindings(checked.config, (name) => bindings.has(name)).map(
    ({ slug, binding }) => `agents: "${slug}" needs the Durable Object binding ${binding} in wrangler.jsonc.`,
  );
  for (const { slug, binding, worker } of registry.values()) {
    const found = bindings.get(binding);
    if (found === undefined) continue;
    if (found.script_name !== worker)
      mistakes.push(
        `agents: "${slug}" runs in ${worker}; wrangler.jsonc binds ${binding} to ${found.script_name ?? "itself"}.`,
      );
    else if (worker === agents.name && !classes.has(found.class_name))
      mistakes.push(`agents: "${slug}" is bound to the class ${found.class_name}, which ${worker} does not have.`);
  }
  return mistakes;
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  const mistakes = await configMistakes();
  for (const mistake of mistakes) console.error(`- ${mistake}`);
  process.exitCode = mistakes.length === 0 ? 0 : 1;
}
