/**
 * Load over raw sockets: requests are bytes made once, answers are read for their status and length alone, so that the
 * generator costs a small part of what it drives. One request at a time on each connection.
 */
import { connect, type Socket } from "node:net";

export interface Target {
  readonly port: number;
  /** Path with its query. */
  readonly path: string;
  readonly token?: string;
}

const requestOf = ({ path, token }: Target): Buffer =>
  Buffer.from(
    `GET ${path} HTTP/1.1\r\nHost: 127.0.0.1\r\n${token === undefined ? "" : `Authorization: Bearer ${token}\r\n`}\r\n`,
    "latin1",
  );

export interface LoadAnswer {
  readonly status: number;
  /** The answer's head, as it came. */
  readonly head: string;
}

const END_OF_HEAD = Buffer.from("\r\n\r\n");
const LAST_CHUNK = Buffer.from("\r\n0\r\n\r\n");

/** One kept connection. */
export class Line {
  readonly #socket: Socket;
  #buffer: Buffer = Buffer.alloc(0);
  #waiting: { readonly resolve: (answer: LoadAnswer) => void; readonly reject: (why: Error) => void } | null = null;

  private constructor(socket: Socket) {
    this.#socket = socket;
    socket.setNoDelay(true);
    socket.on("data", (chunk) => this.#read(chunk));
    const fail = () => this.#waiting?.reject(new Error("the connection ended"));
    socket.once("error", fail);
    socket.once("close", fail);
  }

  static open(port: number): Promise<Line> {
    return new Promise((resolve, reject) => {
      const socket = connect({ port, host: "127.0.0.1" });
      socket.once("error", reject);
      socket.once("connect", () => resolve(new Line(socket)));
    });
  }

  send(request: Buffer): Promise<LoadAnswer> {
    return new Promise((resolve, reject) => {
      this.#waiting = { resolve, reject };
      this.#socket.write(request);
    });
  }

  close(): void {
    this.#waiting = null;
    this.#socket.destroy();
  }

  #read(chunk: Buffer): void {
    this.#buffer = this.#buffer.length === 0 ? chunk : Buffer.concat([this.#buffer, chunk]);
    const end = this.#buffer.indexOf(END_OF_HEAD);
    if (end === -1) return;
    const head = this.#buffer.toString("latin1", 0, end);
    const length = /\ncontent-length: (\d+)/i.exec(head)?.[1];
    const isWhole =
      length === undefined
        ? this.#buffer.subarray(end).includes(LAST_CHUNK) || this.#buffer.length === end + 4
        : this.#buffer.length >= end + 4 + Number(length);
    if (!isWhole) return;
    this.#buffer = Buffer.alloc(0);
    const waiting = this.#waiting;
    this.#waiting = null;
    waiting?.resolve({ status: Number(head.slice(9, 12)), head });
  }
}

export interface Load {
  /** Answers by status. */
  readonly statuses: Readonly<Record<number, number>>;
  readonly calls: number;
  readonly seconds: number;
}

/**
 * Sends as fast as answers come.
 *
 * @param until tells after each answer whether that connection goes on
 */
export async function drive(
  targets: readonly Target[],
  connections: number,
  until: (answer: LoadAnswer, startedAt: number) => boolean | Promise<boolean>,
): Promise<Load> {
  const statuses: Record<number, number> = {};
  let calls = 0;
  const requests = targets.map(requestOf);
  const start = performance.now();
  const run = async (index: number): Promise<void> => {
    const at = index % targets.length;
    const line = await Line.open((targets[at] as Target).port);
    try {
      for (;;) {
        const startedAt = performance.now();
        const answer = await line.send(requests[at] as Buffer);
        calls++;
        statuses[answer.status] = (statuses[answer.status] ?? 0) + 1;
        if (!(await until(answer, startedAt))) return;
      }
    } finally {
      line.close();
    }
  };
  await Promise.all(Array.from({ length: connections }, (_, index) => run(index)));
  return { statuses, calls, seconds: (performance.now() - start) / 1_000 };
}

/** For a while. */
export function driveFor(targets: readonly Target[], connections: number, ms: number): Promise<Load> {
  const end = performance.now() + ms;
  return drive(targets, connections, () => performance.now() < end);
}
