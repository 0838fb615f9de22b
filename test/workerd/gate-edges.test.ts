// What crosses the edge in both directions: agents' answers cleaned, browsers' origins, discovery, matching, and the
// classes of caller.
import { listDurableObjectIds } from "cloudflare:test";
import { env, exports } from "cloudflare:workers";
import { describe, expect, test } from "vitest";
import { match } from "../../worker/match.ts";
import { originOf } from "../../worker/inbound.ts";
import {
  UPGRADE,
  bearer,
  edge,
  edgeWith,
  enrol,
  inventAgent,
  narrow,
  open,
  send,
  withCookie,
} from "../support/workerd/gate.ts";

const answering = (body: BodyInit | null, init: ResponseInit) =>
  edgeWith({ bold: { serve: () => new Response(body, init) } });

describe("an agent's answer", () => {
  test("is never active content, sets nothing, and names no header of Legate's", async () => {
    const { token } = await open();
    const hostile = {
      "content-type": "text/html",
      "set-cookie": "__Host-legate=stolen; Path=/; Secure",
      "clear-site-data": '"*"',
      "service-worker-allowed": "/",
      "access-control-allow-origin": "*",
      "access-control-allow-credentials": "true",
      "legate-budget": "remaining=999999",
      "legate-receipt": "forged",
      "legate-identity": "forged",
      "content-security-policy": "default-src *",
      "x-content-type-options": "",
      "strict-transport-security": "max-age=0",
      "www-authenticate": "Basic realm=phish",
      refresh: "0;url=https://evil.test",
      "x-mine": "1",
      "content-language": "en",
    };
    const gate = answering("<script>alert(1)</script>", { headers: hostile });
    const answer = await send(gate, "/agents/bold", bearer(token, { origin: "https://evil.test" }));
    expect(Object.fromEntries(answer.headers)).toEqual({
      "cache-control": "no-store",
      "content-language": "en",
      "content-security-policy": "sandbox; default-src 'none'; frame-ancestors 'none'; base-uri 'none'",
      "content-type": "text/html",
      "cross-origin-resource-policy": "same-origin",
      "legate-budget": answer.headers.get("legate-budget"),
      ratelimit: '"burst";r=19;t=1',
      "ratelimit-policy": '"burst";q=20;w=1',
      "referrer-policy": "no-referrer",
      "strict-transport-security": "max-age=63072000; includeSubDomains",
      vary: "Origin",
      "x-content-type-options": "nosniff",
    });
    expect(answer.headers.get("legate-budget")).not.toBe("remaining=999999");
    expect(answer.headers.getSetCookie()).toEqual([]);
  });

  test.each([
    ["private, max-age=60", "private, max-age=60"],
    ["no-cache", "no-cache"],
    ["public, max-age=60", "no-store"],
    ["private, s-maxage=60", "no-store"],
    ["max-age=60", "no-store"],
  ])("cached as %s leaves as %s", async (sent, left) => {
    const gate = answering("x", { headers: { "cache-control": sent } });
    const answer = await send(gate, "/agents/bold", bearer((await open()).token));
    expect(answer.headers.get("cache-control")).toBe(left);
  });

  test.each([
    ["other", "/agents/bold/other"],
    ["/agents/bold/default/x?y=1", "/agents/bold/default/x?y=1"],
    ["https://legate.test/agents/bold/default/x", "/agents/bold/default/x"],
    ["/agents/other/default", null],
    ["/agents/bold/../other/x", null],
    ["/auth/logout", null],
    ["https://evil.test/agents/bold/x", null],
    ["//evil.test/agents/bold/x", null],
    ["javascript:alert(1)", null],
    ["/\\evil.test/agents/bold/x", null],
  ])("redirected to %s leads to %s", async (sent, left) => {
    const gate = answering(null, { status: 303, headers: { location: sent } });
    const answer = await send(gate, "/agents/bold/default", bearer((await open()).token));
    expect([answer.status, answer.headers.get("location")]).toEqual([303, left]);
  });

  test("without a body, and in full where its length is known", async () => {
    const { token } = await open();
    const none = await send(answering(null, { status: 204 }), "/agents/bold", bearer(token));
    expect([none.status, none.body]).toEqual([204, null]);
    const known = answering("12345", { headers: { "content-length": "5" } });
    expect(await (await send(known, "/agents/bold", bearer(token))).text()).toBe("12345");
  });
});

describe("browsers", () => {
  const APP = "https://app.example.com";
  const gate = edgeWith({ seen: { entry: { transport: "websocket" } } }, [APP]);
  const preflight = (path: string, origin: string, at = gate) =>
    send(at, path, {
      method: "OPTIONS",
      headers: { origin, "access-control-request-method": "POST", "access-control-request-headers": "authorization" },
    });

  test.each([APP, edge.issuer])("%s is asked in, with credentials", async (origin) => {
    const answer = await preflight("/agents/seen/one", origin);
    expect(answer.status).toBe(204);
    const { headers } = answer;
    expect(headers.get("access-control-allow-origin")).toBe(origin);
    expect(headers.get("access-control-allow-credentials")).toBe("true");
    expect(headers.get("access-control-allow-methods")).toBe("GET, POST");
    expect(headers.get("access-control-allow-headers")).toContain("Authorization, Content-Type, Idempotency-Key");
    expect(headers.get("access-control-max-age")).toBe("600");
    expect(headers.get("vary")).toBe("Origin");
  });

  test.each([
    "https://evil.test",
    "null",
    "https://app.example.com.evil.test",
    "http://app.example.com",
    "HTTPS://APP.EXAMPLE.COM",
  ])("%s is not", async (origin) => {
    const { token } = await open();
    for (const answer of [
      await preflight("/agents/seen", origin),
      await preflight("/sessions", origin),
      await send(gate, "/agents/seen", bearer(token, { origin })),
      await send(gate, "/agents/nobody", { headers: { origin } }),
    ]) {
      expect([...answer.headers.keys()].filter((name) => name.startsWith("access-control"))).toEqual([]);
      expect(answer.headers.get("vary")).toBe("Origin");
    }
  });

  test("a listed origin reads answers and refusals, with a cookie too", async () => {
    const { cookie } = await open();
    const headers = { cookie: `__Host-legate=${cookie}`, origin: APP, "sec-fetch-site": "cross-site" };
    const answer = await send(gate, "/agents/seen", { headers });
    expect(answer.status).toBe(200);
    expect(answer.headers.get("access-control-allow-origin")).toBe(APP);
    expect(answer.headers.get("access-control-expose-headers")).toContain("Legate-Budget");
    const refused = await send(gate, "/agents/nobody", { headers });
    expect(refused.headers.get("access-control-allow-origin")).toBe(APP);
  });

  test("OPTIONS says what a path allows, and what is no path is none", async () => {
    expect((await send(gate, "/sessions/current", { method: "OPTIONS" })).headers.get("allow")).toBe("GET, OPTIONS");
    expect((await preflight("/agents/nobody", APP)).status).toBe(404);
    expect((await preflight("/nowhere", APP)).status).toBe(404);
  });

  test("a cookie changes nothing for a foreign page, nor without a page", async () => {
    const { cookie } = await open();
    for (const headers of [
      {},
      { origin: "https://evil.test" },
      { "sec-fetch-site": "cross-site" },
      { "sec-fetch-site": "same-site" },
    ]) {
      const init = { method: "POST", headers: { cookie: `__Host-legate=${cookie}`, ...headers } };
      expect((await send(gate, "/auth/logout", init)).status).toBe(403);
      expect((await send(gate, "/sessions", init)).status).toBe(403);
    }
    expect((await send(gate, "/sessions", { headers: { cookie: `__Host-legate=${cookie}` } })).status).toBe(200);
  });

  test("nobody is signed in by a foreign page", async () => {
    const init = {
      method: "POST",
      headers: { origin: "https://evil.test", "content-type": "application/json" },
      body: "{}",
    };
    expect((await send(gate, "/auth/login", init)).status).toBe(403);
    expect((await send(gate, "/auth/register", { ...init, headers: { "sec-fetch-site": "cross-site" } })).status).toBe(
      403,
    );
  });
});

describe("discovery", () => {
  const read = async (path: string) => {
    const answer = await send(edge, `/.well-known/${path}`);
    return {
      status: answer.status,
      cache: answer.headers.get("cache-control"),
      body: await answer.json<Record<string, unknown>>(),
    };
  };

  test("RFC 8414: what must be there, under the issuer's own names", async () => {
    const { status, cache, body } = await read("oauth-authorization-server");
    expect([status, cache]).toEqual([200, "public, max-age=300"]);
    expect(body).toMatchObject({
      issuer: edge.issuer,
      token_endpoint: `${edge.issuer}/oauth/token`,
      jwks_uri: `${edge.issuer}/.well-known/jwks.json`,
      response_types_supported: [],
      token_endpoint_auth_methods_supported: ["private_key_jwt"],
      token_endpoint_auth_signing_alg_values_supported: ["ES256", "EdDSA"],
    });
  });

  test("RFC 9728: the deployment, and each agent as a resource", async () => {
    expect((await read("oauth-protected-resource")).body).toMatchObject({
      resource: edge.issuer,
      authorization_servers: [edge.issuer],
      bearer_methods_supported: ["header"],
    });
    expect((await read("oauth-protected-resource/agents/planner")).body).toMatchObject({
      resource: `${edge.issuer}/agents/planner`,
      scopes_supported: ["plan"],
      legate_cost: { most: 1_000, estimate: 500 },
    });
    expect((await read("oauth-protected-resource/agents/nobody")).status).toBe(404);
  });

  test("jwks.json holds public keys only", async () => {
    const { body } = await read("jwks.json");
    const members = ["alg", "crv", "kid", "kty", "use", "x", "y"];
    for (const key of (body as { keys: object[] }).keys)
      expect(members).toEqual(expect.arrayContaining(Object.keys(key)));
    const { edgeOf } = await import("../../worker/env.ts");
    const pair = (await crypto.subtle.generateKey({ name: "ECDSA", namedCurve: "P-256" }, true, [
      "sign",
    ])) as CryptoKeyPair;
    const secret = (await crypto.subtle.exportKey("jwk", pair.privateKey)) as JsonWebKey;
    const keys = JSON.stringify([{ ...secret, kid: "one", alg: "ES256" }]);
    const withKeys = await edgeOf({ ...env, LEGATE_OIDC_KEYS: "", LEGATE_RECEIPT_KEYS: keys } as Env);
    const answer = await send(withKeys, "/.well-known/jwks.json");
    const { kty, crv, x, y } = secret;
    expect(await answer.json()).toEqual({ keys: [{ kty, crv, x, y, kid: "one", alg: "ES256" }] });
    const mistake = await edgeOf({ ...env, LEGATE_OIDC_KEYS: `[${secret.d}` } as Env).catch(
      (error: Error) => error.message,
    );
    expect(mistake).toContain("LEGATE_OIDC_KEYS must be a JSON array");
    expect(mistake).not.toContain(secret.d);
  });
});

describe("classes of caller", () => {
  test("a session token reaches neither a cookie's routes nor an operator's, though its user were one", async () => {
    const { token, cookie } = await open({ tier: "admin" });
    const post = { method: "POST", ...bearer(token) };
    expect(await codeOf(send(edge, "/sessions", post))).toBe("403 cookie_required");
    expect(await codeOf(send(edge, "/oauth/clients", bearer(token)))).toBe("403 access_denied");
    expect(await codeOf(send(edge, "/admin/agents/sessions", bearer(token)))).toBe("403 operator_required");
    expect(await codeOf(send(edge, "/admin/agents/sessions", bearer(cookie)))).toBe("401 invalid_token");
    expect((await send(edge, "/admin/agents/sessions", withCookie(cookie))).status).toBe(200);
  });

  test("an operator is one only now", async () => {
    const given = await open({ tier: "admin" });
    await edge.ask(given.person.id, (authority) => authority.setTier("pro", given.person.by));
    expect(await codeOf(send(edge, "/admin/agents/sessions", withCookie(given.cookie)))).toBe("403 operator_required");
    expect(await codeOf(send(edge, "/admin/agents/sessions"))).toBe("401 credentials_missing");
  });

  test("a delegation that is not redeemed reaches no session", async () => {
    const { token, person } = await open();
    const named = await narrow(token, { for: inventAgent(person.id) });
    expect(await codeOf(send(edge, "/sessions/current", bearer(named)))).toBe("401 delegation_not_redeemed");
  });

  const ASSERTION = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer";
  const assertionOf = (claims: object) => ["e30", btoa(JSON.stringify(claims)).replaceAll("=", ""), "AAAA"].join(".");
  const form = (members: Record<string, string>, ip: string) => ({
    method: "POST",
    headers: { "content-type": "application/x-www-form-urlencoded", "cf-connecting-ip": ip },
    body: new URLSearchParams({ client_assertion_type: ASSERTION, ...members }).toString(),
  });

  test("a client without a good assertion is told one thing, in OAuth's shape", async () => {
    const { id } = await enrol();
    const real = inventAgent(id);
    const invented = `${real.slice(0, -1)}${real.endsWith("a") ? "b" : "a"}`;
    for (const members of [
      {},
      { client_assertion: "x" },
      { client_assertion: assertionOf({ iss: 1, sub: 1 }) },
      { client_assertion: assertionOf({ iss: real, sub: invented }) },
      { client_assertion: assertionOf({ iss: invented, sub: invented }) },
      { client_assertion: assertionOf({ iss: real, sub: real }), client_id: "other" },
      { client_assertion: assertionOf({ iss: real, sub: real }), client_assertion_type: "other" },
      { client_assertion: assertionOf({ iss: real, sub: real }) },
    ]) {
      const answer = await send(edge, "/oauth/token", form(members, "203.0.113.1"));
      expect(answer.status).toBe(401);
      expect(await answer.json()).toEqual({ error: "invalid_client", error_description: expect.any(String) });
    }
    const json = { method: "POST", headers: { "content-type": "application/json" }, body: "{}" };
    expect((await send(edge, "/oauth/token", json)).status).toBe(415);
  });

  test("an address whose assertions keep failing is not listened to for a while", async () => {
    const counted = { ...edge, anonymousMayAsk: async () => --left >= 0 };
    let left = 3;
    const statuses: number[] = [];
    for (let i = 0; i < 5; i++)
      statuses.push((await send(counted, "/oauth/token", form({ client_assertion: "x" }, "203.0.113.2"))).status);
    expect(statuses).toEqual([401, 401, 401, 429, 429]);
    expect(left).toBe(-1);
    const later = { ...edge, now: () => (edge.now() + 10_001) as ReturnType<typeof edge.now> };
    expect((await send(later, "/oauth/token", form({ client_assertion: "x" }, "203.0.113.2"))).status).toBe(401);
  });

  test("a change that anyone may make is limited by address", async () => {
    const full = { ...edge, anonymousMayAsk: async (address: string) => address !== "public 203.0.113.3" };
    const post = (ip: string) => ({ method: "POST", headers: { "cf-connecting-ip": ip } });
    expect((await send(full, "/auth/login", post("203.0.113.3"))).status).toBe(429);
    expect((await send(full, "/auth/login", post("203.0.113.4"))).status).not.toBe(429);
  });
});

async function codeOf(answer: Promise<Response>): Promise<string> {
  const body = await (await answer).json<{ code?: string; error?: string }>();
  return `${(await answer).status} ${body.code ?? body.error}`;
}

describe("matching", () => {
  const row = (method: string, path: string) => ({ method, path });
  const rows = [
    row("GET", "/a/:id"),
    row("DELETE", "/a/:id"),
    row("GET", "/a/now"),
    row("POST", "/a"),
    row("GET", "/a/:id/b"),
  ];
  test.each([
    ["GET", "/a/x", "GET /a/:id x"],
    ["DELETE", "/a/x", "DELETE /a/:id x"],
    ["GET", "/a/now", "GET /a/now "],
    ["DELETE", "/a/now", "GET"],
    ["GET", "/a/x/b", "GET /a/:id/b x"],
    ["POST", "/a", "POST /a "],
    ["GET", "/a", "POST"],
    ["POST", "/a/", "none"],
    ["GET", "/a/", "none"],
    ["GET", "/a/x/", "none"],
    ["GET", "//a/x", "none"],
    ["GET", "/A/x", "none"],
    ["GET", "/", "none"],
  ])("%s %s: %s", (method, path, expected) => {
    const found = match(rows, method, path);
    const said =
      found.kind === "found"
        ? `${found.row.method} ${found.row.path} ${found.params["id"] ?? ""}`
        : found.kind === "method"
          ? found.allowed.join(", ")
          : "none";
    expect(said).toBe(expected);
  });
});

test("an origin is bounded and printable, and only the platform's", () => {
  const from = (headers: Record<string, string>) => originOf(new Request("https://legate.test", { headers }));
  expect(from({})).toEqual({ ip: null, userAgent: null });
  expect(from({ "cf-connecting-ip": "2001:db8::1", "x-forwarded-for": "1.2.3.4" }).ip).toBe("2001:db8::1");
  expect(from({ "cf-connecting-ip": "<script>" }).ip).toBeNull();
  expect(from({ "user-agent": `a\tbc${"x".repeat(300)}` }).userAgent).toBe(`abc${"x".repeat(253)}`);
});

test("strangers make no objects: neither an authority nor an agent", async () => {
  const { id } = await enrol();
  const real = inventAgent(id);
  const count = async () => {
    const ids = [env.AUTHORITY, env.PLANNER, env.RESEARCHER, env.CATALOG].map((ns) => listDurableObjectIds(ns));
    return (await Promise.all(ids)).map((list) => list.length);
  };
  const before = await count();
  const asked = [
    "/agents/planner",
    "/agents/planner/x/y",
    "/agents/catalog",
    "/sessions/current",
    "/admin/agents/sessions",
  ];
  const invented = real.replace(/.$/, (c) => (c === "a" ? "b" : "a")).replace("agt_", "ses_");
  for (const path of [...asked, `/sessions/${invented}`, `/oauth/clients/${invented}`])
    for (const headers of [
      {},
      { authorization: "Bearer a.b.c" },
      { cookie: `__Host-legate=${"x".repeat(100)}` },
      UPGRADE,
    ])
      expect([401, 403, 404]).toContain((await send(edge, path, { headers: { ...headers } })).status);
  expect(await count()).toEqual(before);
});

test("a deployment with a weak secret serves nothing, and its log says what to do", async () => {
  const { edgeOf } = await import("../../worker/env.ts");
  const secret = "A".repeat(43);
  const mistake = await edgeOf({ ...env, LEGATE_SECRET: secret }).catch((error: Error) => error.message);
  expect(mistake).toContain("LEGATE_SECRET must be 32 random bytes");
  expect(mistake).not.toContain(secret);
  expect((await exports.default.fetch("https://legate.test/healthz")).status).toBe(200);
});

test("what throws below says nothing above", async () => {
  const failing = { ...edge, anonymousMayAsk: () => Promise.reject(new Error("secret detail at /x.ts:1")) };
  const answer = await send(failing, "/auth/login", { method: "POST", body: "{}" });
  expect(answer.status).toBe(500);
  expect(await answer.json()).toEqual({
    success: false,
    error: "Something failed on our side.",
    code: "internal_error",
  });
});
