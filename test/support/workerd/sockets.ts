// Sockets of the real edge and the real agents, and what a test may look at and change in a person's object.
import { runDurableObjectAlarm, runInDurableObject } from "cloudflare:test";
import { env } from "cloudflare:workers";
import type { UserId } from "../../../core/ids.ts";
import { edge, send } from "./gate.ts";

export const RESEARCHER = "/agents/researcher/default";

/** What came over a socket, and how it ended. */
export class Client {
  readonly frames: string[] = [];
  ended: { code: number; reason: string } | null = null;
  readonly socket: WebSocket;

  constructor(socket: WebSocket) {
    this.socket = socket;
    socket.addEventListener("message", ({ data }) => void this.frames.push(String(data)));
    socket.addEventListener("close", ({ code, reason }) => {
      this.ended = { code, reason };
    });
    socket.accept();
  }

  send(message: object): void {
    this.socket.send(JSON.stringify(message));
  }

  /** The next frame of that type, or of any. */
  async next(type?: string): Promise<Record<string, unknown>> {
    return until(() => {
      const at = this.frames.findIndex((frame) => type === undefined || frame.includes(`"${type}"`));
      return at === -1 ? null : (JSON.parse(this.frames.splice(at, 1)[0] ?? "") as Record<string, unknown>);
    });
  }

  closed(): Promise<{ code: number; reason: string }> {
    return until(() => this.ended);
  }
}

/** Waits for an event, with an end. */
export async function until<T>(look: () => T | null | Promise<T | null>, withinMs = 8_000): Promise<T> {
  const deadline = Date.now() + withinMs;
  for (;;) {
    const found = await look();
    if (found !== null) return found;
    if (Date.now() > deadline) throw new Error("it did not come");
    await new Promise((wake) => setTimeout(wake, 20));
  }
}

/** Knocks at a socket. @returns the answer; a client where it was accepted */
export async function knock(path: string, headers: Record<string, string>, via = edge) {
  const answer = await send(via, path, { headers: { upgrade: "websocket", ...headers } });
  const client = answer.webSocket === null ? null : new Client(answer.webSocket);
  return { answer, client, status: answer.status };
}

export async function connect(path: string, token: string): Promise<Client> {
  const { client, status } = await knock(path, { authorization: `Bearer ${token}` });
  if (client === null) throw new Error(`refused: ${status}`);
  return client;
}

export function query<Row extends Record<string, SqlStorageValue>>(
  user: UserId,
  sql: string,
  ...values: unknown[]
): Promise<Row[]> {
  return runInDurableObject(env.AUTHORITY.getByName(user), (_, state) =>
    state.storage.sql.exec<Row>(sql, ...values).toArray(),
  );
}

/** Makes a task due now, and has the alarm do it. */
export async function runDue(user: UserId, kind: string): Promise<void> {
  await query(
    user,
    "insert into due (kind, key, at, tries) values (?, '', 0, 0) on conflict do update set at = 0",
    kind,
  );
  await runInDurableObject(env.AUTHORITY.getByName(user), (_, state) => state.storage.setAlarm(Date.now() + 60_000));
  await runDurableObjectAlarm(env.AUTHORITY.getByName(user));
}

export async function ticketFor(
  token: string,
  target: string,
  more: { connection?: string; headers?: Record<string, string> } = {},
): Promise<{ status: number; body: Record<string, unknown>; ticket: string }> {
  const { connection, headers = { authorization: `Bearer ${token}` } } = more;
  const answer = await send(edge, "/sessions/ticket", {
    method: "POST",
    headers: { "content-type": "application/json", ...headers },
    body: JSON.stringify({ target, ...(connection === undefined ? {} : { connection }) }),
  });
  const body = await answer.json<Record<string, unknown>>();
  return { status: answer.status, body, ticket: String(body["ticket"]) };
}

export const offering = (ticket: string): Record<string, string> => ({
  "sec-websocket-protocol": `legate, ${ticket}`,
});
