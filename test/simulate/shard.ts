// Some runs of a simulation in a process of their own: two cores are used, and module instances of dead isolates go with
// their process. Told what to do, and telling how it goes, by messages to its parent (scripts/simulate.ts).
import type { ObjectHost } from "./host.ts";
import { nodeHost } from "./node-host.ts";
import { run, runOf, shrink, type Failure } from "./run.ts";

export interface Shard {
  readonly on: "core" | "object";
  readonly seed: number;
  /** Runs `from` to below `to`. */
  readonly from: number;
  readonly to: number;
  readonly commands: number;
}

export type Told =
  | { readonly kind: "run"; readonly calls: number; readonly served: number }
  | { readonly kind: "failure"; readonly number: number; readonly failure: Failure }
  | { readonly kind: "done" };

const tell = (told: Told): void => void process.send?.(told);

async function hostOf(on: Shard["on"]): Promise<ObjectHost> {
  if (on === "core") return nodeHost();
  const { workerdHost } = await import("./workerd-host.ts");
  return workerdHost();
}

async function work({ on, seed, from, to, commands }: Shard): Promise<void> {
  const host = await hostOf(on);
  try {
    for (let number = from; number < to; number++) {
      const drawn = runOf(seed, number, commands);
      const { failure, calls, served } = await run(host, drawn.seed, drawn.commands);
      tell({ kind: "run", calls, served });
      if (failure === null) continue;
      tell({ kind: "failure", number, failure: await shrink(host, failure, on === "core" ? 300 : 40) });
      break;
    }
  } finally {
    await host.close();
  }
}

// Where the storage is made to fail, the object says so, thousands of times.
console.error = () => undefined;

process.once("disconnect", () => process.exit(1)); // whoever asked has gone
process.once("message", (shard: Shard) => {
  work(shard).then(
    () => {
      tell({ kind: "done" });
      process.removeAllListeners("disconnect");
      process.disconnect();
    },
    (thrown: unknown) => {
      process.stderr.write(`${thrown instanceof Error ? (thrown.stack ?? thrown.message) : String(thrown)}\n`);
      process.exit(1);
    },
  );
});
