import * as fc from "fast-check";
import { describe, expect, test } from "vitest";
import type { CallId, EpochMs, HoldId, Micros, NodePath, Slug } from "../../core/ids.ts";
import { LABEL } from "../../core/token/mac.ts";
import { importIdentityKey, openIdentity, sealIdentity, type Identity } from "../../core/wire/identity.ts";
import { isInternalHeader, parseCost } from "../../core/wire/http.ts";
import { ALICE, KEYS, claimsOf, PLANNER, SECRETS, SESSION } from "../support/deployment.ts";
import { derive } from "../support/forge.ts";

const NOW = 1_800_000_000_000 as EpochMs;
const keyFor = (worker: string, secret = SECRETS.current) =>
  importIdentityKey(new Uint8Array(derive(secret, LABEL.identity(worker))));
const [key, old, other] = [await keyFor("agents"), await keyFor("agents", SECRETS.gone), await keyFor("other")];

const identity = {
  subject: ALICE,
  tier: "pro",
  actors: [{ sub: PLANNER, proven: true }],
  session: SESSION,
  node: SESSION as string as NodePath,
  scope: ["read"],
  agents: null,
  remaining: null,
  callId: "AAAAAAAAAAAAAAAAAAAAAA" as CallId,
  hold: "hld" as HoldId,
  held: 5 as Micros,
  level: "strict",
  traceparent: "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
  slug: "planner" as Slug,
  instance: "default",
  worker: "agents",
  method: "POST",
  path: "/chat?q=é",
  tokenExpires: (NOW + 60_000) as EpochMs,
  expires: (NOW + 2_000) as EpochMs,
} satisfies Record<keyof Identity, unknown> as Identity;
const sealed = await sealIdentity(key, identity);

describe("the identity envelope", () => {
  test("open(seal(identity)) = identity, as header text", async () => {
    expect(await openIdentity(sealed, [key], NOW)).toEqual(identity);
    expect(sealed).toMatch(/^[A-Za-z0-9_.-]+$/);
  });
  test("ends: the last millisecond, and the one after", async () => {
    expect(await openIdentity(sealed, [key], (NOW + 1_999) as EpochMs)).not.toBeNull();
    expect(await openIdentity(sealed, [key], (NOW + 2_000) as EpochMs)).toBeNull();
  });
  test("is one Worker's alone, and rotates", async () => {
    expect(await openIdentity(sealed, [other], NOW)).toBeNull();
    expect(await openIdentity(sealed, [], NOW)).toBeNull();
    expect(await openIdentity(sealed, [old], NOW)).toBeNull();
    expect(await openIdentity(sealed, [old, key], NOW)).toEqual(identity);
    expect(await openIdentity(await sealIdentity(old, identity), [key, old], NOW)).toEqual(identity);
  });
  test("a key that borrows another's name opens nothing", async () => {
    expect(await openIdentity(sealed, [{ kid: key.kid, key: other.key }], NOW)).toBeNull();
  });
  test("any other text is none, and nothing throws", async () => {
    const [kid, payload, signature] = sealed.split(".") as [string, string, string];
    const token = await KEYS.session.mint(claimsOf());
    for (const text of [
      "",
      ".",
      "..",
      kid,
      `${kid}.${payload}`,
      `${kid}.${payload}.`,
      `${sealed}.`,
      `${sealed}.${signature}`,
      ` ${sealed}`,
      `${sealed}\n`,
      `${sealed}=`,
      `${kid}.${signature}.${payload}`,
      `${kid}..${signature}`,
      sealed.replace(kid, "AAAAAAAA"),
      sealed.replace(kid, "__proto__"),
      `${sealed}, ${sealed}`,
      token,
    ]) {
      expect(await openIdentity(text, [key], NOW), JSON.stringify(text)).toBeNull();
    }
    await fc.assert(
      fc.asyncProperty(fc.string({ unit: "binary" }), async (text) => {
        expect(await openIdentity(text, [key], NOW)).toBeNull();
      }),
    );
  });
  test("any bit of it flipped", async () => {
    for (let at = 0; at < sealed.length; at++) {
      const flipped = sealed.slice(0, at) + String.fromCharCode(sealed.charCodeAt(at) ^ 1) + sealed.slice(at + 1);
      expect(await openIdentity(flipped, [key], NOW), `byte ${at}`).toBeNull();
    }
  });
});

describe("headers", () => {
  test("what only Legate may set is told from what anyone may", () => {
    for (const name of [
      "legate-identity",
      "legate-delegation",
      "legate-cost",
      "x-partykit-props",
      "x-partykit-room",
      "x-agents-lifecycle-props",
      "x-auth-user",
      "cf-access-jwt-assertion",
      "x-legate-user",
    ])
      expect(isInternalHeader(name), name).toBe(true);
    for (const name of [
      "authorization",
      "content-type",
      "traceparent",
      "cf-connecting-ip",
      "x-request-id",
      "idempotency-key",
    ])
      expect(isInternalHeader(name), name).toBe(false);
  });
  test("a cost is plain digits", () => {
    expect(["0", "1", "1000000", "9007199254740991"].map(parseCost)).toEqual([
      0,
      1,
      1_000_000,
      Number.MAX_SAFE_INTEGER,
    ]);
    for (const text of [
      "",
      "-1",
      "-0",
      "+1",
      "01",
      "1.0",
      "1e3",
      "0x1",
      " 1",
      "1 ",
      "1, 1",
      "9007199254740992",
      "99999999999999999",
      "NaN",
      "Infinity",
      "١",
    ])
      expect(parseCost(text), text).toBeNull();
  });
});
