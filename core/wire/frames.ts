/**
 * What goes over an agent's socket besides the agent's own frames, and the codes that a socket ends with. Stop codes lie
 * in 4000–4999, where stock clients give up; retry codes outside, where they come back (measured, agents 0.32).
 */
import { denialToWire, type Denial, type EndReason } from "../denial.ts";

export const CLOSE = {
  expired: 4401,
  budgetSpent: 4402,
  terminated: 4403,
  idle: 4408,
  restart: 1012,
  tryLater: 1013,
  tooBig: 1009,
  policy: 1008,
} as const;
export type CloseCode = (typeof CLOSE)[keyof typeof CLOSE];

/** The code that tells a client why its session is over. */
export function closeCodeOf(why: EndReason): CloseCode {
  return why === "expired" ? CLOSE.expired : CLOSE.terminated;
}

/** A close reason: a machine word and an id, at most 123 bytes (RFC 6455 §5.5), never a secret. */
export function closeReason(word: string, id: string): string {
  return `${word} ${id}`.slice(0, 123);
}

/** `Sec-WebSocket-Protocol` value that a ticket travels beside; the only one that is ever echoed. */
export const SUBPROTOCOL = "legate";

/** Told on a socket that stays open: one message was not served, and why. The same words as over HTTP. */
export function deniedFrame(denial: Denial): string {
  const { code, error, evidence, retryAfterSeconds } = denialToWire(denial);
  const retry = retryAfterSeconds === null ? {} : { retryAfterSeconds };
  return JSON.stringify({ type: "legate.denied", code, error, ...evidence, ...retry });
}

/** What Legate itself says on a socket or a control channel; everything else on an agent's socket is the agent's. */
export type ControlFrame =
  /** The socket ends at `at` (milliseconds since 1970) unless renewed with a ticket that names `connection`. */
  | { readonly type: "legate.expiring"; readonly at: number; readonly connection?: string }
  /** It was renewed, and ends at `at` now. */
  | { readonly type: "legate.renewed"; readonly at: number }
  /** What is left at the node, and what is set aside there; null where nothing caps it, or this place does not know. */
  | { readonly type: "legate.budget"; readonly remaining: number | null; readonly held: number | null }
  /** Nothing left to call for: the socket stays open and serves nothing until there is. */
  | { readonly type: "legate.paused"; readonly node: string }
  /** The session, or the node, has ended: `reason` says why, `decision` names the audit row. */
  | { readonly type: "legate.terminated"; readonly reason: string; readonly decision: string }
  /** One message was not served. */
  | { readonly type: "legate.denied"; readonly code: string; readonly error: string; readonly [more: string]: unknown }
  /** The agent failed over one message. */
  | { readonly type: "legate.error"; readonly code: string };

/** From a client, on an agent's socket: a ticket bought with a newer token, never the token. */
export interface RenewFrame {
  readonly type: "legate.renew";
  readonly ticket: string;
}

export function controlFrame(frame: ControlFrame): string {
  return JSON.stringify(frame);
}

const CONTROL_TYPES: ReadonlySet<string> = new Set([
  "legate.expiring",
  "legate.renewed",
  "legate.budget",
  "legate.paused",
  "legate.terminated",
  "legate.denied",
  "legate.error",
] satisfies ControlFrame["type"][]);

/** @returns the frame, if what came over a socket is Legate's own and not the agent's; null for everything else */
export function readControlFrame(data: unknown): ControlFrame | null {
  const frame = readFrame(data);
  return frame !== null && CONTROL_TYPES.has(String(frame["type"])) ? (frame as unknown as ControlFrame) : null;
}

/** @returns the renewal that a client asks for, or null for everything else */
export function readRenewFrame(data: unknown): RenewFrame | null {
  const frame = readFrame(data);
  return frame?.["type"] === "legate.renew" && typeof frame["ticket"] === "string"
    ? { type: "legate.renew", ticket: frame["ticket"] }
    : null;
}

function readFrame(data: unknown): Record<string, unknown> | null {
  if (typeof data !== "string" || !data.includes('"legate.')) return null;
  try {
    const frame: unknown = JSON.parse(data);
    return typeof frame === "object" && frame !== null ? (frame as Record<string, unknown>) : null;
  } catch {
    return null; // an agent's own text
  }
}

/** A ticket as it is offered beside `legate`: nothing secret ever stands in a URL. */
const TICKET_PREFIX = "ticket.";

/**
 * @param offered the request's `Sec-WebSocket-Protocol`
 * @returns the one ticket in it; null where there is none, undefined where there are two
 */
export function ticketIn(offered: string | null): string | null | undefined {
  const tickets = (offered ?? "")
    .split(",")
    .map((protocol) => protocol.trim())
    .filter((protocol) => protocol.startsWith(TICKET_PREFIX));
  return tickets.length > 1 ? undefined : (tickets[0] ?? null);
}

/** Told on a socket whose agent failed over a message: that it did, and nothing of how. */
export const ERROR_FRAME = JSON.stringify({ type: "legate.error", code: "internal_error" });
