// People with browsers and agents with keys, at the edge's own front door: what these tests send is what the world sends.
// Each browser has an address of its own, for limits count by address and storage is shared between files.
import { createExecutionContext, waitOnExecutionContext } from "cloudflare:test";
import { env } from "cloudflare:workers";
import { exportJWK, generateKeyPair, SignJWT } from "jose";
import { randomBytes } from "node:crypto";
import type { AgentId, UserId } from "../../../core/ids.ts";
import { edgeOf, type Edge } from "../../../worker/env.ts";
import { serve } from "../../../worker/serve.ts";

export const edge = await edgeOf(env);
export const HOST = edge.issuer;
export const PASSWORD = "a lantern over the harbour";

export interface Sent {
  readonly method?: string;
  /** Sent as JSON. */
  readonly json?: unknown;
  /** Sent as a form. */
  readonly form?: Readonly<Record<string, string>>;
  /** Sent as it is. */
  readonly body?: BodyInit;
  readonly headers?: Readonly<Record<string, string>>;
  readonly edge?: Edge;
}

export interface Answered {
  readonly status: number;
  readonly headers: Headers;
  // oxlint-disable-next-line typescript/no-explicit-any -- tests look into answers of every shape
  readonly body: any;
}

export async function send(path: string, { edge: to = edge, json, form, body, ...sent }: Sent = {}): Promise<Answered> {
  const headers = new Headers(sent.headers);
  if (json !== undefined) headers.set("content-type", "application/json");
  const text = json === undefined ? body : JSON.stringify(json);
  const content = form === undefined ? text : new URLSearchParams(form);
  const method = sent.method ?? (content === undefined ? "GET" : "POST");
  const ctx = createExecutionContext();
  const init = { method, headers, ...(content === undefined ? {} : { body: content }) };
  const answer = await serve(new Request(new URL(path, HOST), init), to, ctx);
  const said = await answer.text();
  await waitOnExecutionContext(ctx);
  return { status: answer.status, headers: answer.headers, body: said === "" ? null : JSON.parse(said) };
}

export const freshName = (prefix = "person"): string => `${prefix}-${randomBytes(6).toString("hex")}`;

function freshAddress(): string {
  return `2001:db8:${[...randomBytes(4)].map((byte, i) => (i % 2 === 0 ? byte.toString(16) : "")).join("") || "1"}:${randomBytes(2).toString("hex")}::1`;
}

/** A person's browser: it keeps cookies, and says that its pages are ours. */
export class Browser {
  readonly address = freshAddress();
  readonly cookies = new Map<string, string>();

  async send(path: string, sent: Sent = {}): Promise<Answered> {
    const cookie = [...this.cookies].map(([name, value]) => `${name}=${value}`).join("; ");
    const own = {
      "sec-fetch-site": "same-origin",
      "cf-connecting-ip": this.address,
      ...(cookie === "" ? {} : { cookie }),
    };
    const answer = await send(path, { ...sent, headers: { ...own, ...sent.headers } });
    for (const line of answer.headers.getSetCookie()) {
      const [pair = ""] = line.split(";");
      const at = pair.indexOf("=");
      if (/Max-Age=0(?:;|$)/.test(line)) this.cookies.delete(pair.slice(0, at));
      else this.cookies.set(pair.slice(0, at), pair.slice(at + 1));
    }
    return answer;
  }

  get cookie(): string {
    return this.cookies.get("__Host-legate") ?? "";
  }
}

export interface Member {
  readonly browser: Browser;
  readonly name: string;
  readonly id: UserId;
}

/** Signs a new person up; another tier is told to their object, as an operator would. */
export async function signUp(tier: "free" | "pro" | "admin" = "free", name = freshName()): Promise<Member> {
  const browser = new Browser();
  const answer = await browser.send("/auth/register", { json: { username: name, password: PASSWORD } });
  if (answer.status !== 201) throw new Error(`sign-up: ${answer.status} ${JSON.stringify(answer.body)}`);
  const id = answer.body.user.id as UserId;
  if (tier !== "free") {
    const by = { kind: "legate" as const, id: "test", reason: null };
    await env.DB.prepare("update users set tier = ? where id = ?").bind(tier, id).run();
    await edge.ask(id, (authority) => authority.setTier(tier, by));
    await browser.send("/auth/login", { json: { username: name, password: PASSWORD } });
  }
  return { browser, name, id };
}

export interface Agent {
  readonly id: AgentId;
  readonly member: Member;
  assertion(over?: Readonly<Record<string, unknown>>): Promise<string>;
  /** Asks an endpoint of its own, with a fresh assertion. */
  ask(path: string, form: Readonly<Record<string, string>>, via?: Edge): Promise<Answered>;
}

export async function publicJwk(alg = "ES256") {
  const { publicKey, privateKey } = await generateKeyPair(alg, { extractable: true });
  return { jwk: await exportJWK(publicKey), privateJwk: await exportJWK(privateKey), privateKey };
}

export async function registerAgent(
  member: Member,
  over: Readonly<Record<string, unknown>> = {},
  alg = "ES256",
): Promise<Agent> {
  const { jwk, privateKey } = await publicJwk(alg);
  const body = { client_name: "planner", jwks: { keys: [jwk] }, legate_budget: 1_000_000, ...over };
  const answer = await member.browser.send("/oauth/register", { json: body });
  if (answer.status !== 201) throw new Error(`register: ${answer.status} ${JSON.stringify(answer.body)}`);
  const id = answer.body.client_id as AgentId;
  const assertion = (more: Readonly<Record<string, unknown>> = {}) => {
    const iat = Math.floor(Date.now() / 1000);
    const jti = randomBytes(12).toString("hex");
    const claims = { iss: id, sub: id, aud: edge.issuer, iat, exp: iat + 50, jti, ...more };
    return new SignJWT(claims).setProtectedHeader({ alg }).sign(privateKey);
  };
  const ask = async (path: string, form: Readonly<Record<string, string>>, via: Edge = edge) =>
    send(path, {
      edge: via,
      form: {
        client_assertion_type: "urn:ietf:params:oauth:client-assertion-type:jwt-bearer",
        client_assertion: await assertion(),
        ...form,
      },
    });
  return { id, member, assertion, ask };
}

export const EXCHANGE = "urn:ietf:params:oauth:grant-type:token-exchange";
export const ACCESS_TOKEN = "urn:ietf:params:oauth:token-type:access_token";

export const openSession = (agent: Agent, over: Readonly<Record<string, string>> = {}) =>
  agent.ask("/oauth/token", { grant_type: "client_credentials", ...over });

export const exchange = (agent: Agent, token: string, over: Readonly<Record<string, string>> = {}) =>
  agent.ask("/oauth/token", {
    grant_type: EXCHANGE,
    subject_token: token,
    subject_token_type: ACCESS_TOKEN,
    ...over,
  });

export const bearer = (token: string) => ({ authorization: `Bearer ${token}` });

export async function tokenOf(agent: Agent, over: Readonly<Record<string, string>> = {}): Promise<string> {
  const answer = await openSession(agent, over);
  if (answer.status !== 200) throw new Error(`token: ${answer.status} ${JSON.stringify(answer.body)}`);
  return answer.body.access_token as string;
}

/** What a request tells of itself that ought to be equal for two callers who must not be told apart. */
export function visible({ status, headers, body }: Answered): unknown {
  return { status, body, headers: Object.fromEntries(headers) };
}
