// GCP's shape, at a real OAuth server: oidc-provider with RFC 8693 as a grant, which fetches the issuer's keys and checks our
// own web-identity token with them. GCP names no client, so one is named on the way in. A service account's token is given
// for what that server has issued, and for nothing else.
import { createServer, request as forward, type IncomingMessage, type ServerResponse } from "node:http";
import { createRemoteJWKSet, jwtVerify } from "jose";
import { errors, Provider, type GrantContext } from "oidc-provider";
import { beforeAll, beforeEach, describe, expect, test } from "vitest";
import { subjectOf, webIdentityClaims } from "../../core/credential/identity.ts";
import type { GcpRole } from "../../core/credential/roles.ts";
import type { EpochSeconds, UserId } from "../../core/ids.ts";
import { exchange } from "../../durable-objects/authority/credentials/exchange.ts";
import { signerOf } from "../../durable-objects/authority/credentials/signer.ts";
import { newOidcKey } from "../../scripts/lib/oidc-key.mjs";
import { listening } from "../support/listening.ts";

const TOKEN_EXCHANGE = "urn:ietf:params:oauth:grant-type:token-exchange";
const JWT_TYPE = "urn:ietf:params:oauth:token-type:jwt";
const ACCESS_TOKEN = "urn:ietf:params:oauth:token-type:access_token";
const AUDIENCE = "//iam.googleapis.com/projects/1/locations/global/workloadIdentityPools/legate/providers/legate";
const EMAIL = "reports@acme.iam.gserviceaccount.com";
const USER = "usr_aaaaaaaaaaaaaaaaaaaa" as UserId;
const key = newOidcKey() as Record<string, string>;

async function bodyOf(request: IncomingMessage): Promise<string> {
  const chunks: Buffer[] = [];
  for await (const chunk of request) chunks.push(chunk as Buffer);
  return Buffer.concat(chunks).toString();
}

const json = (response: ServerResponse, status: number, body: object) =>
  response.writeHead(status, { "content-type": "application/json" }).end(JSON.stringify(body));

let role: GcpRole;
let identity: (over?: object) => Promise<string>;
let fetchedKeys = 0;
const wishes: { path: string; body: unknown }[] = [];

beforeAll(async () => {
  const { kty, crv, x, y, kid, alg } = key;
  const legate = await listening(
    createServer((_, response) => {
      fetchedKeys++;
      json(response, 200, { keys: [{ kty, crv, x, y, kid, alg }] });
    }),
  );
  const keys = createRemoteJWKSet(new URL(`${legate}/.well-known/jwks.json`));
  const server = createServer();
  const issuer = await listening(server);
  const provider = new Provider(issuer, {
    clients: [
      {
        client_id: "pool",
        token_endpoint_auth_method: "none",
        grant_types: [TOKEN_EXCHANGE],
        redirect_uris: [],
        response_types: [],
        id_token_signed_response_alg: "ES256",
      },
    ],
    clientAuthMethods: ["none"],
    features: { devInteractions: { enabled: false } },
    jwks: { keys: [{ ...(newOidcKey() as object), kid: "own" }] },
    enabledJWA: { idTokenSigningAlgValues: ["ES256"] },
    ttl: { AccessToken: 3_599 },
    scopes: ["https://www.googleapis.com/auth/cloud-platform", "https://www.googleapis.com/auth/devstorage.read_only"],
  });
  const grant = async (context: GrantContext) => {
    const { params = {}, client } = context.oidc;
    const { audience, subject_token: token = "", subject_token_type: type, requested_token_type: wanted } = params;
    if (type !== JWT_TYPE || wanted !== ACCESS_TOKEN) throw new errors.InvalidRequest("unsupported token type");
    if (audience !== AUDIENCE) throw new errors.InvalidTarget("unknown audience");
    const checked = await jwtVerify(token, keys, { issuer: legate, audience: AUDIENCE, algorithms: ["ES256"] }).catch(
      () => null,
    );
    if (checked === null) throw new errors.InvalidGrant("subject_token");
    const { AccessToken } = provider;
    const made = new AccessToken({ client, accountId: checked.payload.sub, scope: params["scope"] });
    const access_token = await made.save();
    context.body = { access_token, issued_token_type: ACCESS_TOKEN, token_type: "Bearer", expires_in: made.expiration };
  };
  const members = ["audience", "scope", "requested_token_type", "subject_token_type", "subject_token"];
  provider.registerGrantType(TOKEN_EXCHANGE, grant, members);
  server.on("request", provider.callback());
  const endpoint = await listening(
    createServer((request, response) => {
      void bodyOf(request).then((body) => {
        const { authorization, "content-type": type } = request.headers;
        if (authorization !== undefined) return json(response, 400, { error: "invalid_request" }); // as Google's does
        const named = `${body}&client_id=pool`;
        const { port } = new URL(issuer);
        const headers = { "content-type": type, "content-length": Buffer.byteLength(named) };
        const on = forward({ host: "127.0.0.1", port, path: "/token", method: "POST", headers }, (got) => {
          response.writeHead(got.statusCode ?? 502, { "content-type": "application/json" });
          got.pipe(response);
        });
        return on.end(named);
      });
    }),
  );
  const iam = await listening(
    createServer((request, response) => {
      void bodyOf(request).then(async (body) => {
        const bearer = /^Bearer (.+)$/.exec(request.headers.authorization ?? "")?.[1] ?? "";
        const found = await provider.AccessToken.find(bearer);
        if (found === undefined) return json(response, 401, { error: { code: 401, status: "UNAUTHENTICATED" } });
        if (found.accountId !== subjectOf(USER, role))
          return json(response, 403, { error: { status: "PERMISSION_DENIED" } });
        const wish = JSON.parse(body) as { lifetime: string };
        wishes.push({ path: request.url ?? "", body: wish });
        const expireTime = new Date(Date.now() + Number.parseInt(wish.lifetime, 10) * 1_000).toISOString();
        return json(response, 200, { accessToken: "ya29.of-the-service-account", expireTime });
      });
    }),
  );
  role = {
    provider: "gcp",
    alias: "reports",
    scope: "gcp:reports",
    atRest: "none",
    durationSeconds: 3_600,
    requiredTier: "free",
    actors: { allow: "own", unproven: true },
    endpoint,
    audience: AUDIENCE,
    cloudScope: "https://www.googleapis.com/auth/devstorage.read_only",
    serviceAccount: { email: EMAIL, endpoint: iam },
  };
  const signer = await signerOf(JSON.stringify([key]));
  const tags = {
    "legate-root-agent": "agt_a",
    "legate-agent": "agt_a",
    "legate-session": "ses_a",
    "legate-grant": "ses_a",
  };
  identity = async (over = {}) => {
    const now = Math.floor(Date.now() / 1000) as EpochSeconds;
    const claims = webIdentityClaims({ issuer: legate, role, user: USER, tags, jti: crypto.randomUUID(), now });
    return (await signer?.sign({ ...claims, ...over })) ?? "";
  };
});
beforeEach(() => (wishes.length = 0));

const order = (webIdentity: string) => ({
  webIdentity,
  sessionName: "ses_a",
  policy: "",
  durationSeconds: 1_200,
  nowMs: Date.now(),
});

describe("GCP's token exchange, at a real OAuth server", () => {
  test("our token becomes one of the pool's, with an end; keys were fetched from us", async () => {
    const made = await exchange({ ...role, serviceAccount: null }, order(await identity()));
    expect(made).toMatchObject({ ok: true, value: { secrets: { provider: "gcp" } } });
    const leftMs = (made.ok ? made.value.expiresAt : 0) - Date.now();
    expect(Math.abs(leftMs - 3_599_000)).toBeLessThan(30_000);
    expect(fetchedKeys).toBe(1);
    expect(wishes).toEqual([]);
  });

  test("and then a service account's, for as long as is asked", async () => {
    const made = await exchange(role, order(await identity()));
    expect(made).toMatchObject({ ok: true, value: { secrets: { accessToken: "ya29.of-the-service-account" } } });
    const leftMs = (made.ok ? made.value.expiresAt : 0) - Date.now();
    expect(Math.abs(leftMs - 1_200_000)).toBeLessThan(30_000);
    expect(wishes).toEqual([
      {
        path: `/v1/projects/-/serviceAccounts/${encodeURIComponent(EMAIL)}:generateAccessToken`,
        body: { scope: [role.cloudScope], lifetime: "1200s" },
      },
    ]);
  });

  test.each<[string, object, Partial<GcpRole>, object]>([
    ["a token for others", { aud: "//iam.googleapis.com/x" }, {}, { kind: "remint", code: "invalid_grant" }],
    ["one that is over", { exp: 1_000_000 }, {}, { kind: "remint", code: "invalid_grant" }],
    ["of another issuer", { iss: "https://elsewhere.example" }, {}, { kind: "remint", code: "invalid_grant" }],
    ["an audience that it does not know", {}, { audience: "//other" }, { kind: "permanent", code: "invalid_target" }],
    [
      "a subject that may not be the service account",
      { sub: "usr_b:gcp:reports" },
      {},
      { kind: "permanent", code: "PERMISSION_DENIED" },
    ],
  ])("%s is refused by its code", async (_, over, other, denial) => {
    expect(await exchange({ ...role, ...other }, order(await identity(over)))).toEqual({ ok: false, denial });
    expect(wishes).toEqual([]);
  });

  test("a token that another signed is refused", async () => {
    const [head, body] = (await identity()).split(".");
    const forged = await (await signerOf(JSON.stringify([{ ...newOidcKey(), kid: key["kid"] }])))?.sign({});
    const text = `${head}.${body}.${forged?.split(".")[2] ?? ""}`;
    const denial = { kind: "remint", code: "invalid_grant" };
    expect(await exchange(role, order(text))).toEqual({ ok: false, denial });
  });
});
