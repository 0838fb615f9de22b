// What acts of a simulated run share: whom they pick, and how they tell of it.
import type { Denial } from "../../core/denial.ts";
import type { Result } from "../../core/result.ts";
import type { Chance } from "./random.ts";
import { Violation } from "./violation.ts";
import type { Fate, World } from "./world.ts";

export const NODES_MAX = 24;

export function fateOf(chance: Chance): Fate {
  const drawn = chance.next();
  if (drawn < 0.82) return "arrives";
  if (drawn < 0.88) return "is lost";
  return drawn < 0.94 ? "its answer is lost" : "arrives twice";
}

export function short(path: string): string {
  const [session = "", ...rest] = path.split(".");
  return [session.slice(-8, -4), ...rest.map((each) => each.slice(0, 3))].join(".");
}

export function isUnanswered(result: Result<unknown, Denial>): boolean {
  return !result.ok && result.denial.reason === "authority_unavailable";
}

export function told(result: Result<unknown, Denial> | null): string {
  if (result === null) return "nobody answers";
  return result.ok ? "done" : `${result.denial.reason}${"fault" in result.denial ? ` (${result.denial.fault})` : ""}`;
}

/** Whatever the object throws is its asker's to bear; what the model says is not. */
export async function guarded<T>(
  world: World,
  ask: () => Promise<Result<T, Denial>>,
): Promise<Result<T, Denial> | null> {
  try {
    return await ask();
  } catch (thrown) {
    if (thrown instanceof Violation) throw thrown;
    world.say(`the object throws: ${String(thrown)}`);
    await world.afterThrow();
    return null;
  }
}

export const pickOr = <T>(chance: Chance, from: readonly T[]): T | null =>
  from.length === 0 ? null : chance.pick(from);
