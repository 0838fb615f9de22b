/** People, agents and tokens of a deployment of copies: made in the object, as the ways in make them, and minted with its key. */
import { randomBytes, createHmac } from "node:crypto";
import { SignJWT } from "jose";
import { decodeBase64url } from "../../../core/base64url.ts";
import type { Tier } from "../../../core/config.ts";
import type { Denial } from "../../../core/denial.ts";
import { makeUserId, type AgentId, type EpochSeconds, type NodePath, type UserId } from "../../../core/ids.ts";
import type { Result } from "../../../core/result.ts";
import { nestActors } from "../../../core/token/chain.ts";
import { liveSecrets, sessionTokenKey } from "../../../core/token/keyring.ts";
import { parseSecret, type Secret } from "../../../core/token/mac.ts";
import { narrowToken, type Narrowing } from "../../../core/token/mint.ts";
import { formatScope } from "../../../core/token/scope.ts";
import type {
  AgentView,
  BudgetView,
  GrantView,
  NodeView,
  PersonView,
  SessionDetail,
  StopReport,
} from "../../../core/wire/answers.ts";
import type { By } from "../../../core/wire/questions.ts";
import { makeKey, type KeyPair } from "../../../scripts/tour/keys.ts";
import { TEST_SECRETS } from "../secrets.ts";
import { ISSUER, type Copies } from "./workerd.ts";

const random = (length: number): Uint8Array => randomBytes(length);
const idMac = (text: string): Uint8Array =>
  createHmac("sha256", decodeBase64url(TEST_SECRETS.LEGATE_ID_KEY) ?? "")
    .update(text)
    .digest();
const key = await sessionTokenKey(await liveSecrets([parseSecret(TEST_SECRETS.LEGATE_SECRET) as Secret]), ISSUER);
const by: By = { kind: "person", id: "test", reason: null };

export const narrow = (token: string, narrowing: Narrowing): Promise<string> => narrowToken(token, narrowing, random);

function done<T>(result: Result<T, Denial>): T {
  if (!result.ok) throw new Error(`denied: ${JSON.stringify(result.denial)}`);
  return result.value;
}

/** A token of that grant, for the hour. */
export function mint(grant: GrantView): Promise<string> {
  const iat = Math.floor(Date.now() / 1000) as EpochSeconds;
  const act = nestActors(grant.actors);
  return key.mint({
    sub: grant.subject,
    iat,
    exp: Math.min(iat + 3_600, grant.expires) as EpochSeconds,
    jti: randomBytes(9).toString("base64url"),
    gid: grant.path,
    scope: formatScope(grant.scope),
    client_id: grant.clientId,
    tier: grant.tier,
    ...(act === undefined ? {} : { act }),
  });
}

export interface Opened {
  readonly grant: GrantView;
  readonly token: string;
}

/** One person with their object, and one agent of theirs. */
export class Household {
  readonly #copies: Copies;
  readonly id: UserId;
  readonly agent: AgentId;

  readonly #key: KeyPair;

  private constructor(copies: Copies, id: UserId, agent: AgentId, agentKey: KeyPair) {
    this.#copies = copies;
    this.#key = agentKey;
    this.id = id;
    this.agent = agent;
  }

  /** @param cap micros that all sessions of the agent together may spend */
  static async make(
    copies: Copies,
    { tier = "free", cap = 1e12 }: { tier?: Tier; cap?: number } = {},
  ): Promise<Household> {
    const id = makeUserId(random, idMac);
    const person = { username: `u-${id.slice(4, 12)}`, tier, createdAt: Date.now() };
    done(await copies.rpc<Result<PersonView, Denial>>(id, "enrol", person));
    const key = await makeKey("ES256");
    const { kty, crv, x, y } = key.publicJwk;
    const view = done(
      await copies.rpc<Result<AgentView, Denial>>(id, "registerAgent", {
        name: "agent",
        key: { alg: "ES256", jwk: { kty, crv, x, y } },
        scope: ["work"],
        cookie: null,
        cap,
        by,
        idempotency: null,
      }),
    );
    return new Household(copies, id, view.id, key);
  }

  /** A session of the agent's. */
  async open(budget: number | null = null): Promise<Opened> {
    const grant = done(
      await this.#copies.rpc<Result<GrantView, Denial>>(this.id, "open", {
        kind: "agent",
        enrolment: null,
        client: { id: this.agent, stopCount: 0 },
        scope: null,
        agents: null,
        budget,
        ttlSeconds: null,
        origin: { ip: null, userAgent: null },
        cookie: null,
        by,
        idempotency: null,
      }),
    );
    return { grant, token: await mint(grant) };
  }

  /** A grant of its own below that token's node, asked for at the token endpoint. */
  async grantBelow(token: string): Promise<string> {
    const { privateKey } = this.#key;
    const now = Math.floor(Date.now() / 1000);
    const assertion = await new SignJWT({ iss: this.agent, sub: this.agent, aud: ISSUER, iat: now, exp: now + 50 })
      .setJti(randomBytes(12).toString("hex"))
      .setProtectedHeader({ alg: "ES256" })
      .sign(privateKey);
    const body = new URLSearchParams({
      grant_type: "urn:ietf:params:oauth:grant-type:token-exchange",
      client_assertion_type: "urn:ietf:params:oauth:client-assertion-type:jwt-bearer",
      client_assertion: assertion,
      subject_token: token,
      subject_token_type: "urn:ietf:params:oauth:token-type:access_token",
      scope: "work",
    });
    const answer = await fetch(`${this.#copies.url()}/oauth/token`, { method: "POST", body });
    const told = (await answer.json()) as { access_token?: string };
    if (told.access_token === undefined) throw new Error(`${answer.status} ${JSON.stringify(told)}`);
    return told.access_token;
  }

  async end(path: NodePath, wait: boolean): Promise<StopReport> {
    const reach = { kind: "operator" };
    const question = { path, why: "terminated", by, reach, wait, idempotency: null };
    return done(await this.#copies.rpc<Result<StopReport, Denial>>(this.id, "terminate", question));
  }

  async setCap(path: NodePath, cap: number): Promise<NodeView> {
    const question = { path, cap, by, reach: { kind: "operator" }, idempotency: null };
    return done(await this.#copies.rpc<Result<NodeView, Denial>>(this.id, "setCap", question));
  }

  async budget(path: NodePath): Promise<BudgetView> {
    const found = await this.#copies.rpc<Result<SessionDetail, Denial>>(this.id, "inspect", path, { kind: "operator" });
    return done(found).budget;
  }

  query(text: string): Promise<Record<string, string | number>[]> {
    return this.#copies.rpc(this.id, "query", text);
  }
}
