/**
 * A block: what a holder writes to hand on less than it has. It can only take away; an unknown member, a wrong type or a
 * duplicate member refuses the token, and a member that is present and empty grants nothing (DESIGN.md §3).
 *
 * Its bytes are those of `JSON.stringify`, without white space or needless escapes, members in any order. That is how
 * duplicates are found, which `JSON.parse` would hide: written again, the object must be the same text.
 */
import { isAgentId, isEpochSeconds, isMicros, isSlug, type AgentId, type EpochSeconds, type Micros } from "../ids.ts";
import { AGENTS_MAX, BLOCK_NONCE_LENGTH } from "../limits.ts";
import { decodeObject, encodeObject } from "./format.ts";
import { parseScope } from "./scope.ts";

export interface Block {
  /** Twelve base64url characters: with its parent's path, the node's name. */
  readonly n: string;
  /** Space-separated; the rights left are the intersection. */
  readonly scope?: string;
  /** Slugs that may still be called. */
  readonly agents?: readonly string[];
  readonly exp?: EpochSeconds;
  /** A cap of the node, in micros. */
  readonly budget?: Micros;
  /** A bearer link: the holder's sub-agent without a key. */
  readonly act?: string;
  /** A named delegation: ends the chain until that agent redeems it. */
  readonly for?: AgentId;
}

const NONCE_PATTERN = new RegExp(`^[A-Za-z0-9_-]{${BLOCK_NONCE_LENGTH}}$`);
const ACTOR_NAME_PATTERN = /^[a-z][a-z0-9-]{0,31}$/;

export function isActorName(text: string): boolean {
  return ACTOR_NAME_PATTERN.test(text);
}

const MEMBER_CHECKS: Readonly<Record<keyof Block, (value: unknown) => boolean>> = {
  n: (value) => typeof value === "string" && NONCE_PATTERN.test(value),
  scope: (value) => typeof value === "string" && parseScope(value) !== null,
  agents: (value) =>
    Array.isArray(value) &&
    value.length <= AGENTS_MAX &&
    value.every((slug) => typeof slug === "string" && isSlug(slug)) &&
    new Set(value).size === value.length,
  exp: isEpochSeconds,
  budget: isMicros,
  act: (value) => typeof value === "string" && isActorName(value),
  for: (value) => typeof value === "string" && isAgentId(value),
};

/** @returns whether an object has the shape of a block; used on what is read and on what is about to be written */
export function isBlock(value: Readonly<Record<string, unknown>>): boolean {
  for (const key of Object.keys(value)) {
    if (!Object.hasOwn(MEMBER_CHECKS, key) || !MEMBER_CHECKS[key as keyof Block](value[key])) return false;
  }
  return value["n"] !== undefined && !(value["act"] !== undefined && value["for"] !== undefined);
}

/** @returns the block in a segment, or null unless every byte of it is as this module would write it */
export function decodeBlock(segment: string): Block | null {
  const object = decodeObject(segment);
  if (object === null || !isBlock(object.value) || JSON.stringify(object.value) !== object.json) return null;
  return object.value as unknown as Block;
}

/** @throws TypeError when the block says something that no verifier would accept: the caller's mistake, found at its desk */
export function encodeBlock(block: Block): string {
  if (!isBlock(block as unknown as Record<string, unknown>))
    throw new TypeError("not a block: see docs/token.md for its members and their types");
  return encodeObject(block);
}

/**
 * What a node's path stands for, as one canonical text: the authority refuses a second one for the same path. `exp` is
 * not part of it, for a parent that renews narrows again with the same `n` (DESIGN.md §3).
 */
export function contentOf(block: Block): string {
  const { act = null, for: delegatedTo = null, scope = null, agents = null, budget = null } = block;
  return JSON.stringify([
    act,
    delegatedTo,
    scope === null ? null : [...(parseScope(scope) ?? [])].sort(),
    agents === null ? null : [...agents].sort(),
    budget,
  ]);
}

/** @returns what a node's content leaves of the scope above it, or null where it says nothing of scope */
export function scopeOfContent(content: string): readonly string[] | null {
  const [, , scope] = JSON.parse(content) as readonly [unknown, unknown, readonly string[] | null];
  return scope;
}
