/** Reading what comes in pieces: server-sent events, and frames of a socket, each with a deadline. */
import { Sentence } from "../lib/term.mjs";

const WITHIN_MS = 10_000;

export interface ServerEvent {
  readonly event: string;
  readonly data: unknown;
}

/** The events of an answer as they come (HTML §9.2.6, as far as JSON data on one line needs it). */
export async function* events(response: Response): AsyncGenerator<ServerEvent> {
  if (response.body === null) return;
  let rest = "";
  for await (const text of response.body.pipeThrough(new TextDecoderStream())) {
    const blocks = (rest + text).split("\n\n");
    rest = blocks.pop() ?? "";
    for (const block of blocks) {
      const lines = new Map(block.split("\n").map((line) => line.split(/: ?(.*)/s) as [string, string]));
      yield { event: lines.get("event") ?? "message", data: JSON.parse(lines.get("data") ?? "null") };
    }
  }
}

function within<T>(what: string, wait: (done: (value: T) => void) => void): Promise<T> {
  return new Promise((resolve, reject) => {
    const timer = setTimeout(() => reject(new Sentence(`The tour stopped: ${what} did not come.`)), WITHIN_MS);
    wait((value) => {
      clearTimeout(timer);
      resolve(value);
    });
  });
}

/** Sends one JSON frame, and waits for the next that comes. */
export function answerOn(socket: WebSocket, question: object): Promise<unknown> {
  return within("an answer on the socket", (done) => {
    socket.addEventListener("message", ({ data }) => done(JSON.parse(String(data))), { once: true });
    socket.send(JSON.stringify(question));
  });
}

export function closeOf(socket: WebSocket): Promise<{ code: number; reason: string }> {
  return within("the end of the socket", (done) => {
    socket.addEventListener("close", ({ code, reason }) => done({ code, reason }), { once: true });
  });
}
