// Others' software judges the exchange: Amazon's STS client reads the double that our tests rest on as it would AWS, and a
// real OAuth server (oidc-provider) takes our client assertion as Azure does.
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { createServer } from "node:http";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { AssumeRoleWithWebIdentityCommand, STSClient, type STSServiceException } from "@aws-sdk/client-sts";
import { exportJWK, generateKeyPair, SignJWT, type JWK } from "jose";
import { Provider } from "oidc-provider";
import { beforeAll, describe, expect, test } from "vitest";
import type { AzureRole } from "../../core/credential/roles.ts";
import { encodeObject } from "../../core/token/format.ts";
import { exchange } from "../../durable-objects/authority/credentials/exchange.ts";
import { AgentSession } from "../../sdk/client.ts";
import { StsDouble } from "../support/sts-double.ts";
import { listening } from "../support/listening.ts";

describe("the STS double is understood by Amazon's client", () => {
  const key: { jwk: JWK; sign(): Promise<string> } = { jwk: {}, sign: async () => "" };
  const sts = new StsDouble(async () => ({ keys: [key.jwk] }));
  let client: STSClient;

  beforeAll(async () => {
    const { publicKey, privateKey } = await generateKeyPair("ES256", { extractable: true });
    key.jwk = { ...(await exportJWK(publicKey)), kid: "k" };
    key.sign = () =>
      new SignJWT({})
        .setProtectedHeader({ alg: "ES256", kid: "k" })
        .setAudience("sts.amazonaws.com")
        .setExpirationTime("5m")
        .sign(privateKey);
    const endpoint = await listening(
      createServer((request, response) => {
        const chunks: Buffer[] = [];
        request.on("data", (chunk: Buffer) => chunks.push(chunk));
        request.on("end", () => {
          const sent = new Request("http://sts/", { method: "POST", body: Buffer.concat(chunks) });
          void sts.handle(sent).then(async (answer) => {
            response.writeHead(answer.status, { "content-type": "text/xml" }).end(await answer.text());
          });
        });
      }),
    );
    client = new STSClient({ endpoint, region: "eu-central-1", maxAttempts: 1 });
  });

  const ask = async (token?: string) =>
    client.send(
      new AssumeRoleWithWebIdentityCommand({
        RoleArn: "arn:aws:iam::123456789012:role/x",
        RoleSessionName: "ses_x",
        WebIdentityToken: token ?? (await key.sign()),
      }),
    );

  test("a credential", async () => {
    const { Credentials } = await ask();
    expect(Credentials?.AccessKeyId).toBe("ASIADOUBLE0000000001");
    expect(Credentials?.Expiration?.getTime()).toBeGreaterThan(Date.now());
  });

  test("a token that it did not sign", async () => {
    expect(await ask("a.b.c").catch((error: STSServiceException) => error.name)).toBe("InvalidIdentityTokenException");
  });

  test.each([
    ["ExpiredTokenException", 400],
    ["IDPCommunicationError", 400],
    ["IDPRejectedClaim", 403],
    ["AccessDenied", 403],
    ["MalformedPolicyDocument", 400],
    ["PackedPolicyTooLarge", 400],
    ["ValidationError", 400],
    ["RegionDisabledException", 403],
    ["Throttling", 400],
    ["ThrottlingException", 400],
    ["InternalFailure", 500],
    ["ServiceUnavailable", 503],
  ])("%s", async (code, status) => {
    sts.faults.push({ code, status });
    const error = await ask().catch((thrown: STSServiceException) => thrown);
    expect((error as STSServiceException).name.replace(/Exception$/, "")).toBe(code.replace(/Exception$/, ""));
    expect((error as STSServiceException).$metadata.httpStatusCode).toBe(status);
  });
});

test("Amazon's client reads the token file, and reads it again when it wants another credential", async () => {
  const folder = mkdtempSync(join(tmpdir(), "legate-token-"));
  const sent: (string | undefined)[] = [];
  const url = await listening(
    createServer(({ headers }, response) => {
      sent.push(headers.authorization);
      const Expiration = new Date(Date.now() + 3_600_000).toISOString();
      const shape = { AccessKeyId: "ASIA", SecretAccessKey: "s", Token: "t", Expiration };
      response.writeHead(200, { "content-type": "application/json" }).end(JSON.stringify(shape));
    }),
  );
  const tokenOf = (name: string) => {
    const iat = Math.floor(Date.now() / 1000);
    return `${encodeObject({ alg: "HS256" })}.${encodeObject({ gid: name, iat, exp: iat + 6 })}.${"A".repeat(43)}`;
  };
  const source = { issuer: url, current: tokenOf("ses_1"), token: async () => source.current, refused: () => {} };
  const path = join(folder, "token");
  const file = await new AgentSession(source, async () => {}).tokenFile(path);
  const env = {
    AWS_CONTAINER_CREDENTIALS_FULL_URI: `${url}/federation/aws/x`,
    AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE: path,
  };
  Object.assign(process.env, env);
  const client = new STSClient({ region: "eu-central-1" });
  try {
    expect((await client.config.credentials()).accessKeyId).toBe("ASIA");
    const before = source.current;
    source.current = tokenOf("ses_2");
    await expect.poll(() => readFileSync(path, "utf8"), { timeout: 20_000 }).toBe(source.current);
    await client.config.credentials({ forceRefresh: true });
    expect(sent).toEqual([before, source.current]);
  } finally {
    for (const name of Object.keys(env)) Reflect.deleteProperty(process.env, name);
    client.destroy();
    file.close();
    rmSync(folder, { recursive: true, force: true });
  }
});

describe("Azure's shape, at a real OAuth server", () => {
  let role: AzureRole;
  let assertion: (over?: object) => Promise<string>;

  beforeAll(async () => {
    const { publicKey, privateKey } = await generateKeyPair("ES256", { extractable: true });
    const server = createServer();
    const issuer = await listening(server);
    const provider = new Provider(issuer, {
      clients: [
        {
          client_id: "legate",
          token_endpoint_auth_method: "private_key_jwt",
          grant_types: ["client_credentials"],
          redirect_uris: [],
          response_types: [],
          id_token_signed_response_alg: "ES256",
          token_endpoint_auth_signing_alg: "ES256",
          jwks: { keys: [{ ...(await exportJWK(publicKey)), kid: "k", use: "sig", alg: "ES256" }] },
        },
      ],
      clientAuthMethods: ["private_key_jwt"],
      features: { clientCredentials: { enabled: true }, devInteractions: { enabled: false } },
      jwks: { keys: [{ ...(await exportJWK(privateKey)), kid: "own", use: "sig", alg: "ES256" }] },
      enabledJWA: { clientAuthSigningAlgValues: ["ES256"], idTokenSigningAlgValues: ["ES256"] },
      scopes: ["storage"],
    });
    server.on("request", provider.callback());
    // Not so at Azure: oidc-provider wants issuer and subject to be the client (RFC 7523 §3).
    assertion = (over = {}) =>
      new SignJWT({ iss: "legate", sub: "legate", aud: issuer, jti: crypto.randomUUID(), ...over })
        .setProtectedHeader({ alg: "ES256", kid: "k" })
        .setIssuedAt()
        .setExpirationTime("5m")
        .sign(privateKey);
    role = {
      provider: "azure",
      alias: "files",
      scope: "azure:files",
      atRest: "none",
      durationSeconds: 3_600,
      requiredTier: "free",
      actors: { allow: "own", unproven: true },
      endpoint: `${issuer}/token`,
      audience: issuer,
      clientId: "legate",
      cloudScope: "storage",
    };
  });
  const order = (webIdentity: string) => ({
    webIdentity,
    sessionName: "ses_x",
    policy: "",
    durationSeconds: 3_600,
    nowMs: Date.now(),
  });

  test("an assertion becomes a token with an end", async () => {
    const made = await exchange(role, order(await assertion()));
    expect(made).toMatchObject({ ok: true, value: { secrets: { provider: "azure" } } });
    expect(made.ok && made.value.expiresAt).toBeGreaterThan(Date.now());
  });

  test("one for somebody else is worth another try with a fresh one", async () => {
    const wrong = await exchange(role, order(await assertion({ aud: "https://other.example.com" })));
    expect(wrong).toEqual({ ok: false, denial: { kind: "remint", code: "invalid_client" } });
  });
});
