/**
 * What tests of SessionAuthority share: people with objects of their own, agents with real keys, and real tokens, minted
 * and verified with the deployment's secret. Names are drawn anew, for storage is shared between files.
 */
import { env } from "cloudflare:workers";
import { createHmac, randomBytes } from "node:crypto";
import { exportJWK, generateKeyPair, SignJWT } from "jose";
import { decodeBase64url } from "../../../core/base64url.ts";
import type { Denial } from "../../../core/denial.ts";
import {
  makeCallId,
  makeUserId,
  type AgentId,
  type ConnectionId,
  type EpochMs,
  type EpochSeconds,
  type Micros,
  type Slug,
  type UserId,
} from "../../../core/ids.ts";
import type { Result } from "../../../core/result.ts";
import { nestActors } from "../../../core/token/chain.ts";
import { liveSecrets, sessionTokenKey, type TokenKey } from "../../../core/token/keyring.ts";
import { parseSecret, type Secret } from "../../../core/token/mac.ts";
import { narrowToken, type Narrowing } from "../../../core/token/mint.ts";
import { formatScope } from "../../../core/token/scope.ts";
import { verifyToken, type VerifiedToken } from "../../../core/token/verify.ts";
import type { Identity } from "../../../core/wire/identity.ts";
import type { AgentView, GrantView } from "../../../core/wire/answers.ts";
import type { AdmitQuestion, By, Delegate, OpenSession } from "../../../core/wire/questions.ts";
import type { AuthorityRpc } from "../../../core/wire/rpc.ts";

export const random = (length: number): Uint8Array => randomBytes(length);
export const idMac = (text: string): Uint8Array =>
  createHmac("sha256", decodeBase64url(env.LEGATE_ID_KEY) ?? "")
    .update(text)
    .digest();
export const by: By = { kind: "person", id: "test", reason: null };
export const origin = { ip: "192.0.2.1", userAgent: "test" };
export const now = (): EpochMs => Date.now() as EpochMs;

let key: TokenKey | null = null;
async function tokenKey(): Promise<TokenKey> {
  key ??= await sessionTokenKey(await liveSecrets([parseSecret(env.LEGATE_SECRET) as Secret]), env.LEGATE_ISSUER);
  return key;
}

export function expectOk<T>(result: Result<T, Denial>): T {
  if (!result.ok) throw new Error(`denied: ${JSON.stringify(result.denial)}`);
  return result.value;
}

/** The reason of a denial, with its detail where it has one: `ended:terminated`. */
export function reasonOf(result: Result<unknown, Denial>): string {
  if (result.ok) return "ok";
  const { denial } = result;
  if (denial.reason === "ended") return `ended:${denial.why}`;
  return "fault" in denial ? `${denial.reason}:${denial.fault}` : denial.reason;
}

export interface Person {
  readonly id: UserId;
  readonly authority: AuthorityRpc;
  readonly stub: DurableObjectStub;
}

export function authorityOf(id: UserId): Person {
  const stub = env.AUTHORITY.getByName(id);
  return { id, authority: stub, stub: stub };
}

export async function newPerson(tier: "free" | "pro" | "admin" = "pro"): Promise<Person> {
  const person = authorityOf(makeUserId(random, idMac));
  expectOk(await person.authority.enrol({ username: `u-${person.id.slice(4, 12)}`, tier, createdAt: now() }));
  return person;
}

export interface TestAgent {
  readonly view: AgentView;
  readonly id: AgentId;
  assertion(over?: Record<string, unknown>): Promise<string>;
}

export async function newAgent(
  person: Person,
  { cap = 1_000_000, scope = ["plan", "research", "catalog:read"] }: { cap?: number | null; scope?: string[] } = {},
): Promise<TestAgent> {
  const { publicKey, privateKey } = await generateKeyPair("ES256", { extractable: true });
  const { kty, crv, x, y } = await exportJWK(publicKey);
  const jwk = { kty, crv, x, y } as Record<string, string>;
  const view = expectOk(
    await person.authority.registerAgent({
      name: "test agent",
      key: { alg: "ES256", jwk },
      scope,
      cap: cap as Micros | null,
      cookie: null,
      by,
      idempotency: null,
    }),
  );
  const assertion = (over: Record<string, unknown> = {}) => {
    const seconds = Math.floor(Date.now() / 1000);
    const claims = {
      iss: view.id,
      sub: view.id,
      aud: env.LEGATE_ISSUER,
      iat: seconds,
      exp: seconds + 50,
      jti: Buffer.from(random(12)).toString("hex"),
      ...over,
    };
    return new SignJWT(claims).setProtectedHeader({ alg: "ES256" }).sign(privateKey);
  };
  return { view, id: view.id, assertion };
}

export function authenticate(owner: Person, agent: TestAgent, assertion: string, forUser: UserId | null = null) {
  return owner.authority.authenticate({ agent: agent.id, assertion, audiences: [env.LEGATE_ISSUER], forUser });
}

export async function open(person: Person, over: Partial<OpenSession> = {}): Promise<GrantView> {
  const question: OpenSession = {
    kind: "api",
    enrolment: null,
    client: null,
    scope: null,
    agents: null,
    budget: null,
    ttlSeconds: null,
    origin,
    cookie: null,
    by,
    idempotency: null,
    ...over,
  };
  return expectOk(await person.authority.open(question));
}

/** A session of an agent, as its own key opens it. */
export function openFor(person: Person, agent: TestAgent, over: Partial<OpenSession> = {}): Promise<GrantView> {
  return open(person, { kind: "agent", client: { id: agent.id, stopCount: 0 }, ...over });
}

/** Redeems a token that was narrowed for that client: all of it, unless `over` says less. */
export function redeem(
  user: Person,
  client: { readonly id: AgentId; readonly stopCount?: number },
  token: VerifiedToken,
  over: Partial<Delegate> = {},
) {
  return user.authority.delegate({
    token,
    client: { id: client.id, stopCount: client.stopCount ?? 0 },
    how: "redeem",
    scope: null,
    agents: null,
    budget: null,
    reserve: null,
    ttlSeconds: null,
    audience: null,
    by,
    ...over,
  });
}

/** The text of a token of that grant. */
export async function tokenText(grant: GrantView, lifeSeconds = 3_600): Promise<string> {
  const iat = Math.floor(Date.now() / 1000) as EpochSeconds;
  const act = nestActors(grant.actors);
  return (await tokenKey()).mint({
    sub: grant.subject,
    iat,
    exp: Math.min(iat + lifeSeconds, grant.expires) as EpochSeconds,
    jti: Buffer.from(random(9)).toString("base64url"),
    gid: grant.path,
    scope: formatScope(grant.scope),
    client_id: grant.clientId,
    tier: grant.tier,
    ...(act === undefined ? {} : { act }),
    ...(grant.agents === null ? {} : { agents: grant.agents }),
  });
}

export const narrow = (text: string, narrowing: Narrowing): Promise<string> => narrowToken(text, narrowing, random);

export async function verified(text: string): Promise<VerifiedToken> {
  return expectOk(await verifyToken(text, (await tokenKey()).verifier, Math.floor(Date.now() / 1000) as EpochSeconds));
}

export async function tokenOf(grant: GrantView, ...narrowings: Narrowing[]): Promise<VerifiedToken> {
  let text = await tokenText(grant);
  for (const narrowing of narrowings) text = await narrow(text, narrowing);
  return verified(text);
}

export function question(token: VerifiedToken, over: Partial<AdmitQuestion> = {}): AdmitQuestion {
  return {
    token,
    callId: makeCallId(random),
    slug: "planner" as Slug,
    instance: "default",
    requiredTier: "free",
    level: "counted",
    kind: "http",
    cost: 10 as Micros,
    origin,
    askedAt: now(),
    lease: null,
    reports: [],
    ...over,
  };
}

export function connectionId(): ConnectionId {
  return Buffer.from(random(12)).toString("base64url") as ConnectionId;
}

/** Admits a socket and answers with the envelope's content, as the gate would seal it. */
export async function socketIdentity(person: Person, token: VerifiedToken): Promise<Identity> {
  const asked = question(token, { kind: "socket", cost: 0 as Micros, slug: "researcher" as Slug });
  const { hold, held, remaining, expires } = expectOk(await person.authority.admit(asked));
  return {
    subject: token.subject,
    tier: token.tier,
    actors: token.actors,
    session: token.session,
    node: token.node,
    scope: [...token.scope],
    agents: token.agents === null ? null : [...token.agents],
    remaining,
    callId: asked.callId,
    hold,
    held,
    level: "counted",
    traceparent: "00-00000000000000000000000000000001-0000000000000001-01",
    slug: asked.slug,
    instance: "default",
    worker: "legate-agents",
    method: "GET",
    path: "/agents/researcher/default",
    tokenExpires: (token.exp * 1000) as EpochMs,
    expires,
  };
}
