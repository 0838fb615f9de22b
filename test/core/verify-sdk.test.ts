// `legate/verify`, and jose beside it: two readers that share no code with the one that signs.
import { jwtVerify } from "jose";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import type { EpochSeconds, Micros } from "../../core/ids.ts";
import { narrowToken, type Narrowing } from "../../core/token/mint.ts";
import { VECTORS_DIR } from "../../scripts/vectors.ts";
import type { TokenVectors } from "../../scripts/vectors/shared.ts";
import { createVerifier, type VerifierOptions } from "../../sdk/verify.ts";
import {
  ALICE,
  AUDIENCE,
  claimsOf,
  ISSUER,
  KEYS,
  NOW,
  PLANNER,
  SEARCHER,
  SECRETS,
  SESSION,
} from "../support/deployment.ts";
import { base64url, derive, forge, kidOf, seededRandom } from "../support/forge.ts";

const vectors = JSON.parse(readFileSync(join(VECTORS_DIR, "tokens.json"), "utf8")) as TokenVectors;
const keys = vectors.verifiers.audience.keys;
const options: VerifierOptions = { issuer: ISSUER, audience: AUDIENCE, keys, now: () => NOW * 1000 };
const token = await KEYS.audience.mint(claimsOf());
const narrow = (narrowing: Narrowing) => narrowToken(token, narrowing, seededRandom("sdk"));
const bearer = (value: string) => new Request("https://api.example.com/", { headers: { authorization: value } });

describe("legate/verify", () => {
  const here = vectors.valid.filter(({ verifier }) => verifier === "audience");
  test("there are vectors for it", () => expect(here.length).toBeGreaterThan(0));
  test.each(here)("takes: $name", async ({ token: text, now, expect: view }) => {
    const result = await createVerifier({ ...options, now: () => now * 1000 }).verify(text);
    expect(result.ok && { ...result.value, scope: [...result.value.scope] }).toEqual({
      subject: view.subject,
      actors: view.actors,
      clientId: view.clientId,
      session: view.session,
      node: view.node,
      scope: view.scope,
      tier: view.tier,
      expires: view.exp,
    });
  });
  /** Made for this audience and shown to another: refused there, good here. */
  const isOurs = (text: string) => Buffer.from(text.split(".")[1] ?? "", "base64url").includes(`"aud":"${AUDIENCE}"`);
  const elsewhere = vectors.invalid.filter(({ verifier, token: text }) => verifier === "audience" || !isOurs(text));
  test.each([
    ...elsewhere,
    ...vectors.valid.filter(({ verifier }) => verifier !== "audience").map((vector) => ({ ...vector, expect: null })),
  ])("refuses: $name", async ({ token: text, verifier, now, expect: expected }) => {
    const result = await createVerifier({ ...options, now: () => now * 1000 }).verify(text);
    expect(result.ok).toBe(false);
    if (verifier === "audience" && expected !== null) expect(result).toMatchObject({ denial: expected });
  });
  test("takes a request, whatever the case of its scheme", async () => {
    for (const value of [`Bearer ${token}`, `bearer ${token}`, `BEARER  ${token}`])
      expect((await createVerifier(options).verify(bearer(value))).ok).toBe(true);
    for (const value of [
      "",
      "Bearer",
      `Basic ${token}`,
      token,
      `Bearer ${token}, Bearer ${token}`,
      `Bearer ${token} x`,
      `Bearer ${"x".repeat(9_000)}`,
    ]) {
      expect(await createVerifier(options).verify(bearer(value)), value.slice(0, 20)).toEqual({
        ok: false,
        denial: { reason: "credentials_missing" },
      });
    }
    expect(
      await createVerifier(options).verify(new Request(`https://api.example.com/?access_token=${token}`)),
    ).toMatchObject({ denial: { reason: "credentials_missing" } });
  });
  test("scopes: all of them", async () => {
    const { verify } = createVerifier(options);
    expect((await verify(token, { scope: ["read", "write"] })).ok).toBe(true);
    expect(await verify(token, { scope: ["read", "pay"] })).toEqual({
      ok: false,
      denial: { reason: "scope_missing", required: ["read", "pay"], missing: ["pay"] },
    });
    expect(await verify(await narrow({ scope: "read" }), { scope: ["write"] })).toMatchObject({
      denial: { reason: "scope_missing" },
    });
  });
  test("without introspection: no budget, and never a named delegation or one to agents behind the gate", async () => {
    const { verify } = createVerifier(options);
    expect(await verify(await narrow({ budget: 1 as Micros }))).toEqual({
      ok: false,
      denial: { reason: "introspection_required", because: "budget" },
    });
    expect(await verify(await narrow({ for: SEARCHER }))).toMatchObject({
      denial: { reason: "delegation_not_redeemed" },
    });
    expect(await verify(await narrow({ agents: ["catalog"] }))).toMatchObject({
      denial: { reason: "audience_forbidden" },
    });
    expect((await verify(await narrow({ act: "helper", scope: "read" }))).ok).toBe(true);
  });
  test("both live secrets verify while one is rotated, and only those given", async () => {
    const also = forge(
      derive(SECRETS.also, `legate/1/aud/${AUDIENCE}`),
      { alg: "HS256", typ: "at+jwt", kid: kidOf(SECRETS.also) },
      { iss: ISSUER, aud: AUDIENCE, ...claimsOf() },
    );
    expect((await createVerifier(options).verify(also)).ok).toBe(true);
    expect((await createVerifier({ ...options, keys: [keys[0] as string] }).verify(also)).ok).toBe(false);
  });
  test.each<[string, Partial<VerifierOptions>, RegExp]>([
    ["issuer with a path", { issuer: `${ISSUER}/` }, /issuer/],
    ["issuer over http", { issuer: "http://legate.example.com" }, /issuer/],
    ["no issuer", { issuer: "" }, /issuer/],
    ["the issuer as audience", { audience: ISSUER }, /own name/],
    ["no audience", { audience: "" }, /own name/],
    ["no keys", { keys: [] }, /keys is empty/],
    ["a key without its kid", { keys: [base64url(SECRETS.current)] }, /kid\.key/],
    ["a short key", { keys: [`AAAAAAAA.${base64url(SECRETS.current).slice(1)}`] }, /kid\.key/],
  ])("is not made with %s", (_, change, sentence) => {
    expect(() => createVerifier({ ...options, ...change })).toThrow(sentence);
    try {
      createVerifier({ ...options, ...change });
    } catch (error) {
      expect(String(error)).not.toContain(base64url(SECRETS.current).slice(1, 20)); // messages are logged
    }
  });
  test("is made for a loopback issuer over http", () =>
    expect(() => createVerifier({ ...options, issuer: "http://127.0.0.1:8787" })).not.toThrow());
});

describe("with introspection", () => {
  const asking = (answer: () => Response | Promise<Response>, clientAssertion = () => Promise.resolve("assertion")) => {
    const requests: Request[] = [];
    const own = (request: Request) => {
      requests.push(request);
      return Promise.resolve(answer());
    };
    return { requests, verify: createVerifier({ ...options, introspect: { clientAssertion, fetch: own } }).verify };
  };
  const active = { active: true, sub: ALICE, scope: "read write search", exp: NOW + 300 };

  test("asks with the token and the assertion, and follows no redirect", async () => {
    const { requests, verify } = asking(() => Response.json(active));
    const text = await narrow({ budget: 5 as Micros });
    const result = await verify(text, { scope: ["read"] });
    expect(result.ok && [result.value.session, result.value.clientId]).toEqual([SESSION, PLANNER]);
    expect(requests).toHaveLength(1);
    const request = requests[0] as Request;
    expect([request.method, request.url, request.redirect]).toEqual(["POST", `${ISSUER}/oauth/introspect`, "manual"]);
    expect(Object.fromEntries(new URLSearchParams(await request.text()))).toEqual({
      token: text,
      token_type_hint: "access_token",
      client_assertion_type: "urn:ietf:params:oauth:client-assertion-type:jwt-bearer",
      client_assertion: "assertion",
    });
  });
  test("asks nobody about what it can refuse itself", async () => {
    const { requests, verify } = asking(() => Response.json(active));
    for (const text of [
      "",
      `${token}x`,
      await KEYS.session.mint(claimsOf()),
      await narrow({ for: SEARCHER }),
      await narrow({ agents: [] }),
    ])
      expect((await verify(text)).ok).toBe(false);
    expect(requests).toHaveLength(0);
  });
  test("an answer takes rights away, and never adds one", async () => {
    const wider = await asking(() => Response.json({ ...active, scope: "read pay", exp: NOW + 10_000 })).verify(token);
    expect(wider.ok && [[...wider.value.scope], wider.value.expires]).toEqual([["read"], NOW + 300]);
    const sooner = await asking(() => Response.json({ ...active, exp: NOW + 5 })).verify(token);
    expect(sooner.ok && sooner.value.expires).toBe((NOW + 5) as EpochSeconds);
    expect(await asking(() => Response.json({ ...active, exp: NOW })).verify(token)).toMatchObject({
      denial: { reason: "token_expired" },
    });
  });
  test.each([
    [{ active: false }],
    [{ active: "true", sub: ALICE, scope: "read" }],
    [{ ...active, sub: SESSION }],
    [{ ...active, sub: undefined }],
    [{}],
  ])("inactive: %j", async (answer) => {
    expect(await asking(() => Response.json(answer)).verify(token)).toEqual({
      ok: false,
      denial: { reason: "token_inactive" },
    });
  });
  test.each<[string, () => Response | Promise<Response>]>([
    ["500", () => new Response("no", { status: 500 })],
    ["401", () => Response.json({ error: "invalid_client" }, { status: 401 })],
    ["a redirect", () => Response.redirect("https://attacker.example/", 307)],
    ["no JSON", () => new Response("active")],
    ["a list", () => Response.json([active])],
    ["no body", () => new Response(null)],
    ["not UTF-8", () => new Response(new Uint8Array([0xff]))],
    ["more than 64 KiB", () => Response.json({ ...active, padding: "x".repeat(65_536) })],
    ["no scope", () => Response.json({ active: true, sub: ALICE })],
    ["a malformed scope", () => Response.json({ ...active, scope: "read  write" })],
    ["no answer", () => Promise.reject(new Error(`could not send ${token}`))],
  ])("fails closed: %s", async (_, answer) => {
    const result = await asking(answer).verify(token);
    expect(result).toMatchObject({ ok: false, denial: { reason: "introspection_unavailable" } });
    expect(JSON.stringify(result)).not.toContain(token.slice(-20));
  });
  test("exactly 64 KiB is read", async () => {
    const empty = JSON.stringify({ ...active, padding: "" });
    expect(
      (
        await asking(
          () => new Response(JSON.stringify({ ...active, padding: "x".repeat(65_536 - empty.length) })),
        ).verify(token)
      ).ok,
    ).toBe(true);
  });
  test("no assertion, no question", async () => {
    const { requests, verify } = asking(
      () => Response.json(active),
      () => Promise.reject(new Error("no key")),
    );
    expect(await verify(token)).toMatchObject({ denial: { reason: "introspection_unavailable" } });
    expect(requests).toHaveLength(0);
  });
});

describe("jose", () => {
  const raw = (line: string) => Buffer.from(line.split(".")[1] as string, "base64url");
  const rules = (audience: string) => ({
    issuer: ISSUER,
    audience,
    algorithms: ["HS256"],
    typ: "at+jwt",
    currentDate: new Date(NOW * 1000),
  });
  test("verifies a plain token with its audience's key", async () => {
    const { payload, protectedHeader } = await jwtVerify(token, raw(keys[0] as string), rules(AUDIENCE));
    expect(payload).toEqual({ iss: ISSUER, aud: AUDIENCE, ...claimsOf() });
    expect(protectedHeader).toEqual({ alg: "HS256", typ: "at+jwt", kid: kidOf(SECRETS.current) });
    const session = await KEYS.session.mint(claimsOf());
    expect(
      (await jwtVerify(session, raw(vectors.verifiers.session.keys[0] as string), rules(ISSUER))).payload.sub,
    ).toBe(ALICE);
  });
  test.each([
    ["another audience's", vectors.verifiers.other.keys[0]],
    ["the issuer's", vectors.verifiers.session.keys[0]],
    ["the cookie's", vectors.verifiers.cookie.keys[0]],
    ["the other secret's", keys[1]],
  ])("refuses it with %s key", async (_, line) => {
    await expect(jwtVerify(token, raw(line as string), rules(AUDIENCE))).rejects.toMatchObject({
      code: "ERR_JWS_SIGNATURE_VERIFICATION_FAILED",
    });
  });
  test("does not take a narrowed token for a plain one", async () => {
    await expect(
      jwtVerify(await narrow({ scope: "read" }), raw(keys[0] as string), rules(AUDIENCE)),
    ).rejects.toMatchObject({ code: "ERR_JWS_INVALID" });
  });
});
