/**
 * The sockets of one protected object. A connection is accepted, then registered with the authority, and served only
 * after its answer; every message is admitted before it is served, in the order in which it came. What must survive
 * hibernation lies in the socket's attachment, hidden from the agent's own `connection.state`.
 *
 * No answer is never a yes: a message that the authority did not admit in time is not served, and its socket closes.
 */
import type { Connection, WSMessage } from "agents";
import { CF_NO_PROTOCOL_KEY, registerInternalConnectionKeys } from "agents/websockets";
import { denialToWire, type Denial } from "../../core/denial.ts";
import { isMicros, type ConnectionId, type EpochMs, type Micros } from "../../core/ids.ts";
import {
  CLOSE,
  closeCodeOf,
  closeReason,
  controlFrame,
  deniedFrame,
  readRenewFrame,
  type ControlFrame,
} from "../../core/wire/frames.ts";
import type { Result } from "../../core/result.ts";
import type { AuthorityServiceRpc, CloseOrder } from "../../core/wire/agents.ts";
import type { Charged } from "../../core/wire/answers.ts";
import { callerOf, needsDelegation, type Caller, type CallContext } from "./caller.ts";
import { chargeOnce } from "./charge.ts";
import type { Opened } from "./envelope.ts";
import { ANSWER_WITHIN_MS, SILENCE, within } from "./within.ts";

const MESSAGES_WAITING_MAX = 64; // a client that sends faster than the authority answers must wait for its answers
const SEAT_KEY = "_cf_legate"; // agents keeps keys with this prefix out of connection.state

registerInternalConnectionKeys(SEAT_KEY);

export interface End {
  readonly code: number;
  readonly reason: string;
}

/** What the attachment says of a connection. */
interface Seat {
  readonly state: "pending" | "open" | "closed";
  /** Once closed from this side: what it was closed with. */
  readonly end: End | null;
  /** While pending: what to register with. */
  readonly envelope: string | null;
  /** Once open: what `admit` and `disconnect` take. */
  readonly handle: string | null;
  readonly expires: EpochMs;
  /** The most that a message may cost, by the entry. */
  readonly most: Micros;
  readonly caller: Caller;
  /** The largest message that is served, as the authority said; null until it has. */
  readonly messageBytes: number | null;
  /** Its client was told that there is nothing left to spend. */
  readonly isPaused: boolean;
}

/** What the sockets need of the object that owns them. */
export interface SocketHost {
  readonly ctx: DurableObjectState;
  readonly authority: Pick<AuthorityServiceRpc, "register" | "admit" | "charge" | "renew" | "disconnect">;
  connectionOf(id: string): Connection | undefined;
  flagOf(connection: Connection, key: string): unknown;
  setFlag(connection: Connection, key: string, value: unknown): void;
  /** Micros; the mixin's `messageCost`. */
  costOf(message: WSMessage, most: Micros): number;
  readonly messageBytesMax: number;
}

function bytesOf(message: WSMessage): number {
  // A UTF-16 unit is at most three bytes of UTF-8; the cheap bound first.
  if (typeof message !== "string") return message.byteLength;
  return message.length * 3 <= 1_024 ? message.length : new TextEncoder().encode(message).length;
}

export class Sockets {
  readonly #host: SocketHost;
  /** Connections that wait for the authority's first answer, and their seats once it has come. */
  readonly #registering = new Map<string, Promise<Seat | null>>();
  readonly #lines = new Map<string, { last: Promise<unknown>; waiting: number }>();
  /** The last charge of each socket, by its handle. */
  readonly #charging = new Map<string, Promise<unknown>>();
  /** The gate's tokens for the agent's own calls: in memory alone, asked for again after a wake. */
  readonly #delegations = new Map<string, string | null>();

  constructor(host: SocketHost) {
    this.#host = host;
  }

  /** Ids of connections that must not be sent anything yet. */
  get pending(): readonly string[] {
    return [...this.#registering.keys()];
  }

  /**
   * Registers a connection that was accepted a moment ago.
   *
   * @returns the call to serve `onConnect` with, or null: it was closed with its code
   */
  async register(connection: Connection, { identity, envelope, delegation }: Opened): Promise<CallContext | null> {
    const seat: Seat = {
      state: "pending",
      end: null,
      envelope,
      handle: null,
      expires: identity.tokenExpires,
      most: identity.held,
      caller: callerOf(identity),
      messageBytes: null,
      isPaused: false,
    };
    this.#delegations.set(connection.id, delegation);
    // Frames of the base class must wait like everything else.
    this.#host.setFlag(connection, CF_NO_PROTOCOL_KEY, true);
    this.#setSeat(connection, seat);
    const open = await this.#askOnce(connection, seat);
    if (open === null) return null;
    this.#host.setFlag(connection, CF_NO_PROTOCOL_KEY, undefined);
    return { caller: open.caller, delegation, envelope, handle: open.handle };
  }

  /**
   * Admits one message and serves it in its turn.
   *
   * @param serve runs the agent's own code; called only when the authority said yes
   */
  async receive(ws: WebSocket, message: WSMessage, serve: (context: CallContext) => Promise<void>): Promise<void> {
    const connection = this.#connectionOf(ws);
    if (connection === null) return;
    const line = this.#lines.get(connection.id) ?? { last: Promise.resolve(), waiting: 0 };
    this.#lines.set(connection.id, line);
    if (line.waiting >= MESSAGES_WAITING_MAX) return this.#end(connection, CLOSE.tryLater, "too_many_messages");
    line.waiting++;
    const renewal = readRenewFrame(message);
    const turn = line.last.then(() =>
      renewal === null ? this.#admit(connection, message) : this.#renew(connection, renewal.ticket),
    );
    line.last = turn.catch(() => null);
    try {
      const context = await turn;
      if (context !== null) await serve(context);
    } finally {
      if (--line.waiting === 0) this.#lines.delete(connection.id);
    }
  }

  /** Closes what the authority names, hibernated or not. @returns how many were still open here */
  close({ connections, code, reason, frame }: CloseOrder): number {
    const open = connections.flatMap((id) => this.#find(id));
    for (const connection of open) {
      if (frame !== undefined) send(connection, frame);
      this.#shut(connection, code, reason);
    }
    return open.length;
  }

  /** Sends frames of the authority's to clients, hibernated or not. */
  tell(frames: readonly { readonly connection: ConnectionId; readonly frame: string }[]): void {
    for (const { connection: id, frame } of frames)
      for (const connection of this.#find(id)) if (this.#seatOf(connection)?.state === "open") send(connection, frame);
  }

  /** @returns those that are open here */
  open(connections: readonly ConnectionId[]): ConnectionId[] {
    return connections.filter((id) => this.#find(id).length > 0);
  }

  #find(id: string): Connection[] {
    const sockets = this.#host.ctx.getWebSockets(id).map((ws) => this.#connectionOf(ws));
    return sockets.filter((found): found is Connection => found?.id === id); // a tag of the agent's own may read like an id
  }

  /** Tells the authority that a client has gone. Never throws, never waits. */
  gone(ws: WebSocket, code: number): void {
    const [id] = this.#host.ctx.getTags(ws);
    if (id === undefined) return;
    this.#delegations.delete(id);
    const seat = this.#rawSeat(ws);
    if (seat?.handle && seat.state === "open") this.#disconnect(seat.handle, code);
  }

  /** @returns what a connection was closed with from this side, or null */
  endOf(connection: Connection): End | null {
    return this.#seatOf(connection)?.end ?? null;
  }

  /** The agent's own code failed over a connection that it was to serve. */
  fail(connection: Connection): void {
    this.#end(connection, 1011, "internal_error");
  }

  /** Ends a connection from this side. */
  #end(connection: Connection, code: number, word: string): void {
    const seat = this.#seatOf(connection);
    if (seat === null || seat.state === "closed") return;
    this.#shut(connection, code, closeReason(word, seat.caller.session));
    if (seat.handle !== null) this.#disconnect(seat.handle, code);
  }

  /** The mark first: a half-open socket may still deliver messages, and they must find it. */
  #shut(connection: Connection, code: number, reason: string): void {
    const seat = this.#seatOf(connection);
    if (seat !== null) this.#setSeat(connection, { ...seat, state: "closed", end: { code, reason }, envelope: null });
    this.#delegations.delete(connection.id);
    try {
      connection.close(code, reason);
    } catch {
      // it closed in the meantime
    }
  }

  #disconnect(handle: string, code: number): void {
    const told = within(ANSWER_WITHIN_MS, () => this.#host.authority.disconnect({ handle, code }));
    this.#host.ctx.waitUntil(told);
  }

  #askOnce(connection: Connection, seat: Seat): Promise<Seat | null> {
    const { id } = connection;
    const asked = this.#registering.get(id) ?? this.#ask(connection, seat).finally(() => this.#registering.delete(id));
    this.#registering.set(id, asked);
    return asked;
  }

  /** Asks the authority to know the connection. @returns its seat, or null when it was closed instead */
  async #ask(connection: Connection, seat: Seat): Promise<Seat | null> {
    const question = {
      identity: seat.envelope ?? "",
      connection: connection.id as ConnectionId,
      object: this.#host.ctx.id.name ?? "",
    };
    const answer = await within(ANSWER_WITHIN_MS, () => this.#host.authority.register(question));
    // A stop that came in the meantime has closed it already.
    if (this.#seatOf(connection)?.state !== "pending") return null;
    if (answer === SILENCE) return this.#refuse(connection, CLOSE.tryLater, "authority_unavailable");
    if (!answer.ok) return this.#refuse(connection, ...closeOf(answer.denial));
    const { handle, expires, messageBytes = null } = answer.value;
    const open: Seat = { ...seat, state: "open", envelope: null, handle, expires, messageBytes };
    this.#setSeat(connection, open);
    return open;
  }

  #refuse(connection: Connection, code: number, word: string): null {
    this.#end(connection, code, word);
    return null;
  }

  /** @returns the call to serve the message with, or null when it must not be served */
  async #admit(connection: Connection, message: WSMessage): Promise<CallContext | null> {
    let seat = this.#seatOf(connection);
    // Waits for a registration that runs, and asks again where an eviction cut one off.
    if (seat?.state === "pending") seat = await this.#askOnce(connection, seat);
    if (seat === null || seat.state !== "open" || seat.handle === null) return null;
    const bytesMax = Math.min(this.#host.messageBytesMax, seat.messageBytes ?? Infinity);
    if (bytesOf(message) > bytesMax) return this.#refuse(connection, CLOSE.tooBig, "message_too_big");
    if (seat.expires <= Date.now()) return this.#refuse(connection, CLOSE.expired, "token_expired");

    const { handle, most, caller } = seat;
    const cost = this.#costOf(message, most);
    const held = this.#delegations.get(connection.id);
    const delegation = held === undefined || (held !== null && needsDelegation(held, Date.now()));
    const answer = await within(ANSWER_WITHIN_MS, () => this.#host.authority.admit({ handle, cost, delegation }));
    if (this.#seatOf(connection)?.state !== "open") return null;
    if (answer === SILENCE) return this.#refuse(connection, CLOSE.tryLater, "authority_unavailable");
    if (!answer.ok) return this.#deny(connection, answer.denial);
    if (seat.isPaused) {
      this.#setSeat(connection, { ...seat, isPaused: false });
      tellBudget(connection, answer.value.remaining);
    }
    if (delegation) this.#delegations.set(connection.id, answer.value.delegation);
    return {
      caller: { ...caller, remaining: answer.value.remaining },
      delegation: delegation ? answer.value.delegation : held,
      envelope: null,
      handle,
    };
  }

  /** Charges of one socket go one after the other: the authority knows a repeated one among the last few. */
  charge(handle: string, micros: number): Promise<Result<Charged, Denial>> {
    const before = this.#charging.get(handle) ?? Promise.resolve();
    const charged = before.then(() => chargeOnce(this.#host.authority, { handle }, micros));
    this.#charging.set(handle, charged);
    return charged.finally(() => {
      if (this.#charging.get(handle) === charged) this.#charging.delete(handle);
    });
  }

  /** Some refusals end a socket; after the others the client may go on, and is told. */
  #deny(connection: Connection, denial: Denial): null {
    if (isEnd(denial)) return this.#refuse(connection, ...closeOf(denial));
    const seat = this.#seatOf(connection);
    // Nothing left to spend is a pause: the socket stays, and serves nothing until there is.
    if (denial.reason === "budget_exhausted" && seat !== null && !seat.isPaused) {
      this.#setSeat(connection, { ...seat, isPaused: true });
      tell(connection, { type: "legate.paused", node: denial.node });
      tellBudget(connection, denial.remaining);
    }
    send(connection, deniedFrame(denial));
    return null;
  }

  /** A newer window, by a ticket that the client has bought with its newer token. Serves nothing. */
  async #renew(connection: Connection, ticket: string): Promise<null> {
    let seat = this.#seatOf(connection);
    if (seat?.state === "pending") seat = await this.#askOnce(connection, seat);
    if (seat === null || seat.state !== "open" || seat.handle === null) return null;
    if (seat.expires <= Date.now()) return this.#refuse(connection, CLOSE.expired, "token_expired");
    const { handle } = seat;
    const answer = await within(ANSWER_WITHIN_MS, () => this.#host.authority.renew({ handle, ticket }));
    const now = this.#seatOf(connection);
    if (now?.state !== "open") return null;
    // The old window holds until its end: its client may try again with another ticket.
    if (answer === SILENCE || !answer.ok) {
      const denial: Denial = answer === SILENCE ? { reason: "authority_unavailable" } : answer.denial;
      if (denial.reason === "ended") return this.#refuse(connection, ...closeOf(denial));
      send(connection, deniedFrame(denial));
      return null;
    }
    const { expires } = answer.value;
    this.#setSeat(connection, { ...now, handle: answer.value.handle, expires });
    this.#delegations.delete(connection.id); // the next is minted under the new window
    tell(connection, { type: "legate.renewed", at: expires });
    return null;
  }

  /** What the agent's own code says of a message's cost is bounded by its entry, and its failure costs the most. */
  #costOf(message: WSMessage, most: Micros): Micros {
    try {
      const cost = this.#host.costOf(message, most);
      return isMicros(cost) && cost <= most ? cost : most;
    } catch {
      return most;
    }
  }

  #connectionOf(ws: WebSocket): Connection | null {
    if (ws.readyState !== WebSocket.OPEN) return null;
    const [id] = this.#host.ctx.getTags(ws);
    const connection = id === undefined ? undefined : this.#host.connectionOf(id);
    return connection !== undefined && this.#seatOf(connection)?.state !== "closed" ? connection : null;
  }

  #seatOf(connection: Connection): Seat | null {
    return (this.#host.flagOf(connection, SEAT_KEY) as Seat | undefined) ?? null;
  }

  /** Of a socket that is closed, which the base class no longer shows. */
  #rawSeat(ws: WebSocket): Seat | null {
    const attachment = ws.deserializeAttachment() as { __user?: { [SEAT_KEY]?: Seat } | null } | null;
    return attachment?.__user?.[SEAT_KEY] ?? null;
  }

  #setSeat(connection: Connection, seat: Seat): void {
    this.#host.setFlag(connection, SEAT_KEY, seat);
  }
}

function send(connection: Connection, text: string): void {
  try {
    connection.send(text);
  } catch {
    // it closed in the meantime
  }
}

function tell(connection: Connection, frame: ControlFrame): void {
  send(connection, controlFrame(frame));
}

function tellBudget(connection: Connection, remaining: number | null): void {
  tell(connection, { type: "legate.budget", remaining, held: null });
}

const ENDS: ReadonlySet<string> = new Set([
  "ended",
  "user_disabled",
  "locked",
  "token_expired",
  "token_invalid",
  "authority_unavailable",
] satisfies Denial["reason"][]);

/** Whether a socket is over when a message of its was denied so; otherwise its client may send again. */
function isEnd(denial: Denial): boolean {
  // Unknown: the authority knows no such connection.
  return ENDS.has(denial.reason) || (denial.reason === "hold_mismatch" && denial.fault === "unknown");
}

/** What to close with. */
function closeOf(denial: Denial): [code: number, word: string] {
  const { code, retryAfterSeconds } = denialToWire(denial);
  if (denial.reason === "ended") return [closeCodeOf(denial.why), denial.why];
  if (denial.reason === "user_disabled" || denial.reason === "locked") return [CLOSE.terminated, code];
  if (denial.reason === "token_expired") return [CLOSE.expired, "token_expired"];
  if (denial.reason === "budget_exhausted") return [CLOSE.budgetSpent, code];
  return [retryAfterSeconds === null ? CLOSE.policy : CLOSE.tryLater, code];
}
