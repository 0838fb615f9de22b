// Public clients speak to the authorization server as they speak to any: oauth4webapi, MCP's client, jose. What they
// refuse to understand is a defect of ours. Plain http on loopback takes their insecure switch, and nothing else does.
import { execFile } from "node:child_process";
import { hkdfSync } from "node:crypto";
import { join } from "node:path";
import { promisify } from "node:util";
import { auth, PrivateKeyJwtProvider } from "@modelcontextprotocol/client";
import { createLocalJWKSet, exportJWK, generateKeyPair, importJWK, jwtVerify, SignJWT, type JWK } from "jose";
import * as oauth from "oauth4webapi";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { input } from "../../legate.config.ts";
import { nodeBinary, ROOT } from "../../scripts/lib/paths.mjs";
import { createVerifier } from "../../sdk/verify.ts";
import { assertionOf, provenForm } from "../support/conformance/assertions.ts";
import { LEAKS, Member, send, type RegisteredAgent } from "../support/conformance/people.ts";
import { Variant } from "../support/conformance/variant.ts";

const EXCHANGE = "urn:ietf:params:oauth:grant-type:token-exchange";
const ACCESS_TOKEN = "urn:ietf:params:oauth:token-type:access_token";
const AUDIENCE = "https://api.example.com";
const insecure = { [oauth.allowInsecureRequests]: true } as const;

/** One agent as oauth4webapi's client. */
interface PublicClient {
  readonly agent: RegisteredAgent;
  readonly client: oauth.Client;
  readonly auth: oauth.ClientAuth;
}

let variant: Variant;
let issuer: URL;
let as: oauth.AuthorizationServer;
let member: Member;
let signingKeys: JWK[];
let a: PublicClient;
let b: PublicClient;

async function publicClient(name: string): Promise<PublicClient> {
  const agent = await member.registerAgent({ name });
  const key = await importJWK({ ...agent.key }, "ES256");
  if (key instanceof Uint8Array) throw new Error("no key");
  return { agent, client: { client_id: agent.clientId }, auth: oauth.PrivateKeyJwt(key) };
}

beforeAll(async () => {
  const pairs = [
    await generateKeyPair("ES256", { extractable: true }),
    await generateKeyPair("EdDSA", { extractable: true }),
  ];
  signingKeys = await Promise.all(
    pairs.map(async ({ privateKey }, i) => ({ ...(await exportJWK(privateKey)), kid: `k${i}`, use: "sig" })),
  );
  variant = await Variant.start({
    input,
    vars: {
      LEGATE_OIDC_KEYS: JSON.stringify(signingKeys.slice(0, 1)),
      LEGATE_RECEIPT_KEYS: JSON.stringify(signingKeys.slice(1)),
    },
  });
  await variant.migrate();
  issuer = new URL(variant.url);
  as = await oauth.processDiscoveryResponse(
    issuer,
    await oauth.discoveryRequest(issuer, { algorithm: "oauth2", ...insecure }),
  );
  member = await Member.signUp(variant.url);
  [a, b] = [await publicClient("a"), await publicClient("b")];
});
afterAll(() => variant.end());

async function open({ client, auth }: PublicClient, more: Record<string, string> = {}) {
  const response = await oauth.clientCredentialsGrantRequest(as, client, auth, more, insecure);
  return oauth.processClientCredentialsResponse(as, client, response);
}

async function exchange({ client, auth }: PublicClient, subject: string, more: Record<string, string> = {}) {
  const form = { subject_token: subject, subject_token_type: ACCESS_TOKEN, ...more };
  const response = await oauth.genericTokenEndpointRequest(as, client, auth, EXCHANGE, form, insecure);
  return oauth.processGenericTokenEndpointResponse(as, client, response);
}

async function introspect({ client, auth }: PublicClient, token: string) {
  const response = await oauth.introspectionRequest(as, client, auth, token, insecure);
  return oauth.processIntrospectionResponse(as, client, response);
}

describe("discovery", () => {
  test("RFC 8414: the metadata name endpoints that are there, and nothing that is not", async () => {
    expect(as).toMatchObject({
      issuer: variant.url,
      token_endpoint_auth_methods_supported: ["private_key_jwt"],
      token_endpoint_auth_signing_alg_values_supported: ["ES256", "EdDSA"],
      grant_types_supported: ["client_credentials", EXCHANGE],
    });
    for (const endpoint of [
      "token_endpoint",
      "introspection_endpoint",
      "revocation_endpoint",
      "registration_endpoint",
    ] as const)
      expect((await send(String(as[endpoint]), "POST")).status, endpoint).not.toBe(404);
    expect((await send(String(as.jwks_uri), "GET")).status).toBe(200);
  });

  test.each(["", "/agents/planner", "/agents/researcher", "/agents/catalog"])(
    "RFC 9728: the resource %s names its authorization server",
    async (path) => {
      const resource = new URL(`${variant.url}${path}`);
      const response = await oauth.resourceDiscoveryRequest(resource, insecure);
      expect(response.headers.get("cache-control")).toMatch(/^public, max-age=\d+$/);
      const metadata = await oauth.processResourceDiscoveryResponse(resource, response);
      expect(metadata).toMatchObject({ authorization_servers: [variant.url], bearer_methods_supported: ["header"] });
    },
  );

  test("a resource that is none has no metadata", async () => {
    const { status } = await send(`${variant.url}/.well-known/oauth-protected-resource/agents/nobody`, "GET");
    expect(status).toBe(404);
  });

  test("the jwks has the public members alone, and they verify", async () => {
    const { body, text } = await send(String(as.jwks_uri), "GET");
    const { keys } = body as unknown as { keys: JWK[] };
    expect(keys.map(({ kid }) => kid)).toEqual(["k0", "k1"]);
    for (const key of keys)
      expect(Object.keys(key).filter((name) => !["kty", "crv", "x", "y", "kid", "use", "alg"].includes(name))).toEqual(
        [],
      );
    for (const { d = "" } of signingKeys) expect(text.includes(d)).toBe(false);
    for (const [i, alg] of ["ES256", "EdDSA"].entries()) {
      const key = await importJWK(signingKeys[i] as JWK, alg);
      const signed = await new SignJWT({ hello: 1 }).setProtectedHeader({ alg, kid: `k${i}` }).sign(key);
      expect((await jwtVerify(signed, createLocalJWKSet({ keys }))).payload).toEqual({ hello: 1 });
    }
  });
});

describe("oauth4webapi", () => {
  test("client_credentials: a session of what was asked (RFC 6749 §5.1, RFC 7523 §2.2, RFC 8707)", async () => {
    const plain = await open(a);
    expect(plain).toMatchObject({ token_type: "bearer", scope: "plan research catalog:read" });
    expect(plain.expires_in).toBeGreaterThan(3_500);
    expect((await open(a, { scope: "research catalog:read" })).scope).toBe("research catalog:read");
    const { access_token: bound } = await open(a, { resource: `${variant.url}/agents/researcher` });
    const at = (slug: string, bearer: string) =>
      send(`${variant.url}/agents/${slug}/default/lookup?q=coral`, "GET", { bearer });
    expect((await at("researcher", plain.access_token)).status).toBe(200);
    expect((await at("planner", bound)).body["code"]).toBe("agent_not_allowed");
  });

  test("token exchange: redeem, narrow, renew (RFC 8693)", async () => {
    const session = await a.agent.open();
    const delegation = await session.delegate(b.agent.clientId, { scope: ["research"] });
    const redeemed = await exchange(b, delegation);
    expect(redeemed).toMatchObject({ issued_token_type: ACCESS_TOKEN, token_type: "bearer", scope: "research" });
    expect(await introspect(b, redeemed.access_token)).toMatchObject({
      active: true,
      sub: member.id,
      client_id: b.agent.clientId,
      act: { sub: b.agent.clientId, act: { sub: a.agent.clientId } },
    });
    const own = (await open(a)).access_token;
    const narrowed = await exchange(a, own, { scope: "plan" });
    expect(narrowed.scope).toBe("plan");
    const renewed = await exchange(a, own);
    expect(await introspect(a, renewed.access_token)).toMatchObject({
      active: true,
      scope: "plan research catalog:read",
    });
    const { node } = await introspect(a, own);
    expect((await introspect(a, renewed.access_token))["node"]).toBe(node);
  });

  test.each<[string, () => Promise<unknown>, string]>([
    [
      "a thief of a delegation",
      async () => exchange(a, await (await a.agent.open()).delegate(b.agent.clientId)),
      "invalid_grant",
    ],
    ["another agent's token", async () => exchange(b, (await open(a)).access_token), "invalid_grant"],
    ["no token at all", () => exchange(a, "a.b.c"), "invalid_grant"],
    [
      "a wider scope",
      async () => exchange(a, (await open(a, { scope: "plan" })).access_token, { scope: "plan research" }),
      "invalid_scope",
    ],
    ["an unknown scope", () => open(a, { scope: "everything" }), "invalid_scope"],
    ["another's resource", () => open(a, { resource: "https://elsewhere.example" }), "invalid_target"],
    ["a resource by its prefix", () => open(a, { resource: `${variant.url}/agents/planner-x` }), "invalid_target"],
    [
      "an actor's token",
      async () => exchange(a, (await open(a)).access_token, { actor_token: "x", actor_token_type: ACCESS_TOKEN }),
      "invalid_request",
    ],
  ])("%s is an error that the library understands (RFC 6749 §5.2)", async (_, attempt, error) => {
    const refusal: unknown = await attempt().then(
      () => null,
      (thrown: unknown) => thrown,
    );
    expect(refusal).toBeInstanceOf(oauth.ResponseBodyError);
    expect(refusal).toMatchObject({ error, status: 400, error_description: expect.stringMatching(/\.$/) });
  });

  test("introspection (RFC 7662): one's own tokens alone, and none that has ended", async () => {
    const session = await a.agent.open();
    const token = await session.token();
    expect(await introspect(a, token)).toMatchObject({ active: true, client_id: a.agent.clientId, aud: variant.url });
    for (const foreign of [token, "nonsense", `${token}x`])
      expect(await introspect(b, foreign)).toEqual({ active: false });
    await session.end();
    expect(await introspect(a, token)).toEqual({ active: false });
  });

  test("revocation (RFC 7009): 200 for any token, an effect for one's own", async () => {
    const session = await a.agent.open();
    const token = await session.token();
    const revoke = async ({ client, auth }: PublicClient, text: string) =>
      oauth.processRevocationResponse(await oauth.revocationRequest(as, client, auth, text, insecure));
    await revoke(b, token);
    await revoke(b, "nonsense");
    expect((await introspect(a, token)).active).toBe(true);
    await revoke(a, token);
    await revoke(a, token);
    expect((await introspect(a, token)).active).toBe(false);
  });

  test("challenges (RFC 6750 §3, RFC 9728 §5.1) lead a client to the metadata", async () => {
    const { access_token: token } = await open(a, { scope: "research" });
    const ask = (bearer: string) =>
      oauth.protectedResourceRequest(
        bearer,
        "GET",
        new URL(`${variant.url}/agents/planner/default/history`),
        undefined,
        null,
        insecure,
      );
    const challengeOf = async (bearer: string) => {
      const refusal: unknown = await ask(bearer).then(
        () => null,
        (thrown: unknown) => thrown,
      );
      if (!(refusal instanceof oauth.WWWAuthenticateChallengeError))
        throw new Error(`no challenge: ${String(refusal)}`);
      return refusal.cause[0]?.parameters;
    };
    const metadata = { resource_metadata: `${variant.url}/.well-known/oauth-protected-resource/agents/planner` };
    expect(await challengeOf("a.b.c")).toEqual({ error: "invalid_token", ...metadata });
    expect(await challengeOf(token)).toEqual({ error: "insufficient_scope", scope: "plan", ...metadata });
    const anonymous = await send(`${variant.url}/agents/planner`, "GET");
    expect(anonymous.headers.get("www-authenticate")).toBe(`Bearer resource_metadata="${metadata.resource_metadata}"`);
  });
});

describe("MCP's PrivateKeyJwtProvider", () => {
  /**
   * RFC 8414 §2 lets a server whose grants need no authorization endpoint name none; client 2.4.0 reads no metadata
   * without one. All else of the exchange is as it is on the wire.
   */
  const withAuthorizationEndpoint: typeof fetch = async (url, init) => {
    const response = await fetch(url, init);
    if (!String(url instanceof Request ? url.url : url).includes("oauth-authorization-server")) return response;
    const metadata = (await response.json()) as object;
    return Response.json({ ...metadata, authorization_endpoint: `${variant.url}/oauth/none` });
  };

  test("finds its way from an agent's URL to a token that the agent takes", async () => {
    const provider = new PrivateKeyJwtProvider({
      clientId: a.agent.clientId,
      privateKey: { ...a.agent.key },
      algorithm: "ES256",
      expectedIssuer: variant.url,
      jwtLifetimeSeconds: 60,
    });
    const serverUrl = `${variant.url}/agents/researcher`;
    expect(await auth(provider, { serverUrl, fetchFn: withAuthorizationEndpoint })).toBe("AUTHORIZED");
    const token = provider.tokens()?.access_token ?? "";
    expect(await introspect(a, token)).toMatchObject({ active: true, client_id: a.agent.clientId });
    expect((await send(`${serverUrl}/default/lookup?q=`, "GET", { bearer: token })).status).toBe(400);
    // It named the agent as its resource: the token reaches no other.
    expect((await send(`${variant.url}/agents/planner/default/history`, "GET", { bearer: token })).status).toBe(403);
  });
});

describe("assertions (RFC 7523 §3)", () => {
  const knock = async (assertion: string) =>
    send(String(as.token_endpoint), "POST", {
      body: provenForm(assertion, { grant_type: "client_credentials" }),
      headers: { "cf-connecting-ip": `10.1.${Math.trunc(Math.random() * 250)}.${Math.trunc(Math.random() * 250)}` },
    });
  const now = Math.floor(Date.now() / 1000);

  test.each<[string, Parameters<typeof assertionOf>[2]]>([
    ["for another audience", { aud: "https://elsewhere.example" }],
    ["for an audience by its prefix", { aud: "http://127.0.0.1" }],
    ["for two audiences", { aud: ["https://elsewhere.example", "http://127.0.0.1"] }],
    ["from an issuer that is not its subject", { sub: "agt_x" }],
    ["without an end", { exp: undefined }],
    ["that has ended", { iat: now - 120, exp: now - 61 }],
    ["that lives for an hour", { exp: now + 3_600 }],
    ["from the future", { iat: now + 600, exp: now + 660 }],
    ["without an id", { jti: undefined }],
    ["not yet good", { nbf: now + 600 }],
  ])("%s is no proof", async (_, bent) => {
    const { status, body, text } = await knock(await assertionOf(a.agent, variant.url, bent));
    expect([status, body["error"]]).toEqual([401, "invalid_client"]);
    expect(text).not.toMatch(LEAKS);
  });

  test("by another agent's key is no proof", async () => {
    const assertion = await assertionOf({ ...a.agent, key: b.agent.key }, variant.url);
    expect((await knock(assertion)).body["error"]).toBe("invalid_client");
  });

  test.each(["", "/", "/oauth/token"])("may name the issuer%s", async (path) => {
    expect((await knock(await assertionOf(a.agent, variant.url, { aud: `${variant.url}${path}` }))).status).toBe(200);
  });

  test("is good once: of fifty racing uses one wins", async () => {
    const assertion = await assertionOf(a.agent, variant.url);
    const answers = await Promise.all(Array.from({ length: 50 }, () => knock(assertion)));
    expect(answers.map(({ status }) => String(status)).toSorted()).toEqual(["200", ...Array<string>(49).fill("401")]);
  });
});

describe("a session token (RFC 9068)", () => {
  test("verifies in jose with the issuer's key, derived by the documents alone", async () => {
    const token = await (await a.agent.open()).token();
    const secret = Buffer.from(variant.secrets["LEGATE_SECRET"] ?? "", "base64url");
    const key = new Uint8Array(hkdfSync("sha256", secret, "", `legate/1/aud/${variant.url}`, 32));
    const rules = { issuer: variant.url, audience: variant.url, typ: "at+jwt", algorithms: ["HS256"] };
    const { payload } = await jwtVerify(token, key, rules);
    expect(payload).toMatchObject({ sub: member.id, client_id: a.agent.clientId, act: { sub: a.agent.clientId } });
    for (const claim of ["exp", "iat", "jti", "scope"]) expect(payload).toHaveProperty(claim);
    const other = new Uint8Array(hkdfSync("sha256", secret, "", `legate/1/aud/${AUDIENCE}`, 32));
    await expect(jwtVerify(token, other, rules)).rejects.toThrow("signature verification failed");
  });

  test("for a resource server: verifies with the key that `npm run keys` prints, and nowhere else", async () => {
    const own = (await open(a)).access_token;
    await variant.reconfigure({ ...input, audiences: [{ name: AUDIENCE, client: b.agent.clientId }] });
    const { access_token: token, expires_in: life } = await exchange(a, own, { audience: AUDIENCE });
    expect(life).toBeLessThanOrEqual(300);

    const keys = ["--import", join(ROOT, "test/support/conformance/config-hook.mjs"), "scripts/keys.ts", "audience"];
    const env = { ...process.env, ...variant.secrets, LEGATE_TEST_CONFIG: variant.configModule };
    const run = promisify(execFile);
    const { stdout } = await run(nodeBinary(), [...keys, AUDIENCE], { cwd: ROOT, env });
    const [kid = "", key = ""] = stdout.trim().split(".");
    const rules = { issuer: variant.url, audience: AUDIENCE, typ: "at+jwt", algorithms: ["HS256"] };
    const { payload, protectedHeader } = await jwtVerify(token, Buffer.from(key, "base64url"), rules);
    expect(payload["sub"]).toBe(member.id);
    expect(protectedHeader.kid).toBe(kid);
    const verifier = createVerifier({ issuer: variant.url, audience: AUDIENCE, keys: [stdout.trim()] });
    expect(await verifier.verify(token)).toMatchObject({ ok: true });

    expect((await send(`${variant.url}/agents/researcher/default/lookup?q=x`, "GET", { bearer: token })).status).toBe(
      401,
    );
    expect(await introspect(b, token)).toMatchObject({ active: true, aud: AUDIENCE });
    expect(await introspect(a, token)).toEqual({ active: false });
    await expect(run(nodeBinary(), [...keys, variant.url], { cwd: ROOT, env })).rejects.toThrow("is no audience");
  });
});
