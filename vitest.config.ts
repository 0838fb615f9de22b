// The test layers, one project each. `npm test -- <layer>` runs one; scripts/test.mjs knows which tool each needs.
import { existsSync } from "node:fs";
import { cloudflareTest, readD1Migrations } from "@cloudflare/vitest-plugin";
import { defineConfig } from "vitest/config";
import { bundleAgents } from "./scripts/lib/agents-bundle.mjs";
import { TEST_IDENTITY_KEY, TEST_OIDC_KEYS, TEST_SECRETS } from "./test/support/secrets.ts";

const MIGRATIONS = "drizzle/d1/migrations";

/** The agents' Worker beside the one under test. The plugin takes it only as a finished bundle. */
async function agentsWorker() {
  return {
    name: "legate-agents",
    modules: true,
    scriptPath: await bundleAgents(),
    compatibilityDate: "2026-10-01",
    compatibilityFlags: ["nodejs_compat", "enable_request_signal"],
    bindings: { LEGATE_IDENTITY_KEY: TEST_IDENTITY_KEY },
    durableObjects: {
      PLANNER: { className: "Planner", useSQLite: true },
      RESEARCHER: { className: "Researcher", useSQLite: true },
      CATALOG: { className: "Catalog", useSQLite: true },
    },
    serviceBindings: {
      // The plugin names the Worker under test after its project.
      LEGATE: { name: "vitest-plugin-runner-workerd", entrypoint: "Authority", props: { worker: "legate-agents" } },
    },
  };
}

// wrangler's configuration names two secrets that it looks for in the environment, and warns.
Object.assign(process.env, TEST_SECRETS);

/** Nothing here is timed: a test that waits for what never comes ends, and a machine that is busy is only slow. */
const PATIENCE_MS = 120_000;

/**
 * In CI a test that failed runs again, once: what waits for real sockets, timers and processes can be starved on a
 * machine that is busy with something else, and vitest says which test it was.
 */
const AGAIN = process.env["CI"] === "true" ? 1 : 0;

/** A layer of black-box tests in node: one server at a time on two cores, so one file at a time. */
const node = (name: string, include: string[], testTimeout: number, retry = AGAIN) => ({
  test: { name, include, testTimeout, retry, hookTimeout: 120_000, environment: "node" as const, maxWorkers: 1 },
});

export default defineConfig({
  test: {
    passWithNoTests: true,
    projects: [
      {
        test: {
          name: "core",
          include: ["test/core/**/*.test.ts", "test/tidy.test.ts"],
          environment: "node",
          testTimeout: PATIENCE_MS,
        },
      },
      {
        plugins: [
          cloudflareTest(async () => ({
            wrangler: { configPath: "./wrangler.jsonc" },
            miniflare: {
              bindings: {
                ...TEST_SECRETS,
                LEGATE_OIDC_KEYS: TEST_OIDC_KEYS,
                TEST_MIGRATIONS: existsSync(MIGRATIONS) ? await readD1Migrations(MIGRATIONS) : [],
              },
              workers: [await agentsWorker()],
            },
          })),
        ],
        test: {
          name: "workerd",
          retry: AGAIN,
          testTimeout: PATIENCE_MS,
          hookTimeout: PATIENCE_MS,
          include: ["test/workerd/**/*.test.ts"],
          setupFiles: ["test/support/workerd/setup.ts"],
          // Isolated, each file loads the whole Worker again (a second or two each). Not isolated, files share storage:
          // tests use names of their own.
          isolate: false,
        },
      },
      node("conformance", ["test/conformance/**/*.test.ts"], PATIENCE_MS),
      node("ceph", ["test/ceph/**/*.test.ts"], 60_000),
      node("simulate", ["test/simulate/**/*.test.ts"], 900_000, 0), // one seed, one outcome
      node("browser", ["test/browser/**/*.test.ts"], PATIENCE_MS),
    ],
  },
});
