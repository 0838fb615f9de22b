/**
 * A person at a browser, as far as scripts need one: keeps the cookies, sends them with this deployment's own Origin, and
 * throws a LegateError for every refusal. For scripts and tests; agents use sdk/client.
 */
import { LegateError } from "../../sdk/client.ts";
import type { PublicJwk } from "./keys.ts";

export interface Client {
  readonly client_id: string;
  readonly client_name: string;
}

export class Person {
  readonly issuer: string;
  readonly #cookies = new Map<string, string>();
  #id = "";

  constructor(issuer: string) {
    this.issuer = issuer;
  }

  /** `usr_…`, once signed in. */
  get id(): string {
    return this.#id;
  }

  async signUp(username: string, password: string, bootstrap?: string): Promise<void> {
    const more = bootstrap === undefined ? {} : { bootstrap };
    this.#signedIn(await this.json("POST", "/auth/register", { username, password, ...more }));
  }

  async signIn(username: string, password: string): Promise<void> {
    this.#signedIn(await this.json("POST", "/auth/login", { username, password }));
  }

  #signedIn(answer: unknown): void {
    this.#id = (answer as { user: { id: string } }).user.id;
  }

  /** @param jwk the public key */
  async registerAgent(name: string, jwk: PublicJwk, scope: string, budget: number): Promise<Client> {
    const body = { client_name: name, jwks: { keys: [jwk] }, scope, legate_budget: budget };
    return (await this.json("POST", "/oauth/register", body)) as Client;
  }

  /** @returns the answer's JSON @throws LegateError */
  async json(method: string, path: string, body?: object): Promise<unknown> {
    const response = await this.fetch(method, path, body);
    if (!response.ok) throw await LegateError.fromResponse(response);
    return response.status === 204 ? null : response.json();
  }

  async fetch(method: string, path: string, body?: object): Promise<Response> {
    const headers: Record<string, string> = { origin: this.issuer };
    if (this.#cookies.size > 0)
      headers["cookie"] = [...this.#cookies].map(([name, value]) => `${name}=${value}`).join("; ");
    if (body !== undefined) headers["content-type"] = "application/json";
    const init = { method, headers, ...(body === undefined ? {} : { body: JSON.stringify(body) }) };
    const response = await fetch(`${this.issuer}${path}`, init).catch((cause: unknown) => {
      throw new LegateError("unreachable", `${this.issuer} could not be reached.`, { cause });
    });
    for (const cookie of response.headers.getSetCookie()) {
      const [, name = "", value = ""] = /^([^=;]+)=([^;]*)/.exec(cookie) ?? [];
      this.#cookies.set(name, value);
    }
    return response;
  }
}
