// Credentials over HTTP and RPC at the edge: AWS's container shape, what a request may say, and the issuer's documents.
import { runDurableObjectAlarm } from "cloudflare:test";
import { exports } from "cloudflare:workers";
import { importJWK, jwtVerify, type JWK } from "jose";
import { afterEach, beforeAll, beforeEach, describe, expect, test, vi } from "vitest";
import type { CredentialServiceRpc } from "../../core/wire/credentials.ts";
import { newAgent, newPerson, openFor, tokenText } from "../support/workerd/authority.ts";
import { addRoles, awsRole, stsInPlace } from "../support/workerd/federation.ts";
import { HOST, send, signUp } from "../support/workerd/ways-in.ts";
import type { StsDouble } from "../support/sts-double.ts";

let sts: StsDouble;
beforeAll(() =>
  addRoles(
    awsRole("http"),
    awsRole("counted"),
    awsRole("proxied", { proxy: { service: "sqs", origins: ["http://127.0.0.1:7"] } }),
  ),
);
beforeEach(() => {
  sts = stsInPlace();
});
afterEach(() => {
  vi.restoreAllMocks();
  vi.useRealTimers();
});

async function bearer(scope = ["aws:http", "aws:proxied"]): Promise<string> {
  const person = await newPerson("pro");
  const agent = await newAgent(person, { scope });
  return tokenText(await openFor(person, agent));
}
const get = (path: string, authorization: string) => send(path, { headers: { authorization } });

describe("the container-credentials shape", () => {
  test("with and without Bearer, the same credential", async () => {
    const token = await bearer();
    const answers = [await get("/federation/aws/http", `Bearer ${token}`), await get("/federation/aws/http", token)];
    for (const { status, headers, body } of answers) {
      expect(status).toBe(200);
      expect(headers.get("cache-control")).toBe("no-store");
      expect(body).toEqual({
        AccessKeyId: "ASIADOUBLE0000000001",
        SecretAccessKey: "double-secret-1-planted/+=",
        Token: "double-session-1-planted",
        Expiration: expect.stringMatching(/^\d{4}-.*Z$/) as string,
        RoleArn: "arn:aws:iam::123456789012:role/test",
      });
    }
    expect(sts.exchanges).toHaveLength(1);
  });

  test("elsewhere a token without Bearer is none", async () => {
    expect((await get("/sessions/current", await bearer())).status).toBe(401);
  });

  test.each<[string, string, number, string]>([
    ["another alias", "/federation/aws/other", 403, "insufficient_scope"],
    ["a role in the request", "/federation/aws/http?RoleArn=arn:aws:iam::1:role/x", 400, "invalid_request"],
    ["another provider", "/federation/oracle/http", 404, "not_found"],
    ["a provider that the alias is not of", "/federation/gcp/http", 403, "insufficient_scope"],
    ["nothing", "/federation/aws", 404, "not_found"],
  ])("%s makes no exchange", async (_, path, status, code) => {
    const { status: is, body } = await get(path, `Bearer ${await bearer()}`);
    expect([is, body.code]).toEqual([status, code]);
    expect(sts.requests).toEqual([]);
  });

  test("no token, a forged one, a scope that is missing", async () => {
    expect((await send("/federation/aws/http")).status).toBe(401);
    expect((await get("/federation/aws/http", "Bearer a.b.c")).status).toBe(401);
    expect((await get("/federation/aws/http", `Bearer ${await bearer(["aws:proxied"])}`)).status).toBe(403);
    expect(sts.requests).toEqual([]);
  });

  test("a refusal of the cloud is 502 or 503 by its code, without its words", async () => {
    const table: [string, number, number, string][] = [
      ["AccessDenied", 403, 502, "exchange_refused"],
      ["Throttling", 400, 503, "exchange_unavailable"],
    ];
    for (const [code, at, status, is] of table) {
      sts.faults.push({ code, status: at });
      const answer = await get("/federation/aws/http", await bearer());
      expect([answer.status, answer.body.code, answer.body.reason]).toEqual([status, is, code]);
      expect(Number(answer.headers.get("retry-after"))).toBeGreaterThan(0);
      expect(JSON.stringify(answer.body)).not.toContain("planted");
    }
  });
});

describe("over the service binding", () => {
  const authority = exports.Authority({ props: { worker: "legate-agents" } }) as unknown as CredentialServiceRpc;

  test("a delegation gets what it would over HTTP, and no more", async () => {
    const token = await bearer();
    expect(await authority.credentials({ alias: "http", token })).toMatchObject({
      ok: true,
      value: { secrets: { provider: "aws", accessKeyId: "ASIADOUBLE0000000001" } },
    });
    expect(await authority.credentials({ alias: "other", token })).toMatchObject({
      denial: { reason: "scope_missing" },
    });
    expect(await authority.credentials({ alias: "http", token: "x" })).toMatchObject({
      denial: { reason: "token_invalid" },
    });
    expect(sts.exchanges).toHaveLength(1);
  });
});

describe("the signing proxy", () => {
  const PLACE = "/federation/aws/proxied/proxy/127.0.0.1:7/queue";

  test("signs with the credential, and sends none of the caller's own", async () => {
    const seen: Request[] = [];
    vi.restoreAllMocks();
    sts = stsInPlace((request) => {
      seen.push(request);
      const headers = { "set-cookie": "a=b", "x-amz-security-token": "leak", "x-amz-request-id": "r" };
      return new Response('{"html":"<script>"}', { headers: { "content-type": "text/html", ...headers } });
    });
    const answer = await send(PLACE, {
      method: "POST",
      body: "hello",
      headers: {
        authorization: await bearer(),
        cookie: "a=b",
        "x-amz-security-token": "mine",
        "x-amz-target": "SQS.Send",
      },
    });
    expect(answer.body).toEqual({ html: "<script>" });
    expect(answer.headers.get("content-security-policy")).toContain("sandbox");
    expect(answer.headers.get("x-amz-request-id")).toBe("r");
    expect([...answer.headers.keys()]).not.toContain("set-cookie");
    expect([...answer.headers.keys()]).not.toContain("x-amz-security-token");
    const [request] = seen;
    expect(request?.url).toBe("http://127.0.0.1:7/queue");
    const sent = Object.fromEntries(request?.headers ?? []);
    expect(sent["authorization"]).toMatch(
      /^AWS4-HMAC-SHA256 Credential=ASIADOUBLE0000000001\/\d{8}\/eu-central-1\/sqs\/aws4_request, SignedHeaders=/,
    );
    expect(sent).toMatchObject({ "x-amz-security-token": "double-session-1-planted", "x-amz-target": "SQS.Send" });
    expect(sent).not.toHaveProperty("cookie");
  });

  test.each<[string, number, number, number]>([
    ["GET", 1, 200, 2],
    ["GET", 2, 503, 2],
    ["POST", 1, 503, 1],
  ])(
    "a %s whose connection breaks %i times is %i, after %i tries: only what reads is asked again",
    async (method, breaks, status, tries) => {
      let seen = 0;
      vi.restoreAllMocks();
      sts = stsInPlace(() => {
        seen++;
        if (seen <= breaks) throw new TypeError("connection reset");
        return new Response("{}");
      });
      const body = method === "POST" ? { body: "hello" } : {};
      const answer = await send(PLACE, { method, ...body, headers: { authorization: await bearer() } });
      expect([answer.status, seen]).toEqual([status, tries]);
    },
  );

  test.each([
    ["another host", "/federation/aws/proxied/proxy/169.254.169.254/latest", "invalid_target"],
    ["no host", "/federation/aws/proxied/proxy/", "invalid_target"],
    ["a role without one", "/federation/aws/http/proxy/127.0.0.1:7/x", "invalid_target"],
    ["a signature of the caller's", `${PLACE}?X-Amz-Signature=x`, "invalid_request"],
  ])("%s is refused", async (_, path, code) => {
    expect((await get(path, await bearer())).body.code).toBe(code);
  });
});

describe("what operators see of roles", () => {
  test("exchanges, failures and the share of answers that cost none, of all users", async () => {
    const operator = await signUp("admin");
    const rolesOf = async (query = "") => {
      const { body } = await operator.browser.send(`/admin/federation${query}`);
      return body.roles.find(({ role }: { role: string }) => role === "aws:counted");
    };
    expect(await rolesOf(), "configured, never asked for").toEqual({
      role: "aws:counted",
      exchanges: 0,
      failures: 0,
      answers: 0,
      hitRate: null,
    });
    const people = await Promise.all([newPerson("pro"), newPerson("pro")]);
    for (const [i, person] of people.entries()) {
      const agent = await newAgent(person, { scope: ["aws:counted"] });
      const token = await tokenText(await openFor(person, agent));
      if (i === 0) sts.faults.push({ code: "AccessDenied", status: 403 });
      if (i === 0) expect((await get("/federation/aws/counted", token)).status).toBe(502);
      vi.useFakeTimers({ toFake: ["Date"], now: Date.now() + 6_000 });
      for (let n = 0; n < 10; n++) expect((await get("/federation/aws/counted", token)).status).toBe(200);
    }
    vi.useFakeTimers({ toFake: ["Date"], now: Date.now() + 70_000 });
    for (const { stub } of people) await runDurableObjectAlarm(stub);
    vi.useFakeTimers({ toFake: ["Date"], now: Date.now() + 1_000 });
    for (const { stub } of people) await runDurableObjectAlarm(stub);
    expect(await rolesOf("?days=2")).toEqual({
      role: "aws:counted",
      exchanges: 2,
      failures: 1,
      answers: 20,
      hitRate: 0.9,
    });
  });

  test("is theirs alone, and of days that there are", async () => {
    const someone = await signUp();
    expect((await someone.browser.send("/admin/federation")).body.code).toBe("operator_required");
    const operator = await signUp("admin");
    for (const days of ["0", "-1", "367", "x", "1&days=1"])
      expect((await operator.browser.send(`/admin/federation?days=${days}`)).status).toBe(400);
  });
});

describe("the issuer's documents", () => {
  test("static, public, cacheable, the key that signs first", async () => {
    const { headers, body } = await send("/.well-known/openid-configuration");
    expect(headers.get("cache-control")).toContain("public");
    expect(body).toMatchObject({
      issuer: HOST,
      jwks_uri: `${HOST}/.well-known/jwks.json`,
      id_token_signing_alg_values_supported: ["ES256"],
    });
    const { body: jwks } = await send("/.well-known/jwks.json");
    expect(jwks.keys.map(({ kid }: JWK) => kid)).toEqual(["oidc-1", "oidc-2"]);
    expect(JSON.stringify(jwks)).not.toContain('"d"');
  });

  test("what is signed verifies with them", async () => {
    await get("/federation/aws/http", await bearer());
    const { body } = await send("/.well-known/jwks.json");
    const [key] = body.keys as JWK[];
    const jwt = sts.exchanges[0]?.form["WebIdentityToken"] ?? "";
    const verified = await jwtVerify(jwt, await importJWK(key ?? {}, "ES256"), {
      issuer: HOST,
      audience: "sts.amazonaws.com",
    });
    expect(verified.protectedHeader).toEqual({ alg: "ES256", typ: "JWT", kid: "oidc-1" });
  });
});
