/** Scope strings (RFC 6749 §3.3): names joined by one space, none twice. The empty string is a scope that grants nothing. */
import { SCOPE_LENGTH_MAX, SCOPES_MAX } from "../limits.ts";

const NAME_PATTERN = /^[a-z][a-z0-9]*(?:[:._-][a-z0-9]+)*$/;

export function isScopeName(text: string): boolean {
  return text.length <= SCOPE_LENGTH_MAX && NAME_PATTERN.test(text);
}

/**
 * Sets that were read before. A deployment has few scope strings, and reading one costs a third of a MAC. The sets are
 * shared by all who ask, which is why they are read-only; when there are too many, somebody makes them up, and all go.
 */
const known = new Map<string, ReadonlySet<string>>();
const KNOWN_MAX = 256;

/** @returns the names, or null for a double space, a repeated name, or anything that is no name */
export function parseScope(text: string): ReadonlySet<string> | null {
  const before = known.get(text);
  if (before !== undefined) return before;
  const names = readScope(text);
  if (names === null) return null;
  if (known.size === KNOWN_MAX) known.clear();
  known.set(text, names);
  return names;
}

function readScope(text: string): ReadonlySet<string> | null {
  if (text === "") return new Set();
  const names = text.split(" ");
  const set = new Set(names);
  return set.size === names.length && names.length <= SCOPES_MAX && names.every(isScopeName) ? set : null;
}

export function formatScope(names: Iterable<string>): string {
  return [...names].join(" ");
}

/** What both allow. */
export function meet(a: ReadonlySet<string>, b: Iterable<string>): Set<string> {
  const both = new Set<string>();
  for (const name of b) if (a.has(name)) both.add(name);
  return both;
}
