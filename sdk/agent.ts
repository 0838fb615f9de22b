/**
 * `protect(Agent)`: the base class of an agent behind Legate, in an agents' Worker of its own.
 *
 *   export class Researcher extends protect(Agent<Env>) {
 *     override onRequest() { return Response.json({ onBehalfOf: this.caller.subject }); }
 *   }
 *
 * Every request must carry an identity envelope that the gate sealed for this very object, method and path; sockets are
 * registered before they are served, and every message is admitted first. `this.caller` says who calls;
 * `this.legateFetch` calls another agent with the chain intact. Nothing that fails in here tells a client how.
 *
 * The Worker needs the secret LEGATE_IDENTITY_KEY and a service binding LEGATE to Legate's entrypoint `Authority`.
 */
import { parseSubAgentPath, type Agent, type Connection, type ConnectionContext, type WSMessage } from "agents";
import { denialBody, denialToWire, type Denial } from "../core/denial.ts";
import type { ConnectionId, EpochMs, Micros } from "../core/ids.ts";
import { err, type Result } from "../core/result.ts";
import { ERROR_FRAME } from "../core/wire/frames.ts";
import type { IdentityKey } from "../core/wire/identity.ts";
import type { AgentSocketsRpc, AuthorityServiceRpc, CloseOrder } from "../core/wire/agents.ts";
import type { Charged, Settled } from "../core/wire/answers.ts";
import { callerOf, calls, currentCall, delegatedRequest, type Caller, type CallContext } from "./agent/caller.ts";
import { importKeys, openEnvelope, withoutInternals, type IdentitySecrets, type Opened } from "./agent/envelope.ts";
import { Sockets, type End } from "./agent/sockets.ts";
import { isStream, Streams } from "./agent/streams.ts";
import { chargeOnce } from "./agent/charge.ts";

export type { Caller } from "./agent/caller.ts";
export type { ActorLink } from "../core/token/chain.ts";

/** What the Worker's `env` must hold. */
export interface ProtectedEnv extends IdentitySecrets {
  readonly LEGATE: AuthorityServiceRpc & { fetch(request: Request): Promise<Response> };
}

/** What a class may allow, in `static legate = { … }`; nothing is allowed that it does not say. */
export interface ProtectOptions {
  /** Clients may write and are sent the agent's `state`, and the base class's other frames (`useAgent` of `agents`). */
  readonly clientState?: boolean;
  /** Clients may call methods marked `@callable()`. */
  readonly clientCalls?: boolean;
  /** Clients may reach sub-agents under `/sub/…`. */
  readonly subAgents?: boolean;
  /** Largest message that is served, in bytes; 64 KiB unless said. */
  readonly messageBytes?: number;
}

/** What `protect` adds to an agent. */
export interface Protected extends AgentSocketsRpc {
  /** Who calls, inside a request, a stream that it answered with, or a message. Throws anywhere else. */
  readonly caller: Caller;
  /**
   * Calls an agent of this deployment on behalf of the caller: its slug must stand in this entry's `calls`.
   *
   * @param target `/agents/<slug>/<instance>/…`
   */
  legateFetch(target: string | URL, init?: RequestInit): Promise<Response>;
  /**
   * Posts what a streamed answer has really cost, once, before it ends; where headers can still be sent, send
   * `Legate-Cost` instead.
   *
   * @param cost micros, no more than the entry's most
   */
  legateSettle(cost: number): Promise<Result<Settled, Denial>>;
  /**
   * Adds to what a call costs on the way: a call with a hold of its own (strict calls, streams), also in the middle of a
   * stream, where what goes over the hold enlarges it first; or a socket, beyond what its messages were admitted at,
   * where it is spent at once. Where the caller's budget has no room nothing is charged, and the denial says so: stop
   * working. A stream that is given up costs what was charged until then.
   *
   * @param micros a whole number
   */
  charge(micros: number): Promise<Result<Charged, Denial>>;
  /**
   * What a message costs, in micros, told before it is served, and never less afterwards; what shows later is charged by
   * `charge`. A class that knows better overrides it.
   *
   * @param most by the entry; what a message costs unless the class says less
   */
  messageCost(message: WSMessage, most: number): number;
}

type AnyAgent = new (ctx: DurableObjectState, env: never) => Agent;

/** A class like `Base`, protected. */
export type ProtectedClass<Base extends AnyAgent> = Omit<Base, "prototype"> &
  (new (ctx: DurableObjectState, env: ConstructorParameters<Base>[1]) => InstanceType<Base> & Protected);

const MESSAGE_BYTES_DEFAULT = 65_536;

function refusal(denial: Denial): Response {
  const wire = denialToWire(denial);
  return Response.json(denialBody(wire, "legate"), { status: wire.status, headers: { "cache-control": "no-store" } });
}

/**
 * A socket that is closed already, in the place of one that was refused before it was handed over: a hibernating one
 * that never received anything keeps its client waiting for ten seconds after the close frame (workerd 1.20261023.1).
 */
function closedSocket({ code, reason }: End): Response {
  const [client, server] = Object.values(new WebSocketPair()) as [WebSocket, WebSocket];
  server.accept();
  server.close(code, reason);
  return new Response(null, { status: 101, webSocket: client });
}

function legateOf(env: unknown): ProtectedEnv {
  return env as ProtectedEnv; // what is missing in it is found when it is used, and refuses the call
}

/** Frames by which the base class takes orders from clients: `cf_agent_…`, and `rpc` for `@callable()` methods. */
function orderIn(message: WSMessage): "state" | "call" | null {
  if (typeof message !== "string" || !message.includes('"type"')) return null;
  try {
    const frame = JSON.parse(message) as { readonly type?: unknown } | null;
    const type = frame?.type;
    if (type === "rpc") return "call";
    return typeof type === "string" && type.startsWith("cf_") ? "state" : null;
  } catch {
    return null; // not JSON: no order
  }
}

/**
 * @param Base `Agent` of `agents`, or a class that extends it; `protect(Agent<Env, State>)` keeps its types
 * @returns the class to extend
 */
export function protect<Base extends AnyAgent>(Base: Base): ProtectedClass<Base> {
  return protectedClass(Base as unknown as typeof Agent<Cloudflare.Env>) as unknown as ProtectedClass<Base>;
}

function protectedClass(Base: typeof Agent<Cloudflare.Env>) {
  return class extends Base implements Protected {
    static readonly legate: ProtectOptions = {};

    readonly #options: ProtectOptions;
    readonly #legate: ProtectedEnv;
    readonly #sockets: Sockets;
    readonly #streams: Streams;
    #keys: readonly IdentityKey[] | null = null;
    /** Upgrades on their way through the base class, by the id that their connection will have. */
    readonly #upgrades = new Map<string, { readonly opened: Opened; connection: Connection | null }>();
    /** Answers of the agent's own code; what else the base class answers may carry a stack. */
    readonly #own = new WeakSet<Response>();

    constructor(ctx: DurableObjectState, env: Cloudflare.Env) {
      super(ctx, env);
      this.#options = (this.constructor as unknown as { readonly legate: ProtectOptions }).legate;
      this.#legate = legateOf(env);
      // By name of the private field: getConnection() of the base class hides the connections of sub-agents.
      const inner = (this as unknown as { _webSockets: { getConnection(id: string): Connection | undefined } })
        ._webSockets;
      this.#sockets = new Sockets({
        ctx,
        authority: this.#legate.LEGATE,
        connectionOf: (id) => inner.getConnection(id),
        flagOf: (connection, key) => this._unsafe_getConnectionFlag(connection, key),
        setFlag: (connection, key, value) => this._unsafe_setConnectionFlag(connection, key, value),
        costOf: (message, most) => this.messageCost(message, most),
        messageBytesMax: this.#options.messageBytes ?? MESSAGE_BYTES_DEFAULT,
      });
      this.#streams = new Streams({ ctx, authority: this.#legate.LEGATE });
      this.#wrapHandlers();
    }

    get caller(): Caller {
      return currentCall().caller;
    }

    async legateFetch(target: string | URL, init?: RequestInit): Promise<Response> {
      return this.#legate.LEGATE.fetch(delegatedRequest(currentCall(), target, init));
    }

    async legateSettle(cost: number): Promise<Result<Settled, Denial>> {
      const { envelope } = currentCall();
      if (envelope === null) return err({ reason: "hold_mismatch", fault: "settled" }); // charged when it was admitted
      return this.#legate.LEGATE.settle({ identity: envelope, cost: cost as Micros, failed: false });
    }

    async charge(micros: number): Promise<Result<Charged, Denial>> {
      const { envelope, handle } = currentCall();
      if (handle !== null) return this.#sockets.charge(handle, micros);
      return chargeOnce(this.#legate.LEGATE, { identity: envelope ?? "" }, micros);
    }

    messageCost(_message: WSMessage, most: number): number {
      return most;
    }

    /** For the authority. Not async, so that the base class does not start the agent only to hang up on its clients. */
    legateClose(order: CloseOrder): Promise<number> {
      const { connections, code, reason } = order;
      return Promise.resolve(this.#sockets.close(order) + this.#streams.close(connections, code, reason));
    }

    /** For the authority, like `legateClose`. */
    legateTell(frames: readonly { readonly connection: ConnectionId; readonly frame: string }[]): Promise<void> {
      this.#sockets.tell(frames);
      return Promise.resolve();
    }

    /** For the authority, like `legateClose`. */
    legateOpen(connections: readonly ConnectionId[]): Promise<readonly ConnectionId[]> {
      return Promise.resolve([...this.#sockets.open(connections), ...this.#streams.open(connections)]);
    }

    override async fetch(request: Request): Promise<Response> {
      try {
        const opened = await this.#open(request);
        if (opened === null) return refusal({ reason: "credentials_missing" });
        if (this.#options.subAgents !== true && this.#isForSubAgent(request)) return refusal({ reason: "not_found" });
        // Started outside of the call: what onStart sets going must not inherit its caller.
        await this.lifecycle.start();
        if (opened.identity.expires <= Date.now()) return refusal({ reason: "credentials_missing" });
        return request.headers.get("upgrade")?.toLowerCase() === "websocket"
          ? await this.#upgrade(request, opened)
          : await this.#answer(request, opened);
      } catch (error) {
        await this.#report(error);
        return refusal({ reason: "internal" });
      }
    }

    async #open(request: Request): Promise<Opened | null> {
      this.#keys ??= await importKeys(this.#legate);
      return openEnvelope(request, this.#keys, this.ctx.id.name, Date.now() as EpochMs);
    }

    /** Tells the agent's own developer, by the hook of the base class, whose own logs it and throws it again. */
    async #report(problem: unknown): Promise<void> {
      try {
        await this.onError(problem);
      } catch {
        // told
      }
    }

    /** By the rule that the base class routes by. */
    #isForSubAgent({ url }: Request): boolean {
      const { exports } = this.ctx as { readonly exports?: object };
      return parseSubAgentPath(url, exports === undefined ? {} : { knownClasses: Object.keys(exports) }) !== null;
    }

    async #answer(request: Request, opened: Opened): Promise<Response> {
      const { identity, envelope, delegation } = opened;
      const context: CallContext = { caller: callerOf(identity), delegation, envelope, handle: null };
      const response = await calls.run(context, () => super.fetch(withoutInternals(request)));
      if (response.status >= 500 && !this.#own.has(response)) return refusal({ reason: "internal" });
      if (!isStream(request, response)) return response;
      const served = await calls.run(context, () => this.#streams.serve(response, opened));
      return served.ok ? served.value : refusal(served.denial);
    }

    /** The connection's id is ours: the base class would take a client's, and two clients' the same. */
    async #upgrade(request: Request, opened: Opened): Promise<Response> {
      const id = crypto.randomUUID();
      const url = new URL(request.url);
      url.searchParams.set("_pk", id);
      url.searchParams.delete("__agents_transport"); // the other wire does not hibernate, and nothing would guard it
      const upgrade: { opened: Opened; connection: Connection | null } = { opened, connection: null };
      this.#upgrades.set(id, upgrade);
      try {
        const response = await super.fetch(withoutInternals(request, url.href));
        if (upgrade.connection === null) return refusal({ reason: "internal" });
        const end = this.#sockets.endOf(upgrade.connection);
        return end === null ? response : closedSocket(end);
      } finally {
        this.#upgrades.delete(id);
      }
    }

    override async webSocketMessage(ws: WebSocket, message: WSMessage): Promise<void> {
      await this.lifecycle.start();
      const order = orderIn(message);
      const isRefused =
        (order === "state" && this.#options.clientState !== true) ||
        (order === "call" && this.#options.clientCalls !== true);
      if (isRefused) return; // no answer: nothing here takes orders
      await this.#sockets.receive(ws, message, (context) =>
        calls.run(context, () => this.lifecycle.webSocketMessage(ws, message)),
      );
    }

    override async webSocketClose(ws: WebSocket, code: number, reason: string, wasClean: boolean): Promise<void> {
      this.#sockets.gone(ws, code);
      await this.lifecycle.webSocketClose(ws, code, reason, wasClean);
      // The base class leaves a close frame without a code unanswered, and its client waits for ever (agents 0.32).
      if (code === 1005) tryClose(ws);
    }

    override async webSocketError(ws: WebSocket, error: unknown): Promise<void> {
      this.#sockets.gone(ws, 1006);
      await this.lifecycle.webSocketError(ws, error);
    }

    /** The base class has put its own handlers on the instance; these stand around them. */
    #wrapHandlers(): void {
      const onRequest = this.onRequest.bind(this);
      this.onRequest = async (request) => {
        let response: Response;
        try {
          response = await onRequest(request);
        } catch {
          response = refusal({ reason: "internal" }); // the base class has logged it
        }
        this.#own.add(response);
        return response;
      };
      const onConnect = this.onConnect.bind(this);
      this.onConnect = (connection, context) => this.#connect(connection, context, onConnect);
      const onMessage = this.onMessage.bind(this);
      this.onMessage = async (connection, message) => {
        try {
          await onMessage(connection, message);
        } catch {
          trySend(connection, ERROR_FRAME);
        }
      };
    }

    async #connect(
      connection: Connection,
      context: ConnectionContext,
      onConnect: (connection: Connection, context: ConnectionContext) => void | Promise<void>,
    ): Promise<void> {
      const upgrade = this.#upgrades.get(connection.id);
      if (upgrade === undefined) throw new Error("a connection that this object did not ask for");
      upgrade.connection = connection;
      try {
        const call = await this.#sockets.register(connection, upgrade.opened);
        if (call !== null) await calls.run(call, () => onConnect(connection, context));
      } catch (error) {
        await this.#report(error);
        this.#sockets.fail(connection);
      }
    }

    override shouldConnectionBeReadonly(_connection: Connection, _context: ConnectionContext): boolean {
      return this.#options.clientState !== true;
    }

    override shouldSendProtocolMessages(_connection: Connection, _context: ConnectionContext): boolean {
      return this.#options.clientState === true;
    }

    /** To all but those that wait for the authority. */
    override broadcast(message: string | ArrayBuffer | ArrayBufferView, without: string[] = []): void {
      super.broadcast(message, [...without, ...this.#sockets.pending]);
    }
  };
}

function tryClose(ws: WebSocket): void {
  try {
    ws.close(1000);
  } catch {
    // it is closed
  }
}

function trySend(connection: Connection, text: string): void {
  try {
    connection.send(text);
  } catch {
    // it closed in the meantime
  }
}
