/**
 * What Legate says on a socket, read for the client: typed control frames, in-band renewal, and when to come back. A token
 * never travels in a frame: a renewal is a one-use ticket, bought over HTTP with the newer token.
 */
import { readControlFrame, type ControlFrame } from "../../core/wire/frames.ts";

/** A ticket for one socket: half a minute, one use. */
export interface Ticket {
  readonly ticket: string;
  /** What to offer as subprotocols: `new WebSocket(url, protocols)`. */
  readonly protocols: readonly string[];
  readonly expiresAt: Date;
}

/**
 * For raw partysocket: `new PartySocket({ …, shouldReconnectOnClose })`. Codes of 4000–4999 and 1008 are final: the session
 * is over, its budget spent, or the socket idle; after 1012 and 1013 coming back helps.
 */
export function shouldReconnectOnClose({ code }: { readonly code: number }): boolean {
  return code !== 1008 && (code < 4000 || code > 4999);
}

interface Listening {
  addEventListener(type: "message", listener: (event: { readonly data: unknown }) => void): void;
  send(text: string): void;
}

/**
 * Renews a socket each time Legate says that it expires.
 *
 * @param buy a ticket that names the connection, bought with a token that holds longer than the socket's
 */
export function renewInBand(socket: Listening, buy: (connection: string) => Promise<Ticket>): void {
  socket.addEventListener("message", ({ data }) => {
    const frame = readControlFrame(data);
    if (frame?.type !== "legate.expiring" || frame.connection === undefined) return;
    buy(frame.connection).then(
      ({ ticket }) => socket.send(JSON.stringify({ type: "legate.renew", ticket })),
      () => undefined, // the socket ends with its token, and says so by its code
    );
  });
}

/** Calls back with each control frame, and with nothing else that comes. */
export function onControlFrame(socket: Listening, listener: (frame: ControlFrame) => void): void {
  socket.addEventListener("message", ({ data }) => {
    const frame = readControlFrame(data);
    if (frame !== null) listener(frame);
  });
}
