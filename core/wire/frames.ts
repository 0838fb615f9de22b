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

/** Told on a socket whose agent failed over a message: that it did, and nothing of how. */
export const ERROR_FRAME = JSON.stringify({ type: "legate.error", code: "internal_error" });
