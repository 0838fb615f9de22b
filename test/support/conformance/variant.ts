// Another deployment of the same code: its own legate.config.ts, or another agents' Worker beside it. Built by wrangler as
// a deploy would be, served over real HTTP; its state is in memory.
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createTestHarness, type TestHarness, type TestHarnessOptions } from "wrangler";
import type { LegateConfigInput } from "../../../core/config.ts";
import { configModuleIn, writeConfigs } from "./other-config.ts";
import { TEST_IDENTITY_KEY, TEST_SECRETS } from "../secrets.ts";

export interface VariantOptions {
  readonly input: LegateConfigInput;
  /** Another module in the place of the agents' Worker, by its path in the repository. */
  readonly agents?: string;
  /** More variables of the edge Worker, such as LEGATE_OIDC_KEYS. */
  readonly vars?: Readonly<Record<string, string>>;
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
    return configModuleIn(this.#folder);
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
    const { edge: configPath, agents: agentsPath } = writeConfigs(this.#folder, input, this.#options.agents);
    const vars = {
      LEGATE_ISSUER: this.#url || "http://127.0.0.1:1",
      LEGATE_BOOTSTRAP: TEST_SECRETS.LEGATE_BOOTSTRAP,
      ...this.#options.vars,
    };
    const agents = { configPath: agentsPath, secrets: { LEGATE_IDENTITY_KEY: TEST_IDENTITY_KEY } };
    return { workers: [{ configPath, vars, secrets: { ...TEST_SECRETS } }, agents] };
  }
}
