// Another deployment of the same code: its own legate.config.ts, or another agents' Worker beside it. Built by wrangler as
// a deploy would be, served over real HTTP; its state is in memory.
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createTestHarness, type TestHarness, type TestHarnessOptions } from "wrangler";
import type { LegateConfigInput } from "../../../core/config.ts";
import { ROOT } from "../../../scripts/lib/paths.mjs";
import { TEST_IDENTITY_KEY, TEST_SECRETS } from "../secrets.ts";

export interface VariantOptions {
  readonly input: LegateConfigInput;
  /** Another module in the place of the agents' Worker, by its path in the repository. */
  readonly agents?: string;
  /** More variables of the edge Worker, such as LEGATE_OIDC_KEYS. */
  readonly vars?: Readonly<Record<string, string>>;
}

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

  /** Takes a user's object out of memory. */
  evict(user: string): Promise<void> {
    return this.#harness.getWorker("legate").evictDurableObject("AUTHORITY", { name: user });
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
    const { configModule } = this;
    writeFileSync(
      configModule,
      `import { checkConfig } from ${JSON.stringify(join(ROOT, "core/config.ts"))};
const checked = checkConfig(${JSON.stringify(input)});
if (!checked.ok) throw new Error(checked.denial.join("\\n"));
export const config = checked.value;\n`,
    );
    const configPath = join(this.#folder, EDGE);
    writeFileSync(configPath, edgeConfig(configModule));
    const vars = {
      LEGATE_ISSUER: this.#url || "http://127.0.0.1:1",
      LEGATE_BOOTSTRAP: TEST_SECRETS.LEGATE_BOOTSTRAP,
      ...this.#options.vars,
    };
    const agentsPath = join(this.#folder, "agents.jsonc");
    writeFileSync(agentsPath, agentsConfig(this.#options.agents ?? "examples/agents/index.ts"));
    const agents = { configPath: agentsPath, secrets: { LEGATE_IDENTITY_KEY: TEST_IDENTITY_KEY } };
    return { workers: [{ configPath, vars, secrets: { ...TEST_SECRETS } }, agents] };
  }
}
