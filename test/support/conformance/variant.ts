// Another deployment of the same code: its own legate.config.ts, bindings left out, or no agents' Worker beside it. Built
// by wrangler as a deploy would be, served over real HTTP; its state is in memory.
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createTestHarness, type TestHarness, type TestHarnessOptions } from "wrangler";
import type { LegateConfigInput } from "../../../core/config.ts";
import { ROOT } from "../../../scripts/lib/paths.mjs";
import { TEST_IDENTITY_KEY, TEST_SECRETS } from "../secrets.ts";

export interface VariantOptions {
  readonly input: LegateConfigInput;
  /** Durable Object bindings of the edge Worker that are left out. */
  readonly unbound?: readonly string[];
  /** False: the agents' Worker does not run. */
  readonly hasAgents?: boolean;
  /** More variables of the edge Worker, such as LEGATE_OIDC_KEYS. */
  readonly vars?: Readonly<Record<string, string>>;
}

const EDGE = "wrangler.jsonc";

function replaced(text: string, from: string | RegExp, to: string): string {
  const changed = text.replace(from, () => to);
  if (changed === text) throw new Error(`${EDGE} has no ${String(from)} any more`);
  return changed;
}

/** The edge's own wrangler.jsonc, but for what the variant is about. */
function edgeConfig(configModule: string, unbound: readonly string[]): string {
  const alias = JSON.stringify({ "../legate.config.ts": configModule });
  let text = readFileSync(join(ROOT, EDGE), "utf8");
  text = replaced(text, '"main": "worker/index.ts"', `"main": "${join(ROOT, "worker/index.ts")}", "alias": ${alias}`);
  text = replaced(text, '"drizzle/d1/migrations"', JSON.stringify(join(ROOT, "drizzle/d1/migrations")));
  for (const name of unbound) text = replaced(text, new RegExp(`\\{ "name": "${name}",[^}]*\\},`), "");
  return text;
}

export class Variant {
  readonly #folder = mkdtempSync(join(tmpdir(), "legate-variant-"));
  readonly #harness: TestHarness = createTestHarness();
  readonly #options: Omit<VariantOptions, "input">;
  #url = "";

  private constructor(options: Omit<VariantOptions, "input">) {
    this.#options = options;
  }

  static async start({ input, ...options }: VariantOptions): Promise<Variant> {
    const variant = new Variant(options);
    await variant.#harness.update(variant.#build(input));
    variant.#url = (await variant.#harness.listen()).url.origin;
    await variant.reconfigure(input); // the issuer's name has the port in it
    return variant;
  }

  get url(): string {
    return this.#url;
  }

  get secrets(): Readonly<Record<string, string>> {
    return TEST_SECRETS;
  }

  /** The file that stands in the place of legate.config.ts. */
  get configModule(): string {
    return join(this.#folder, "legate.config.ts");
  }

  /** Brings D1 to its schema; until then it is a D1 that fails. */
  migrate(): Promise<void> {
    return this.#harness.getWorker("legate").applyD1Migrations("DB");
  }

  /** Deploys another configuration on the same state. */
  async reconfigure(input: LegateConfigInput): Promise<void> {
    await this.#harness.update(this.#build(input));
    const { origin } = (await this.#harness.listen()).url;
    if (origin !== this.#url) throw new Error(`the variant has moved to ${origin}`);
  }

  async end(): Promise<void> {
    await this.#harness.close();
    rmSync(this.#folder, { recursive: true, force: true });
  }

  #build(input: LegateConfigInput): TestHarnessOptions {
    const { unbound = [], hasAgents = true } = this.#options;
    const { configModule } = this;
    writeFileSync(
      configModule,
      `import { checkConfig } from ${JSON.stringify(join(ROOT, "core/config.ts"))};
const checked = checkConfig(${JSON.stringify(input)});
if (!checked.ok) throw new Error(checked.denial.join("\\n"));
export const config = checked.value;\n`,
    );
    const configPath = join(this.#folder, EDGE);
    writeFileSync(configPath, edgeConfig(configModule, unbound));
    const vars = {
      LEGATE_ISSUER: this.#url || "http://127.0.0.1:1",
      LEGATE_BOOTSTRAP: TEST_SECRETS.LEGATE_BOOTSTRAP,
      ...this.#options.vars,
    };
    const agents = {
      configPath: join(ROOT, "examples/agents/wrangler.jsonc"),
      secrets: { LEGATE_IDENTITY_KEY: TEST_IDENTITY_KEY },
    };
    return { workers: [{ configPath, vars, secrets: { ...TEST_SECRETS } }, ...(hasAgents ? [agents] : [])] };
  }
}
