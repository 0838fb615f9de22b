// HTTP as a stranger would speak it: any header, any method, upgrades, many at a time over few connections.
import { Agent, request, type IncomingHttpHeaders } from "node:http";

const ANSWER_WITHIN_MS = 20_000;

export interface WireAnswer {
  /** 101 where an upgrade was accepted; its socket is then closed at once. */
  readonly status: number;
  readonly headers: IncomingHttpHeaders;
  readonly text: string;
}

export interface WireRequest {
  readonly method?: string;
  readonly path: string;
  readonly headers?: Readonly<Record<string, string | string[]>>;
  readonly body?: string;
}

export const UPGRADE = {
  connection: "Upgrade",
  upgrade: "websocket",
  "sec-websocket-version": "13",
  "sec-websocket-key": "dGhlIHNhbXBsZSBub25jZQ==",
} as const;

/** A pool of connections to one server. */
export class Wire {
  readonly #url: string;
  readonly #connections: number;
  readonly #agent: Agent;

  constructor(url: string, connections = 32) {
    this.#url = url;
    this.#connections = connections;
    this.#agent = new Agent({ keepAlive: true, maxSockets: connections });
  }

  close(): void {
    this.#agent.destroy();
  }

  send({ method = "GET", path, headers = {}, body }: WireRequest): Promise<WireAnswer> {
    return new Promise((resolve, reject) => {
      const length = body === undefined ? {} : { "content-length": String(Buffer.byteLength(body)) };
      const sent = request(this.#url, { method, path, agent: this.#agent, headers: { ...length, ...headers } });
      sent.setTimeout(ANSWER_WITHIN_MS, () => sent.destroy(new Error(`no answer to ${method} ${path}`)));
      sent.once("error", reject);
      sent.once("upgrade", (response, socket) => {
        socket.destroy();
        resolve({ status: response.statusCode ?? 0, headers: response.headers, text: "" });
      });
      sent.once("response", (response) => {
        let text = "";
        response.setEncoding("utf8");
        response.on("data", (chunk: string) => (text += chunk));
        response.once("error", reject);
        response.once("end", () => resolve({ status: response.statusCode ?? 0, headers: response.headers, text }));
      });
      sent.end(body);
    });
  }

  /** Sends all of them, as many at a time as there are connections; answers in the order of the requests. */
  async sendAll(requests: readonly WireRequest[]): Promise<WireAnswer[]> {
    const answers: WireAnswer[] = [];
    let next = 0;
    const work = async () => {
      while (next < requests.length) {
        const at = next++;
        answers[at] = await this.send(requests[at] as WireRequest);
      }
    };
    await Promise.all(Array.from({ length: this.#connections }, work));
    return answers;
  }
}
