// What tests of cloud credentials share: roles and scopes beside the deployment's own, and an STS double in the place of
// the network. The configuration is one value for edge, objects and tests here, so a role that a test adds is there.
import type { JSONWebKeySet } from "jose";
import { runInDurableObject } from "cloudflare:test";
import { vi } from "vitest";
import { checkConfig, type LegateConfigInput } from "../../../core/config.ts";
import type { Role } from "../../../core/credential/roles.ts";
import type { VerifiedToken } from "../../../core/token/verify.ts";
import { config } from "../../../legate.config.ts";
import { fixedOidcKey } from "../secrets.ts";
import { StsDouble } from "../sts-double.ts";
import { expectOk, newAgent, newPerson, openFor, tokenOf, type Person } from "./authority.ts";

export const STS = "http://127.0.0.1:9/";

const publicOf = ({ kty, crv, x, y, kid, alg }: Record<string, string>) => ({ kty, crv, x, y, kid, alg });
export const JWKS = {
  keys: [publicOf(fixedOidcKey("oidc-1")), publicOf(fixedOidcKey("oidc-2"))],
} as unknown as JSONWebKeySet;

/**
 * Adds roles to the deployment that runs, and to the files after this one unless they are taken back.
 *
 * @returns takes them back: what `beforeAll` returns runs at the file's end
 */
export function addRoles(...roles: NonNullable<LegateConfigInput["roles"]>): () => void {
  const scopes = roles.map((role) => ({
    name: `${role.provider}:${role.alias}`,
    leastTier: "free" as const,
    description: "A test's.",
  }));
  const checked = checkConfig({ agents: [], scopes, roles });
  if (!checked.ok) throw new Error(checked.denial.join("\n"));
  for (const [name, scope] of checked.value.scopes) (config.scopes as Map<string, unknown>).set(name, scope);
  for (const [name, role] of checked.value.roles) (config.roles as Map<string, Role>).set(name, role);
  return () => {
    for (const name of checked.value.scopes.keys()) (config.scopes as Map<string, unknown>).delete(name);
    for (const name of checked.value.roles.keys()) (config.roles as Map<string, Role>).delete(name);
  };
}

export function awsRole(alias: string, over: object = {}) {
  return {
    provider: "aws" as const,
    alias,
    atRest: "encrypted" as const,
    roleArn: "arn:aws:iam::123456789012:role/test",
    region: "eu-central-1",
    endpoint: STS,
    requiredTier: "free" as const,
    ...over,
  };
}

/** An STS double that answers whatever is posted to its address; other addresses are the test's, or the network's. */
export function stsInPlace(elsewhere?: (request: Request) => Response): StsDouble {
  const sts = new StsDouble(async () => JWKS);
  const real = globalThis.fetch;
  vi.spyOn(globalThis, "fetch").mockImplementation(async (input, init) => {
    const request = new Request(input, init);
    if (request.url !== STS) return elsewhere?.(request) ?? real(input, init);
    const { signal } = request;
    const late = new Promise<never>((_, reject) =>
      signal.addEventListener("abort", () => reject(signal.reason as Error)),
    );
    return Promise.race([sts.handle(new Request(request)), late]);
  });
  return sts;
}

export const TEST_SCOPE = ["aws:kept", "aws:loose", "aws:short", "aws:narrow", "aws:pro", "aws:shared"];

/** Roles of every kind, at the double. @returns takes them back, as `addRoles` does */
export function addTestRoles(): () => void {
  return addRoles(
    awsRole("kept"),
    awsRole("loose", { atRest: "none" }),
    awsRole("short", { policy: { Statement: [{ Effect: "Allow", Action: "s3:*", Resource: "x".repeat(1_950) }] } }),
    awsRole("narrow", { actors: { allow: "own", unproven: false } }),
    awsRole("pro", { requiredTier: "admin" }),
    awsRole("shared", { actors: { allow: "any" } }),
  );
}

export async function scene(ttlSeconds = 3_600) {
  const person = await newPerson("pro");
  const agent = await newAgent(person, { scope: TEST_SCOPE });
  const grant = await openFor(person, agent, { ttlSeconds });
  return { person, agent, grant, token: await tokenOf(grant) };
}

export const ask = (person: Person, token: VerifiedToken, alias = "kept") =>
  person.authority.credentials({ token, provider: "aws", alias });
export const keyOf = (answer: Awaited<ReturnType<typeof ask>>) => {
  const { secrets } = expectOk(answer);
  return secrets.provider === "aws" ? secrets.accessKeyId : "";
};
export const later = (ms: number) => vi.useFakeTimers({ toFake: ["Date"], now: Date.now() + ms });

/** Every row of the tables that know credentials, as text. */
export function atRest(person: Person): Promise<string> {
  return runInDurableObject(person.stub, (_, { storage }) => {
    const tables = ["credentials", "credential_handouts", "credential_uses", "exchange_failures", "audit"];
    return JSON.stringify(tables.map((name) => storage.sql.exec(`select * from ${name}`).toArray()));
  });
}
