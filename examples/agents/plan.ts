/** Planning without a language model: a goal is cut at its punctuation into the questions it asks. Pure and deterministic. */
import { termsOf } from "./lookup.ts";

export const STEPS_MAX = 5;

export interface Step {
  readonly number: number;
  readonly question: string;
}

/** @returns the questions in the order in which the goal asks them; none where it asks nothing */
export function planFor(goal: string): readonly Step[] {
  return goal
    .split(/[?!.;,\n]+/u)
    .map((part) =>
      part
        .trim()
        .replace(/^(?:and|then|also)\s/iu, "")
        .replaceAll(/\s+/gu, " "),
    )
    .filter((part) => termsOf(part).size > 0)
    .slice(0, STEPS_MAX)
    .map((question, index) => ({ number: index + 1, question }));
}
