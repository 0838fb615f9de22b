// Whoever talks to the server in these tests: people with their browsers, and their agents. Each person comes from an
// address of their own, so that limits by address are met only by those who mean to.
import { randomBytes, randomInt } from "node:crypto";
import { exportJWK, generateKeyPair, type JWK_EC_Private } from "jose";
import { Legate, type AgentSession } from "../../../sdk/client.ts";

export const ALL_SCOPES = "plan research catalog:read";

/** An answer, read to its end. */
export interface Answer {
  readonly status: number;
  readonly headers: Headers;
  readonly text: string;
  /** Parsed where it is a JSON object, else empty. */
  readonly body: Readonly<Record<string, unknown>>;
}

export interface Sending {
  readonly headers?: Readonly<Record<string, string>>;
  /** Sent as JSON. */
  readonly json?: object;
  /** Sent as it is. */
  readonly body?: string | URLSearchParams | Uint8Array<ArrayBuffer>;
  readonly bearer?: string;
}

export async function read(response: Response): Promise<Answer> {
  const text = await response.text();
  let body: Readonly<Record<string, unknown>> = {};
  try {
    const value: unknown = JSON.parse(text);
    if (typeof value === "object" && value !== null) body = value as Record<string, unknown>;
  } catch {
    // not JSON
  }
  return { status: response.status, headers: response.headers, text, body };
}

export const randomAddress = () => `10.${randomInt(256)}.${randomInt(256)}.${randomInt(1, 255)}`;

/** Sends one request, without any cookie. */
export async function send(url: string, method: string, { headers, json, body, bearer }: Sending = {}) {
  const all = {
    ...(json === undefined ? {} : { "content-type": "application/json" }),
    ...(bearer === undefined ? {} : { authorization: `Bearer ${bearer}` }),
    ...headers,
  };
  const content = json === undefined ? body : JSON.stringify(json);
  const init = { method, headers: all, redirect: "manual" as const };
  return read(await fetch(url, content === undefined ? init : { ...init, body: content }));
}

/** Keeps the cookies, and sends them from a page of the deployment's own. */
export class Browser {
  readonly url: string;
  readonly address = randomAddress();
  readonly #cookies = new Map<string, string>();

  constructor(url: string) {
    this.url = url;
  }

  get cookie(): string {
    return [...this.#cookies].map(([name, value]) => `${name}=${value}`).join("; ");
  }

  async send(method: string, path: string, { headers, ...rest }: Sending = {}): Promise<Answer> {
    const own: Record<string, string> = { origin: this.url, "cf-connecting-ip": this.address };
    if (this.#cookies.size > 0) own["cookie"] = this.cookie;
    const answer = await send(`${this.url}${path}`, method, { ...rest, headers: { ...own, ...headers } });
    for (const cookie of answer.headers.getSetCookie()) {
      const [, name = "", value = ""] = /^([^=;]+)=([^;]*)/.exec(cookie) ?? [];
      this.#cookies.set(name, value);
    }
    return answer;
  }

  /** @returns the answer's body @throws where it is a refusal: a test's preparations must work */
  async done(method: string, path: string, sending: Sending = {}): Promise<Answer["body"]> {
    const answer = await this.send(method, path, sending);
    if (answer.status >= 300) throw new Error(`${method} ${path}: ${answer.status} ${answer.text}`);
    return answer.body;
  }
}

type PrivateKey = Required<Pick<JWK_EC_Private, "kty" | "crv" | "x" | "y" | "d">>;

export interface RegisteredAgent {
  readonly clientId: string;
  /** Private; P-256. */
  readonly key: PrivateKey;
  open(more?: { scope?: readonly string[]; budget?: number }): Promise<AgentSession>;
  redeem(delegation: string): Promise<AgentSession>;
}

export class Member {
  readonly browser: Browser;
  readonly id: string;
  readonly username: string;
  readonly password: string;

  private constructor(browser: Browser, id: string, username: string, password: string) {
    this.browser = browser;
    this.id = id;
    this.username = username;
    this.password = password;
  }

  static async signUp(url: string, bootstrap?: string): Promise<Member> {
    const browser = new Browser(url);
    const username = `m-${randomBytes(6).toString("hex")}`;
    const password = `pass ${randomBytes(12).toString("base64url")}`;
    const json = { username, password, ...(bootstrap === undefined ? {} : { bootstrap }) };
    const { user } = (await browser.done("POST", "/auth/register", { json })) as { user: { id: string } };
    return new Member(browser, user.id, username, password);
  }

  async registerAgent({ name = "agent", scope = ALL_SCOPES, budget = 1_000_000 } = {}): Promise<RegisteredAgent> {
    const { privateKey } = await generateKeyPair("ES256", { extractable: true });
    const { kty, crv, x, y, d } = (await exportJWK(privateKey)) as PrivateKey;
    const json = { client_name: name, jwks: { keys: [{ kty, crv, x, y }] }, scope, legate_budget: budget };
    const body = await this.browser.done("POST", "/oauth/register", { json });
    const clientId = String(body["client_id"]);
    const key = { kty, crv, x, y, d };
    const who = { issuer: this.browser.url, clientId, key };
    return {
      clientId,
      key,
      open: (more = {}) => Legate.open({ ...who, ...more }),
      redeem: (delegation) => Legate.redeem({ ...who, delegation }),
    };
  }
}

/** What anyone may find in an answer of any kind: nothing of how the server is made. */
export const LEAKS = /\bat (?:async )?[\w.<>[\] ]+ \(|node_modules|\.ts:\d+|\.js:\d+|SQLITE|D1_ERROR|"stack"|Error: /;
