import * as fc from "fast-check";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import {
  childOf,
  depthOf,
  gateSegment,
  isAgentId,
  isAtOrBelow,
  isEpochSeconds,
  isInstance,
  isMicros,
  isNodePath,
  isSlug,
  isUserId,
  lineOf,
  makeCallId,
  makeOwnedId,
  makeSegment,
  makeUserId,
  parentOf,
  parseNodePath,
  parseOwnedId,
  parseUserId,
  sessionOf,
  toEpochMs,
  toEpochSeconds,
  userOf,
  type EpochMs,
  type NodePath,
  type Slug,
} from "../../core/ids.ts";
import { INSTANCE_LENGTH_MAX, SEGMENTS_MAX, SLUG_LENGTH_MAX } from "../../core/limits.ts";
import { VECTORS_DIR } from "../../scripts/vectors.ts";
import { ALICE, BOB, idMac, PLANNER, SESSION } from "../support/deployment.ts";
import { idMacOf, seededRandom } from "../support/forge.ts";

const vectors = JSON.parse(readFileSync(join(VECTORS_DIR, "ids.json"), "utf8")) as {
  idKey: string;
  valid: string[];
  invalid: string[];
};
const KINDS = ["agt", "ses", "hld", "rct"] as const;
const parse = (id: string) =>
  parseUserId(id, idMac) ??
  KINDS.map((kind) => parseOwnedId(kind, id, idMac)).find((parsed) => parsed !== null) ??
  null;
const root = SESSION as string as NodePath;

const segment = fc.oneof(
  fc.uint8Array({ minLength: 9, maxLength: 9 }).map((bytes) => Buffer.from(bytes).toString("base64url")),
  fc.constantFrom("planner", "a", "web-searcher-2").map((slug) => gateSegment(slug as Slug)),
);
const path = fc
  .array(segment, { maxLength: SEGMENTS_MAX })
  .map((segments) => [SESSION, ...segments].join(".") as NodePath);

describe("ids", () => {
  test.each(vectors.valid.map((id) => ({ id })))("$id", ({ id }) => {
    expect(parse(id)).toBe(id);
  });
  test.each(vectors.invalid.map((id) => ({ id })))("refuses $id", ({ id }) => {
    expect(parse(id)).toBeNull();
  });

  test("parse(make(x)) = x, of its own kind alone, and its user is found in it", () => {
    fc.assert(
      fc.property(fc.string(), fc.constantFrom(...KINDS), (seed, kind) => {
        const random = seededRandom(seed);
        const user = makeUserId(random, idMac);
        const id = makeOwnedId(kind, user, random, idMac);
        expect(parseUserId(user, idMac)).toBe(user);
        expect(isUserId(user)).toBe(true);
        for (const other of KINDS) expect(parseOwnedId(other, id, idMac)).toBe(other === kind ? id : null);
        expect(isAgentId(id)).toBe(kind === "agt");
        expect(userOf(id, idMac)).toBe(user);
        expect(parseUserId(user, idMacOf(Buffer.alloc(32)))).toBeNull();
      }),
    );
  });

  test("any other character anywhere in an id refuses it", () => {
    const characters = "abz27AZ189_-. \n~é";
    for (const id of [ALICE, PLANNER, SESSION]) {
      for (let i = 0; i < id.length; i++) {
        for (const other of characters) {
          if (other !== id[i]) expect(parse(id.slice(0, i) + other + id.slice(i + 1))).toBeNull();
        }
      }
    }
  });

  test("a newline after it is not overlooked", () => {
    expect([
      isUserId(`${ALICE}\n`),
      isAgentId(`${PLANNER}\n`),
      isNodePath(`${SESSION}\n`),
      isSlug("a\n"),
      isInstance("a\n"),
    ]).toEqual([false, false, false, false, false]);
  });
});

describe("node paths", () => {
  test("take apart and put together again", () => {
    fc.assert(
      fc.property(path, segment, (at, next) => {
        expect(isNodePath(at)).toBe(true);
        expect(parseNodePath(at, idMac)).toBe(at);
        expect(sessionOf(at)).toBe(SESSION);
        expect(userOf(at, idMac)).toBe(ALICE);
        const child = childOf(at, next);
        expect(parentOf(child)).toBe(at);
        expect(depthOf(child)).toBe(depthOf(at) + 1);
        expect(lineOf(child)).toEqual([...lineOf(at), child]);
        expect(lineOf(at)[0]).toBe(root);
        for (const ancestor of lineOf(child))
          expect([isAtOrBelow(child, ancestor), isAtOrBelow(ancestor, child)]).toEqual([true, ancestor === child]);
      }),
    );
    expect(parentOf(root)).toBeNull();
  });

  test("a path whose text only starts alike is not below", () => {
    expect(isAtOrBelow(`${SESSION}.AAAAAAAAAAAAB` as NodePath, `${SESSION}.AAAAAAAAAAAA` as NodePath)).toBe(false);
  });

  test(`${SEGMENTS_MAX} segments and one more`, () => {
    const of = (count: number) => [SESSION, ...Array.from({ length: count }, () => "AAAAAAAAAAAA")].join(".");
    expect([isNodePath(of(SEGMENTS_MAX)), isNodePath(of(SEGMENTS_MAX + 1))]).toEqual([true, false]);
  });

  test.each([
    "",
    ".",
    `${SESSION}.`,
    `.${SESSION}`,
    `${SESSION}..AAAAAAAAAAAA`,
    `${SESSION}.AAAAAAAAAAA`,
    `${SESSION}.AAAAAAAAAAAAA`,
    `${SESSION}.~`,
    `${SESSION}.~A`,
    `${SESSION}.AAAAAA~AAAAA`,
    PLANNER,
    ALICE,
    `${SESSION}/AAAAAAAAAAAA`,
  ])("refuses %j", (text) => {
    expect(isNodePath(text)).toBe(false);
    expect(parseNodePath(text, idMac)).toBeNull();
  });

  test("a path under an invented session is no path here", () => {
    const invented = `${SESSION.slice(0, -1)}${SESSION.endsWith("a") ? "b" : "a"}.AAAAAAAAAAAA`;
    expect([isNodePath(invented), parseNodePath(invented, idMac)]).toEqual([true, null]);
  });
});

describe("small grammars", () => {
  test("slugs, at the edge and one over", () => {
    const takes = (text: string) => isSlug(text);
    expect(["a", "a1", "a-1", "a".repeat(SLUG_LENGTH_MAX)].map(takes)).toEqual([true, true, true, true]);
    expect(["", "1a", "-a", "A", "a_b", "a.b", "~a", "é", "a".repeat(SLUG_LENGTH_MAX + 1)].filter(takes)).toEqual([]);
  });
  test("instances, at the edge and one over", () => {
    expect(["default", "A-b_9", "a".repeat(INSTANCE_LENGTH_MAX)].map(isInstance)).toEqual([true, true, true]);
    expect(["", "a b", "a/b", "a.b", "é", "a".repeat(INSTANCE_LENGTH_MAX + 1)].filter(isInstance)).toEqual([]);
  });
  test("micros and times are whole, safe and not negative", () => {
    expect([0, 1, Number.MAX_SAFE_INTEGER].map(isMicros)).toEqual([true, true, true]);
    const bad: unknown[] = [-1, -0, 0.5, NaN, Infinity, 2 ** 53, "1", 1n, null, undefined, true, [1]];
    expect(bad.filter(isMicros)).toEqual([]);
    expect(bad.filter(isEpochSeconds)).toEqual([]);
    expect(toEpochSeconds(1_999 as EpochMs)).toBe(1);
    expect(toEpochMs(toEpochSeconds(2_000 as EpochMs))).toBe(2_000);
  });
  test("drawn names have the length they say", () => {
    const random = seededRandom("names");
    expect(makeSegment(random)).toMatch(/^[A-Za-z0-9_-]{12}$/);
    expect(makeCallId(random)).toMatch(/^[A-Za-z0-9_-]{22}$/);
    expect(isNodePath(childOf(root, makeSegment(random)))).toBe(true);
    expect(isAtOrBelow(root, BOB as string as NodePath)).toBe(false);
  });
});
