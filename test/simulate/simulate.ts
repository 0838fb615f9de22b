// Runs scripts/simulate.ts for a test, and prints what it found where it found something.
import { execFile } from "node:child_process";
import { join } from "node:path";
import { nodeBinary, quietEnv, ROOT } from "../../scripts/lib/paths.mjs";

export interface Simulated {
  readonly seed: number;
  readonly runs: number;
  readonly calls: number;
  readonly served: number;
  readonly failure: {
    readonly number: number;
    readonly failure: { readonly message: string; readonly history: readonly string[] };
  } | null;
  readonly ms: number;
}

/** The fixed seed of CI; another one finds other things, and is named in the output. */
const SEED = Number(process.env["SEED"] ?? 20_261_122);

export function simulate(on: "core" | "object", runs: number, seed = SEED): Promise<Simulated> {
  const args = [
    join(ROOT, "scripts/simulate.ts"),
    "--on",
    on,
    "--runs",
    String(runs),
    "--seed",
    String(seed),
    "--json",
  ];
  return new Promise((resolve, reject) => {
    execFile(
      nodeBinary(),
      ["--disable-warning=ExperimentalWarning", ...args],
      { env: quietEnv(), maxBuffer: 1 << 26 },
      (failed, stdout, stderr) => {
        const line = stdout.trim().split("\n").at(-1) ?? "";
        if (!line.startsWith("{")) return reject(failed ?? new Error(`the simulation said nothing: ${stderr}`));
        const found = JSON.parse(line) as Simulated;
        if (found.failure !== null) {
          const { number, failure } = found.failure;
          console.error(
            [...failure.history, failure.message, `npm run simulate -- --on ${on} --seed ${seed} --run ${number}`].join(
              "\n",
            ),
          );
        }
        resolve(found);
      },
    );
  });
}
