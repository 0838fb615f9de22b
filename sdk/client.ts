/**
 * The client of agents: opens a session with one signature, calls what Legate protects, and hands narrower authority on
 * without asking anybody. Runs in node, Workers, Bun, Deno and browsers; keeps secrets in memory alone.
 *
 *   const agent = await Legate.open({ issuer, clientId, key, scope: ["plan"] });
 *   const answer = await agent.fetch("/agents/planner/default/chat", { method: "POST", body });
 */
import { makeSegment, type AgentId, type EpochSeconds, type Micros } from "../core/ids.ts";
import { formatScope } from "../core/token/scope.ts";
import { narrowToken, type Narrowing } from "../core/token/mint.ts";
import { ClientCredentials, reach, type ClientKey } from "./client/credentials.ts";
import { LegateError, readObject } from "./client/errors.ts";
import { openSocket } from "./client/socket.ts";
import { renewInBand, type Ticket } from "./client/renewal.ts";
import { NarrowedSource, random, readFacts, RootSource, type TokenSource } from "./client/source.ts";
import { TokenFile, type TokenFileOptions } from "./client/token-file.ts";

export { LegateError } from "./client/errors.ts";
export type { ClientKey } from "./client/credentials.ts";
export { onControlFrame, shouldReconnectOnClose } from "./client/renewal.ts";
export type { TokenFile, TokenFileOptions } from "./client/token-file.ts";
export type { Ticket } from "./client/renewal.ts";
export { readControlFrame, type ControlFrame } from "../core/wire/frames.ts";

export interface Identification {
  /** The deployment's origin. */
  readonly issuer: string;
  /** `agt_…`, as registered. */
  readonly clientId: string;
  readonly key: ClientKey;
}

export interface OpenOptions extends Identification {
  /** All that was registered unless said. */
  readonly scope?: readonly string[];
  /** Micros; the least of this, the agent's cap and the user's holds. */
  readonly budget?: number;
}

export interface RedeemOptions extends Identification {
  /** What `delegate` gave the one who hands it over. */
  readonly delegation: string;
  readonly scope?: readonly string[];
  readonly budget?: number;
}

/** What is taken away when authority is handed on; what is not said stays. */
export interface NarrowOptions {
  readonly scope?: readonly string[];
  /** Slugs that may still be called. */
  readonly agents?: readonly string[];
  /** Micros that all of it may spend. */
  readonly budget?: number;
  readonly expires?: Date;
}

/** `GET /sessions/current`: what the holder of a token may still do. */
export type Leash = Readonly<Record<string, unknown>>;

export const Legate = {
  /** Opens a session of the agent's owner, with one signature. @throws LegateError */
  async open({ issuer, clientId, key, scope, budget }: OpenOptions): Promise<AgentSession> {
    const credentials = await ClientCredentials.from(issuer, clientId, key);
    const token = await credentials.open({ scope: scopeText(scope), legate_budget: numberText(budget) });
    return sessionOf(credentials, token);
  },

  /** Takes a delegation up, with the key of the agent that it names. @throws LegateError */
  async redeem({ issuer, clientId, key, delegation, scope, budget }: RedeemOptions): Promise<AgentSession> {
    const credentials = await ClientCredentials.from(issuer, clientId, key);
    const asked = { scope: scopeText(scope), legate_budget: numberText(budget) };
    return sessionOf(credentials, await credentials.exchange(delegation, asked));
  },
} as const;

function sessionOf(credentials: ClientCredentials, token: string): AgentSession {
  const source = new RootSource(credentials, token);
  return new AgentSession(source, () => source.end());
}

/** A bounded period of authority; made by `Legate.open`, `Legate.redeem` and `spawn`. */
export class AgentSession {
  readonly #source: TokenSource;
  readonly #end: () => Promise<void>;

  constructor(source: TokenSource, end: () => Promise<void>) {
    this.#source = source;
    this.#end = end;
  }

  get issuer(): string {
    return this.#source.issuer;
  }

  /** `ses_…` */
  get id(): string {
    return readFacts(this.#source.current).gid.split(".", 1)[0] ?? "";
  }

  /** The place in the delegation tree that calls are charged to; it can be ended by itself. */
  get node(): string {
    return readFacts(this.#source.current).node;
  }

  /** A token that holds for a while yet, for clients other than this one. A secret: whoever has it can use it. */
  token(): Promise<string> {
    return this.#source.token();
  }

  /**
   * Keeps a file with a token that holds, renewed ahead of its end, until it is closed or the session is over: for AWS SDKs
   * and the CLI, by AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE. Readable by its owner alone; in node, Bun and Deno.
   *
   * @throws LegateError, or the file system's error, when the first token can't be written
   */
  tokenFile(path: string, options: TokenFileOptions = {}): Promise<TokenFile> {
    return TokenFile.open(path, this.#source, options);
  }

  /**
   * `fetch` with the session's token, to this deployment alone.
   *
   * @param target a path, or a URL of the issuer
   * @returns the answer as it is, refusals included
   * @throws LegateError when there was none
   */
  async fetch(target: string | URL, init: RequestInit = {}): Promise<Response> {
    const headers = new Headers(init.headers);
    const token = await this.#source.token();
    headers.set("authorization", `Bearer ${token}`);
    const answer = await reach(this.#urlOf(target), { ...init, headers });
    if (answer.status === 401) this.#source.refused(token); // the next call comes with another, if there is one
    return answer;
  }

  /**
   * A WebSocket that is open, and is renewed in band for as long as the session's tokens are. Close codes 4000–4999 are
   * final: the session is over, or its budget spent.
   */
  async connect(target: string | URL): Promise<WebSocket> {
    const url = this.#urlOf(target);
    const socket = await openSocket(url, await this.#source.token(), () => this.ticket(target));
    renewInBand(socket, (connection) => this.ticket(target, connection));
    return socket;
  }

  /** The control channel of this node: it tells of expiry, budget, pauses and the end, and takes nothing. */
  async channel(): Promise<WebSocket> {
    const path = `/sessions/${this.node}/socket`;
    return openSocket(this.#urlOf(path), await this.#source.token(), () => this.ticket(path));
  }

  /**
   * A one-use ticket, for clients that can't send headers. Stock clients ask anew at each attempt:
   * `new AgentClient({ …, protocols: async () => (await session.ticket("/agents/researcher/default")).protocols })`.
   *
   * @param connection of `legate.expiring`: then the ticket renews that open socket
   */
  async ticket(target: string | URL, connection?: string): Promise<Ticket> {
    const { pathname } = this.#urlOf(target);
    const answer = await this.fetch("/sessions/ticket", {
      method: "POST",
      headers: { "content-type": "application/json" },
      body: JSON.stringify({ target: pathname, ...(connection === undefined ? {} : { connection }) }),
    });
    if (!answer.ok) throw await LegateError.fromResponse(answer);
    const { ticket, protocols, expiresAt } = (await readObject(answer)) as unknown as Ticket & { expiresAt: number };
    return { ticket, protocols, expiresAt: new Date(expiresAt) };
  }

  /**
   * Authority for a sub-agent that has no key: a bearer delegation, narrowed offline. It is shown everywhere as
   * `<this agent>/<name>`, not proven.
   *
   * @param name like `summarizer`: lower case letters, digits and hyphens
   */
  async spawn(name: string, narrowing: NarrowOptions = {}): Promise<AgentSession> {
    const n = makeSegment(random);
    const source = await NarrowedSource.from(this.#source, { n, act: name, ...blockOf(narrowing) });
    const child: AgentSession = new AgentSession(source, async () => {
      const answer = await child.fetch(`/sessions/${child.node}`, { method: "DELETE" });
      if (!answer.ok) throw await LegateError.fromResponse(answer);
    });
    return child;
  }

  /**
   * Authority for another registered agent, narrowed offline; only that agent can redeem it, with its own key.
   *
   * @param clientId `agt_…` of the agent that will redeem it
   * @returns the delegation, to hand over
   */
  async delegate(clientId: string, narrowing: NarrowOptions = {}): Promise<string> {
    const block: Narrowing = { for: clientId as AgentId, ...blockOf(narrowing) };
    return narrowToken(await this.#source.token(), block, random);
  }

  /** What this session may still do and spend. */
  async leash(): Promise<Leash> {
    const answer = await this.fetch("/sessions/current");
    if (!answer.ok) throw await LegateError.fromResponse(answer);
    return readObject(answer);
  }

  /** Ends the session, and all that was handed on from it. */
  end(): Promise<void> {
    return this.#end();
  }

  #urlOf(target: string | URL): URL {
    const url = new URL(target, this.issuer);
    if (url.origin !== this.issuer)
      throw new LegateError("foreign_origin", `This token is for ${this.issuer}; it goes nowhere else.`);
    return url;
  }
}

function blockOf({ scope, agents, budget, expires }: NarrowOptions): Partial<Narrowing> {
  return {
    ...(scope === undefined ? {} : { scope: formatScope(scope) }),
    ...(agents === undefined ? {} : { agents }),
    ...(budget === undefined ? {} : { budget: budget as Micros }),
    ...(expires === undefined ? {} : { exp: Math.floor(expires.getTime() / 1000) as EpochSeconds }),
  };
}

function scopeText(scope: readonly string[] | undefined): string | undefined {
  return scope === undefined ? undefined : formatScope(scope);
}

function numberText(value: number | undefined): string | undefined {
  return value === undefined ? undefined : String(value);
}
