// The parts of a token, one by one: blocks, actor chains, scopes, secrets and keys, segments.
import * as fc from "fast-check";
import { describe, expect, test } from "vitest";
import { childOf, depthOf, type EpochSeconds, type Micros, type NodePath, type Slug } from "../../core/ids.ts";
import { ACTORS_MAX } from "../../core/limits.ts";
import { contentOf, decodeBlock, encodeBlock, type Block } from "../../core/token/block.ts";
import { flattenAct, gateActor, nestActors, slugOfActor } from "../../core/token/chain.ts";
import { bytesOf, decodeObject, encodeObject, splitToken, type UnsafeParts } from "../../core/token/format.ts";
import { liveSecrets, sessionTokenKey, tokenExpiry } from "../../core/token/keyring.ts";
import { parseSecret, Secret } from "../../core/token/mac.ts";
import { narrowToken } from "../../core/token/mint.ts";
import { formatScope, meet, parseScope } from "../../core/token/scope.ts";
import { verifyToken } from "../../core/token/verify.ts";
import { names, narrowing } from "../support/arbitrary.ts";
import {
  ALICE,
  BOBS_AGENT,
  claimsOf,
  ISSUER,
  KEYS,
  NOW,
  PLANNER,
  SEARCHER,
  SECRETS,
  SESSION,
  toSecret,
} from "../support/deployment.ts";
import { base64url, seededRandom } from "../support/forge.ts";

const { session } = KEYS;
const verify = (token: string) => verifyToken(token, session.verifier, NOW);

describe("blocks and chains", () => {
  test("decode(encode(block)) = block", () => {
    fc.assert(
      fc.property(narrowing, (members) => {
        const block: Block = { n: "AAAAAAAAAAAA", ...members };
        expect(decodeBlock(encodeBlock(block))).toEqual(block);
      }),
    );
  });
  test("content: the same rights in any order and with any exp are one; any other difference is two", () => {
    const n = "AAAAAAAAAAAA";
    const base: Block = { n, scope: "read write", agents: ["a", "b"], budget: 5 as Micros };
    expect(contentOf({ ...base, exp: NOW, scope: "write read", agents: ["b", "a"] })).toBe(contentOf(base));
    const others: Block[] = [
      { n },
      { n, scope: "" },
      { n, agents: [] },
      { n, budget: 0 as Micros },
      { ...base, scope: "read" },
      { ...base, agents: ["a"] },
      { ...base, budget: 6 as Micros },
      { ...base, act: "x" },
      { ...base, for: SEARCHER },
      base,
    ];
    expect(new Set(others.map(contentOf)).size).toBe(others.length);
  });
  test("flatten(nest(chain)) = chain", () => {
    const link = fc.constantFrom(
      { sub: PLANNER, proven: true },
      { sub: BOBS_AGENT, proven: true },
      { sub: `${PLANNER}/a`, proven: false },
      { sub: gateActor(ISSUER, "planner" as Slug), proven: true },
    );
    fc.assert(
      fc.property(fc.array(link, { maxLength: ACTORS_MAX }), (links) => {
        expect(flattenAct(nestActors(links), ISSUER)).toEqual(links);
      }),
    );
  });
  test("the gate's actor is its issuer's alone, and only where it is proven", () => {
    const sub = gateActor(ISSUER, "planner" as Slug);
    expect(slugOfActor(ISSUER, { sub, proven: true })).toBe("planner");
    expect([
      slugOfActor(ISSUER, { sub, proven: false }),
      slugOfActor("https://other.example", { sub, proven: true }),
      slugOfActor(ISSUER, { sub: `${sub}/x`, proven: true }),
    ]).toEqual([null, null, null]);
  });
  test("a link added by a block hangs from the current actor's name, and a delegation by a person from the user's", async () => {
    const person = await session.mint(claimsOf({ client_id: ALICE, act: undefined }));
    const result = await verify(await narrowToken(person, { act: "helper" }, seededRandom("person")));
    expect(result.ok && result.value.actors).toEqual([{ sub: `${ALICE}/helper`, proven: false }]);
  });
});

describe("scopes", () => {
  test("parse(format(names)) = names; meet is what both have", () => {
    fc.assert(
      fc.property(names, names, (a, b) => {
        const parsed = parseScope(formatScope(a));
        expect([...(parsed ?? ["?"])]).toEqual(a);
        expect([...meet(new Set(a), b)].sort()).toEqual(a.filter((name) => b.includes(name)).sort());
      }),
    );
  });
  test.each(["read", "a1", "aws:deploy", "a.b_c-d:e", "catalog:read", "a:1"])("takes %j", (text) =>
    expect(parseScope(text)?.size).toBe(1),
  );
  test.each([
    " ",
    "a ",
    " a",
    "a  b",
    "a\tb",
    "a\nb",
    "A",
    "1a",
    "a:",
    ":a",
    "a::b",
    "a a",
    "é",
    "a\u0000",
    "a,b",
    '"a"',
    "a\u00a0b",
  ])("refuses %j", (text) => expect(parseScope(text)).toBeNull());
  test("reads many that nobody uses, and still the right ones", () => {
    for (let i = 0; i < 2_000; i++) expect([...(parseScope(`s${i} read`) ?? [])]).toEqual([`s${i}`, "read"]);
  });
});

describe("secrets and keys", () => {
  const text = base64url(SECRETS.current);
  test("a secret that is printed by accident says nothing", () => {
    const secret = new Secret(new Uint8Array(SECRETS.current));
    for (const printed of [String(secret), secret.toString(), JSON.stringify({ secret }), Object.keys(secret).join()])
      expect(printed).not.toContain(text.slice(0, 8));
  });
  test("weak, short, long and misspelt secrets are none", () => {
    const bad = [
      "",
      "secret",
      text.slice(0, -1),
      `${text}A`,
      `${text}=`,
      base64url(new Uint8Array(32)),
      base64url("passwordpasswordpasswordpassword"),
      base64url(SECRETS.current.subarray(0, 31)),
      base64url(Buffer.concat([SECRETS.current, SECRETS.also])),
    ];
    expect(bad.filter((weak) => parseSecret(weak) !== null)).toEqual([]);
    expect(parseSecret(text)).not.toBeNull();
  });
  test("rotation: the first secret signs, both verify, one that is gone does not", async () => {
    const of = async (...secrets: Uint8Array[]) => sessionTokenKey(await liveSecrets(secrets.map(toSecret)), ISSUER);
    const { current, also, gone } = SECRETS;
    const [old, both, swapped, next] = [
      await of(current),
      await of(current, also),
      await of(also, current),
      await of(also),
    ];
    const takes = async (signer: typeof old) => {
      const token = await signer.mint(claimsOf());
      return Promise.all(
        [old, both, swapped, next, await of(gone)].map(
          async ({ verifier }) => (await verifyToken(token, verifier, NOW)).ok,
        ),
      );
    };
    expect(await takes(old)).toEqual([true, true, true, false, false]);
    expect(await takes(both)).toEqual([true, true, true, false, false]);
    expect(await takes(swapped)).toEqual([false, true, true, true, false]);
    await expect(of()).rejects.toThrow("no signing secret");
  });
  test("a token ends with its window or its grant, whichever comes first", () => {
    expect(tokenExpiry(NOW, 3_600, (NOW + 100) as EpochSeconds)).toBe(NOW + 100);
    expect(tokenExpiry(NOW, 3_600, (NOW + 86_400) as EpochSeconds)).toBe(NOW + 3_600);
  });
  test("objects survive their segments, and segments of any length are read", () => {
    const value = { text: "x".repeat(10_000), list: [1, "é", null] };
    expect(decodeObject(encodeObject(value))).toEqual({ json: JSON.stringify(value), value });
    for (const bad of [
      "",
      "AA",
      base64url("[]"),
      base64url("1"),
      base64url("null"),
      base64url("\ufeff{}"),
      base64url("{} x"),
    ])
      expect(decodeObject(bad)).toBeNull();
  });
  test("no token's bytes are ever written over by another's, however many come", async () => {
    const [first, other] = [await session.mint(claimsOf()), await session.mint(claimsOf({ jti: "another" }))];
    const cut = (token: string) => bytesOf(token, splitToken(token) as UnsafeParts);
    const held = cut(first);
    for (let i = 0; i < 500; i++) cut(other);
    const text = (bytes: Uint8Array | undefined) => new TextDecoder().decode(bytes);
    expect(`${text(held?.head)}.${text(held?.signature)}`).toBe(first);
    expect(cut(`${first.slice(0, -1)}\u00e9`)).toBeNull();
  });
  test("two tokens that are checked at once are not mixed up", async () => {
    const tokens = await Promise.all(
      Array.from({ length: 200 }, (_, i) =>
        session.mint(claimsOf({ jti: `j${i}`, gid: childOf(SESSION as string as NodePath, `AAAAAAAAA${100 + i}`) })),
      ),
    );
    const results = await Promise.all(tokens.map((token) => verify(token)));
    results.forEach((result, i) => expect(result.ok && result.value.node).toBe(`${SESSION}.AAAAAAAAA${100 + i}`));
    expect(depthOf(`${SESSION}.a.b` as NodePath)).toBe(2);
  });
});
