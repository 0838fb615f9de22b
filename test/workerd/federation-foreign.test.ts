// Sessions by foreign tokens, and operators by Cloudflare Access: an issuer with real keys, and everything that is wrong
// with a token, one thing at a time.
import { exportJWK, generateKeyPair, SignJWT, type JWK, type JWTHeaderParameters, type JWTPayload } from "jose";
import { createHmac, randomBytes } from "node:crypto";
import { afterEach, beforeEach, describe, expect, test, vi } from "vitest";
import { checkIssuers, type Issuer, type IssuerInput } from "../../core/credential/issuers.ts";
import { config } from "../../legate.config.ts";
import { newAgent, newPerson, type Person } from "../support/workerd/authority.ts";
import { send } from "../support/workerd/ways-in.ts";

const GRANT = "urn:ietf:params:oauth:grant-type:jwt-bearer";
const AUDIENCE = "https://legate.example.com";
const SUBJECT = "repo:O/R:ref:refs/heads/main";

/** An issuer of its own for each test: the isolate remembers keys by issuer. */
class ForeignIssuer {
  readonly url = `https://idp-${randomBytes(6).toString("hex")}.example.com`;
  readonly requests: string[] = [];
  keys: JWK[] = [];
  isDown = false;
  raw: (() => Response) | null = null;
  #key: CryptoKey | null = null;

  async make(person: Person, over: Partial<IssuerInput> = {}, client: string | null = null): Promise<this> {
    await this.rotate("k1");
    const subject = { subject: "repo:O/R:ref:refs/heads/*", user: person.id, ...(client === null ? {} : { client }) };
    const mistakes: string[] = [];
    const input: IssuerInput = {
      issuer: this.url,
      for: "sessions",
      audience: AUDIENCE,
      algorithms: ["ES256"],
      claims: { repository_id: "42" },
      subjects: [{ ...subject, scope: ["plan"] }],
      ...over,
    };
    const checked = checkIssuers([input], config.scopes, mistakes);
    if (mistakes.length > 0) throw new Error(mistakes.join("\n"));
    for (const [iss, issuer] of checked) (config.issuers as Map<string, Issuer>).set(iss, issuer);
    return this;
  }

  async rotate(kid: string): Promise<void> {
    const { publicKey, privateKey } = await generateKeyPair("ES256", { extractable: true });
    this.#key = privateKey;
    this.keys = [{ ...(await exportJWK(publicKey)), kid, use: "sig" }];
  }

  answer(request: Request): Response {
    this.requests.push(new URL(request.url).pathname);
    if (this.isDown) throw new TypeError("unreachable");
    if (this.raw !== null) return this.raw();
    if (request.url.endsWith("openid-configuration"))
      return Response.json({ issuer: this.url, jwks_uri: `${this.url}/keys` });
    return Response.json({ keys: this.keys });
  }

  token(claims: JWTPayload = {}, header: Partial<JWTHeaderParameters> = {}, key = this.#key): Promise<string> {
    const now = Math.floor(Date.now() / 1000);
    const all = {
      iss: this.url,
      aud: AUDIENCE,
      sub: SUBJECT,
      iat: now,
      exp: now + 300,
      jti: randomBytes(9).toString("hex"),
      repository_id: "42",
      ...claims,
    };
    if (key === null) throw new Error("no key");
    return new SignJWT(all).setProtectedHeader({ alg: "ES256", kid: "k1", typ: "JWT", ...header }).sign(key);
  }
}

let person: Person;
let client: string;
let issuer: ForeignIssuer;
beforeEach(async () => {
  person = await newPerson("pro");
  const agent = await newAgent(person, { scope: ["plan", "research"] });
  client = agent.id;
  issuer = await new ForeignIssuer().make(person, {}, client);
  const real = globalThis.fetch;
  vi.spyOn(globalThis, "fetch").mockImplementation(async (input, init) => {
    const request = new Request(input, init);
    return request.url.startsWith(issuer.url) ? issuer.answer(request) : real(input, init);
  });
});
afterEach(() => {
  (config.issuers as Map<string, Issuer>).clear(); // storage and configuration are shared between files
  vi.restoreAllMocks();
  vi.useRealTimers();
});

let address = 0;
function exchange(assertion: string, more: Record<string, string> = {}) {
  const from = { "cf-connecting-ip": `198.51.100.${++address % 250}` };
  return send("/oauth/token", { form: { grant_type: GRANT, assertion, ...more }, headers: from });
}
const b64 = (value: object) => Buffer.from(JSON.stringify(value)).toString("base64url");

describe("a foreign token", () => {
  test("starts a session of the user and client that the entry names, with no more than it gives", async () => {
    const { status, body } = await exchange(await issuer.token());
    expect(status).toBe(200);
    expect(body).toMatchObject({ token_type: "Bearer", scope: "plan" });
    const leash = await send("/sessions/current", { headers: { authorization: `Bearer ${body.access_token}` } });
    expect(leash.status).toBe(200);
    expect(issuer.requests).toEqual(["/.well-known/openid-configuration", "/keys"]);
    expect((await exchange(await issuer.token(), { scope: "research" })).body.error).toBe("invalid_scope");
  });

  test("serves once: of fifty that race, one wins", async () => {
    const token = await issuer.token();
    const answers = await Promise.all(Array.from({ length: 50 }, () => exchange(token)));
    expect(answers.filter(({ status }) => status === 200)).toHaveLength(1);
    expect(answers.filter(({ body }) => body.error === "invalid_grant")).toHaveLength(49);
  });

  test.each<[string, JWTPayload]>([
    ["another issuer", { iss: "https://other.example.com" }],
    ["another audience", { aud: "https://other.example.com" }],
    ["two audiences", { aud: [AUDIENCE, "https://other.example.com"] }],
    ["another subject", { sub: "repo:O/X:ref:refs/heads/main" }],
    ["a subject that only begins so", { sub: "xrepo:O/R:ref:refs/heads/main" }],
    ["another repository under the name", { repository_id: "43" }],
    ["an end that has passed", { exp: 1_700_000_000 }],
    ["no end", { exp: undefined as never }],
    ["too great an age", { iat: Math.floor(Date.now() / 1000) - 700 }],
    ["an issue in the future", { iat: Math.floor(Date.now() / 1000) + 600 }],
    ["a jti that is none", { jti: 7 as never }],
  ])("with %s is refused", async (_, claims) => {
    expect((await exchange(await issuer.token(claims))).body.error).toBe("invalid_grant");
  });

  test.each<[string, Partial<JWTHeaderParameters>]>([
    ["its own key", { jwk: { kty: "EC" } }],
    ["a place of keys", { jku: "https://evil.example.com/keys" }],
    ["a certificate's place", { x5u: "https://evil.example.com/x" }],
    ["another type", { typ: "logout+jwt" }],
    ["an unknown key", { kid: "k9" }],
  ])("whose header has %s is refused", async (_, header) => {
    expect((await exchange(await issuer.token({}, header))).body.error).toBe("invalid_grant");
    expect(issuer.requests.filter((path) => path.includes("evil"))).toEqual([]);
  });

  test("none, HS256 with the public key, crit, another's signature: refused", async () => {
    const [, body = "", signature = ""] = (await issuer.token()).split(".");
    const mac = (head: string) =>
      createHmac("sha256", JSON.stringify(issuer.keys[0])).update(`${head}.${body}`).digest("base64url");
    const hs = b64({ alg: "HS256", kid: "k1", typ: "JWT" });
    const { privateKey } = await generateKeyPair("ES256");
    const forged = [
      `${b64({ alg: "none", typ: "JWT" })}.${body}.`,
      `${b64({ alg: "none", typ: "JWT" })}.${body}.x`,
      `${hs}.${body}.${mac(hs)}`,
      `${b64({ alg: "ES256", kid: "k1", typ: "JWT", crit: ["x"], x: 1 })}.${body}.${signature}`,
      await issuer.token({}, {}, privateKey),
      "a.b.c",
      "",
    ];
    for (const token of forged) expect([400, 401]).toContain((await exchange(token)).status);
  });
});

describe("keys", () => {
  test("200 unknown names force one refresh in half a minute", async () => {
    expect((await exchange(await issuer.token())).status).toBe(200);
    issuer.requests.length = 0;
    const tokens = await Promise.all(Array.from({ length: 200 }, (_, i) => issuer.token({}, { kid: `x${i}` })));
    for (const { status } of await Promise.all(tokens.map((token) => exchange(token)))) expect(status).not.toBe(200);
    expect(issuer.requests.filter((path) => path === "/keys")).toHaveLength(1);
  });

  test("a rotated key is found by that refresh, and cached ones serve while the issuer is down", async () => {
    expect((await exchange(await issuer.token())).status).toBe(200);
    await issuer.rotate("k2");
    expect((await exchange(await issuer.token({}, { kid: "k2" }))).status).toBe(200);
    issuer.isDown = true;
    vi.useFakeTimers({ toFake: ["Date"], now: Date.now() + 700_000 });
    expect((await exchange(await issuer.token({}, { kid: "k2" }))).status).toBe(200);
  });

  test.each<[string, () => Response]>([
    ["a page", () => new Response("<html></html>")],
    ["an error", () => new Response("no", { status: 500 })],
    ["a redirect", () => new Response(null, { status: 302, headers: { location: "https://evil.example.com/" } })],
    ["a megabyte", () => new Response("x".repeat(1_048_576))],
    [
      "another's document",
      () => Response.json({ issuer: "https://evil.example.com", jwks_uri: "https://evil.example.com/k" }),
    ],
  ])("from an issuer that answers %s, there are none", async (_, raw) => {
    issuer.raw = raw;
    expect((await exchange(await issuer.token())).body.error).toBe("invalid_grant");
    expect(issuer.requests).toHaveLength(1);
  });

  test("cold, fifty at once ask for them once", async () => {
    const tokens = await Promise.all(Array.from({ length: 50 }, () => issuer.token()));
    for (const { status } of await Promise.all(tokens.map((token) => exchange(token)))) expect(status).toBe(200);
    expect(issuer.requests).toHaveLength(2);
  });
});

describe("operators by Cloudflare Access", () => {
  const list = (jwt: string, headers: Record<string, string> = {}) =>
    send("/admin/agents/audit?limit=1", { headers: { "cf-access-jwt-assertion": jwt, ...headers } });
  const access = (who: Person) =>
    issuer.make(who, {
      for: "operators",
      audience: "aud-tag",
      claims: { type: "app" },
      subjectClaim: "email",
      subjects: [{ subject: "ops@example.com", user: who.id }],
    });
  const claims = { aud: ["aud-tag"], email: "ops@example.com", type: "app", sub: "x" };

  test("are those whom the configuration names, as long as they are operators", async () => {
    await access(await newPerson("admin"));
    expect((await list(await issuer.token(claims))).status).toBe(200);
    expect((await list(await issuer.token({ ...claims, email: "eve@example.com" }))).status).toBe(403);
    expect((await list(await issuer.token({ ...claims, type: "org" }))).status).toBe(403);
    expect((await list("x.y.z")).status).toBe(403);
    await access(await newPerson("pro"));
    expect((await list(await issuer.token(claims))).status).toBe(403);
  });

  test("a token for sessions makes no operator, nor the other way round", async () => {
    expect((await list(await issuer.token())).status).toBe(403);
    await new ForeignIssuer().make(person, {}, client);
    await access(await newPerson("admin"));
    expect((await exchange(await issuer.token(claims))).body.error).toBe("invalid_grant");
  });
});
