/**
 * One simulated run: commands drawn from a seed, executed one by one, checked after each, and a quiet end in which all is
 * told. A failure is cut down to the fewest commands that still break the same promise.
 */
import { check, drain } from "./checks.ts";
import { drawCommands, execute, type Command } from "./commands.ts";
import type { ObjectHost } from "./host.ts";
import { chanceOf, seedOf } from "./random.ts";
import { Violation } from "./violation.ts";
import { World } from "./world.ts";

export interface Failure {
  readonly seed: number;
  readonly invariant: string;
  readonly message: string;
  readonly commands: readonly Command[];
  readonly history: readonly string[];
}

export interface Outcome {
  readonly failure: Failure | null;
  readonly calls: number;
  readonly served: number;
}

export async function run(host: ObjectHost, seed: number, commands: readonly Command[]): Promise<Outcome> {
  const world = await World.begin(host, seed);
  try {
    let failure: Failure | null = null;
    try {
      for (const command of commands) {
        await execute(world, command, chanceOf(command.seed));
        await check(world);
      }
      await drain(world);
    } catch (thrown) {
      const invariant = thrown instanceof Violation ? thrown.invariant : "nothing throws";
      const message = thrown instanceof Violation ? thrown.message : ((thrown as Error).stack ?? String(thrown));
      failure = { seed, invariant, message, commands, history: world.history };
    }
    const served = world.calls.filter(({ admitted }) => admitted !== null).length;
    return { failure, calls: world.calls.length, served };
  } finally {
    await world.finish();
  }
}

/** The n-th run of a seed. */
export function runOf(seed: number, n: number, length: number): { seed: number; commands: Command[] } {
  const own = seedOf(seed, n);
  return { seed: own, commands: drawCommands(chanceOf(own), length) };
}

/** Leaves out ever smaller parts, as long as the same promise breaks. */
export async function shrink(host: ObjectHost, failure: Failure, tries = 400): Promise<Failure> {
  let best = failure;
  for (let size = Math.ceil(best.commands.length / 2); size >= 1; size = Math.floor(size / 2)) {
    for (let at = 0; at < best.commands.length && tries > 0;) {
      tries--;
      const fewer = [...best.commands.slice(0, at), ...best.commands.slice(at + size)];
      const { failure: still } = await run(host, best.seed, fewer);
      if (still !== null && still.invariant === best.invariant) best = still;
      else at += size;
    }
  }
  return best;
}
