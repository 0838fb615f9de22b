/**
 * Rates as a deployment writes them, checked: named windows by tier, replaced whole by an entry that has its own. A
 * bucket belongs to a level of the tree and to a key: windows of the deployment are shared by all entries, an entry's own
 * are its alone.
 */
import type { Window } from "./throttle.ts";

/** `{ name: "burst", calls: 20, seconds: 1 }`: twenty a second; `burst` calls at once, as many as `calls` by default. */
export interface RateInput {
  name: string;
  calls: number;
  seconds: number;
  burst?: number;
}

export interface Rate {
  readonly name: string;
  /** Of the bucket, at each level. */
  readonly key: string;
  readonly window: Window;
}

const NAME_PATTERN = /^[a-z][a-z0-9-]{0,31}$/;

function isPositive(value: number): boolean {
  return Number.isSafeInteger(value) && value > 0;
}

/**
 * @param input windows of one tier
 * @param owner a slug, or `*` for the deployment's
 * @param at where they stand, for the sentences
 */
export function checkRates(
  input: readonly RateInput[],
  owner: string,
  at: string,
  mistakes: string[],
): readonly Rate[] {
  const names = new Set<string>();
  return input.map(({ name, calls, seconds, burst = calls }) => {
    if (!NAME_PATTERN.test(name))
      mistakes.push(`${at}: "${name}" is not a window's name (lower case, digits, hyphens).`);
    if (names.has(name)) mistakes.push(`${at}: the window "${name}" stands twice.`);
    if (!isPositive(calls) || !isPositive(burst) || !isPositive(seconds) || seconds > 86_400)
      mistakes.push(`${at}: the window "${name}" needs whole calls and burst above 0, and 1 to 86400 seconds.`);
    names.add(name);
    return { name, key: `${owner} ${name}`, window: { calls, periodMs: seconds * 1_000, burst } };
  });
}
