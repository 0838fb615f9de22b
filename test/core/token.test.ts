// What holds of every token: parse(serialise(x)) = x, rights only shrink (invariant I5), limits at the edge and one over.
import * as fc from "fast-check";
import { describe, expect, test } from "vitest";
import { type EpochSeconds } from "../../core/ids.ts";
import {
  ACTORS_MAX,
  AGENTS_MAX,
  BLOCKS_MAX,
  CLOCK_SKEW_SECONDS,
  COOKIE_LIFE_SECONDS,
  FOREIGN_AUDIENCE_LIFE_MAX_SECONDS,
  SCOPE_LENGTH_MAX,
  SCOPES_MAX,
  SEGMENTS_MAX,
  TOKEN_LENGTH_MAX_BYTES,
  TOKEN_LIFE_MAX_SECONDS,
} from "../../core/limits.ts";
import { flattenAct, nestActors } from "../../core/token/chain.ts";
import { splitToken } from "../../core/token/format.ts";
import { narrowToken, type Narrowing } from "../../core/token/mint.ts";
import { isScopeName } from "../../core/token/scope.ts";
import { verifyToken, type VerifiedToken } from "../../core/token/verify.ts";
import { narrowing } from "../support/arbitrary.ts";
import { claimsOf, ISSUER, KEYS, NOW, PLANNER, SEARCHER, SESSION } from "../support/deployment.ts";
import { append, base64url, seededRandom } from "../support/forge.ts";

const { session } = KEYS;
const verify = (token: string, now: number = NOW) => verifyToken(token, session.verifier, now as EpochSeconds);
const plain = await session.mint(claimsOf({ agents: ["planner", "catalog", "researcher"] }));

/** Every right of `less` is one of `more`. */
function expectNoMore(less: VerifiedToken, more: VerifiedToken): void {
  for (const name of less.scope) expect(more.scope.has(name)).toBe(true);
  if (more.agents !== null) for (const slug of less.agents ?? ["*"]) expect(more.agents.has(slug)).toBe(true);
  expect(less.exp).toBeLessThanOrEqual(more.exp);
  expect([less.subject, less.tier, less.session, less.grant, less.clientId]).toEqual([
    more.subject,
    more.tier,
    more.session,
    more.grant,
    more.clientId,
  ]);
  expect(less.actors.slice(0, more.actors.length)).toEqual(more.actors);
  expect(less.actors.slice(more.actors.length).some(({ proven }) => proven)).toBe(false);
  expect(less.node.startsWith(more.node)).toBe(true);
  expect(less.segments.slice(0, more.segments.length)).toEqual(more.segments);
}

describe("adding a block", () => {
  test("never turns a denial into a pass, and never adds a right", async () => {
    const random = seededRandom("narrow");
    await fc.assert(
      fc.asyncProperty(
        fc.array(narrowing, { minLength: 1, maxLength: 6 }),
        fc.integer({ min: -3, max: 400 }),
        async (chain, after) => {
          let token = plain;
          let before = await verify(token, NOW + after);
          for (const block of chain) {
            token = await narrowToken(token, block, random);
            const now = await verify(token, NOW + after);
            if (now.ok) {
              expect(before.ok).toBe(true);
              if (before.ok) expectNoMore(now.value, before.value);
            }
            before = now;
          }
        },
      ),
    );
  });

  test("whatever bytes a holder appends", async () => {
    const whole = await verify(plain);
    if (!whole.ok) throw new Error("the plain token is refused");
    const json = fc.oneof(
      fc.json(),
      fc
        .dictionary(
          fc.constantFrom("n", "scope", "agents", "exp", "budget", "act", "for", "tier", "sub", "__proto__"),
          fc.oneof(
            fc.string(),
            fc.integer(),
            fc.constantFrom("AAAAAAAAAAAA", "read", PLANNER, null, true),
            fc.array(fc.string()),
          ),
        )
        .map((value) => JSON.stringify(value)),
    );
    await fc.assert(
      fc.asyncProperty(json, async (text) => {
        const result = await verify(append(plain, base64url(text)));
        if (result.ok) expectNoMore(result.value, whole.value);
      }),
      { numRuns: 500 },
    );
  });

  test("names the same node again with the same n, and another otherwise", async () => {
    const nodeOf = async (token: string) => {
      const result = await verify(token);
      return result.ok ? result.value.node : null;
    };
    const renewed = await session.mint(claimsOf({ jti: "renewed" }));
    const random = seededRandom("n");
    const n = "AAAAAAAAAAAA";
    expect(await nodeOf(await narrowToken(plain, { n }, random))).toBe(`${SESSION}.${n}`);
    expect(await nodeOf(await narrowToken(renewed, { n }, random))).toBe(`${SESSION}.${n}`);
    expect(await nodeOf(await narrowToken(renewed, {}, random))).not.toBe(`${SESSION}.${n}`);
  });
});

describe("any byte", () => {
  const flips = async (token: string) => {
    for (let at = 0; at < token.length; at++) {
      for (const bit of [1, 2, 4, 8, 16, 32, 64]) {
        const flipped = token.slice(0, at) + String.fromCharCode(token.charCodeAt(at) ^ bit) + token.slice(at + 1);
        const result = await verify(flipped);
        if (result.ok || result.denial.reason !== "token_invalid")
          throw new Error(`accepted with bit ${bit} of byte ${at} flipped`);
      }
    }
  };
  test("flipped in any bit, plain", () => flips(plain));
  test("flipped in any bit, narrowed", async () =>
    flips(await narrowToken(plain, { scope: "read", act: "helper" }, seededRandom("flips"))));
  test("cut off or repeated, at any place", async () => {
    const token = await narrowToken(plain, { scope: "read" }, seededRandom("cuts"));
    for (let at = 0; at < token.length; at++) {
      for (const other of [
        token.slice(0, at),
        token.slice(at + 1),
        token.slice(0, at) + token.slice(at + 1),
        token.slice(0, at + 1) + token.slice(at),
      ]) {
        expect((await verify(other)).ok, `at ${at}`).toBe(false);
      }
    }
  });
  test("any text at all is a denial, never a throw", async () => {
    await fc.assert(
      fc.asyncProperty(fc.string({ unit: "binary" }), async (text) => {
        expect((await verify(text)).ok).toBe(false);
      }),
    );
  });
});

describe("limits, at the edge and one over", () => {
  const verdict = async (token: string, now?: number) => {
    const result = await verify(token, now);
    return result.ok ? "ok" : result.denial.reason === "token_invalid" ? result.denial.fault : result.denial.reason;
  };
  const nested = (length: number) => nestActors(Array.from({ length }, () => ({ sub: PLANNER, proven: true })));
  const path = (segments: number) => [SESSION, ...Array.from({ length: segments }, () => "AAAAAAAAAAAA")].join(".");
  const block = (members: object) => append(plain, base64url(JSON.stringify({ n: "AAAAAAAAAAAA", ...members })));
  const slugs = (count: number) => Array.from({ length: count }, (_, i) => `a${i}`);
  const narrowTimes = async (token: string, times: number) => {
    let narrowed = token;
    for (let i = 0; i < times; i++)
      narrowed = append(narrowed, base64url(JSON.stringify({ n: `AAAAAAAAAA${10 + i}` })));
    return narrowed;
  };

  test("bytes", async () => {
    // A jti as long as it must be, for base64url has no lengths of 1 mod 4; one block of agents brings the bulk.
    const agents = Array.from({ length: 36 }, (_, i) => `a${10 + i}${"x".repeat(61)}`);
    const filled = async (length: number): Promise<string | undefined> => {
      for (let more = 1; more < 400; more++) {
        const token = append(
          await session.mint(claimsOf({ jti: "j".repeat(more) })),
          base64url(JSON.stringify({ n: "AAAAAAAAAAAA", agents })),
        );
        if (token.length === length) return token;
        if (token.length > length) {
          agents[0] = (agents[0] as string).slice(0, -1);
          more = 1;
        }
      }
      return undefined;
    };
    const [edge, over] = [await filled(TOKEN_LENGTH_MAX_BYTES), await filled(TOKEN_LENGTH_MAX_BYTES + 1)];
    expect([edge?.length, over?.length]).toEqual([4_096, 4_097]);
    expect([await verdict(edge as string), await verdict(over as string)]).toEqual(["ok", "too_long"]);
    expect([splitToken(edge as string) === null, splitToken(over as string) === null]).toEqual([false, true]);
  });
  test("actors in the claims", async () => {
    const of = (length: number) => session.mint(claimsOf({ act: nested(length) }));
    expect([await verdict(await of(ACTORS_MAX)), await verdict(await of(ACTORS_MAX + 1))]).toEqual(["ok", "claims"]);
    expect([flattenAct(nested(8), ISSUER)?.length, flattenAct(nested(9), ISSUER)]).toEqual([8, null]);
  });
  test("actors, with the blocks'", async () => {
    const of = async (length: number) =>
      append(await session.mint(claimsOf({ act: nested(length) })), base64url('{"n":"AAAAAAAAAAAA","act":"a"}'));
    expect([await verdict(await of(ACTORS_MAX - 1)), await verdict(await of(ACTORS_MAX))]).toEqual(["ok", "too_deep"]);
  });
  test("segments of the path, and blocks", async () => {
    const of = (segments: number) => session.mint(claimsOf({ gid: path(segments) }));
    expect([await verdict(await of(SEGMENTS_MAX)), await verdict(await of(SEGMENTS_MAX + 1))]).toEqual([
      "ok",
      "too_deep",
    ]);
    expect([
      await verdict(await narrowTimes(await of(4), 8)),
      await verdict(await narrowTimes(await of(4), 9)),
    ]).toEqual(["ok", "too_deep"]);
    expect([
      await verdict(await narrowTimes(plain, BLOCKS_MAX)),
      await verdict(await narrowTimes(plain, BLOCKS_MAX + 1)),
    ]).toEqual(["ok", "too_deep"]);
  });
  test("slugs in a block, slugs in the claims, names in a scope, and their length", async () => {
    expect([
      await verdict(block({ agents: slugs(AGENTS_MAX) })),
      await verdict(block({ agents: slugs(AGENTS_MAX + 1) })),
    ]).toEqual(["ok", "block"]);
    const claimed = (count: number) => session.mint(claimsOf({ agents: slugs(count) }));
    expect([await verdict(await claimed(AGENTS_MAX)), await verdict(await claimed(AGENTS_MAX + 1))]).toEqual([
      "ok",
      "claims",
    ]);
    const scope = (count: number) => block({ scope: slugs(count).join(" ") });
    expect([await verdict(scope(SCOPES_MAX)), await verdict(scope(SCOPES_MAX + 1))]).toEqual(["ok", "block"]);
    expect([isScopeName("s".repeat(SCOPE_LENGTH_MAX)), isScopeName("s".repeat(SCOPE_LENGTH_MAX + 1))]).toEqual([
      true,
      false,
    ]);
  });
  test("windows", async () => {
    const of = (life: number) => session.mint(claimsOf({ exp: NOW + life }));
    expect([
      await verdict(await of(TOKEN_LIFE_MAX_SECONDS)),
      await verdict(await of(TOKEN_LIFE_MAX_SECONDS + 1)),
    ]).toEqual(["ok", "claims"]);
    for (const [key, most] of [
      ["cookie", COOKIE_LIFE_SECONDS],
      ["audience", FOREIGN_AUDIENCE_LIFE_MAX_SECONDS],
    ] as const) {
      const at = async (life: number) =>
        (await verifyToken(await KEYS[key].mint(claimsOf({ exp: NOW + life })), KEYS[key].verifier, NOW)).ok;
      expect([await at(most), await at(most + 1)]).toEqual([true, false]);
    }
    expect([await verdict(plain, NOW + 299), await verdict(plain, NOW + 300)]).toEqual(["ok", "token_expired"]);
    expect([
      await verdict(plain, NOW - CLOCK_SKEW_SECONDS),
      await verdict(plain, NOW - CLOCK_SKEW_SECONDS - 1),
    ]).toEqual(["ok", "not_yet_valid"]);
  });
  test("narrowing refuses at its own desk what no verifier takes", async () => {
    const random = seededRandom("desk");
    const full = await narrowTimes(plain, BLOCKS_MAX);
    await expect(narrowToken(full, {}, random)).rejects.toThrow("at most 12 blocks");
    await expect(narrowToken("no token", {}, random)).rejects.toThrow("not a Legate session token");
    await expect(
      narrowToken(plain, { agents: slugs(AGENTS_MAX).map((slug) => slug.padEnd(60, "x")) }, random),
    ).rejects.toThrow("4096 bytes");
    for (const bad of [
      { act: "A" },
      { act: "a", for: SEARCHER },
      { scope: "a  b" },
      { budget: -1 },
      { budget: 0.5 },
      { exp: NaN },
      { n: "short" },
      { tier: "admin" },
    ]) {
      await expect(narrowToken(plain, bad as Narrowing, random), JSON.stringify(bad)).rejects.toThrow("not a block");
    }
  });
});
