// A client's socket that remembers what came, so that a test can wait for the next frame or for its end.
import { WebSocket } from "ws";

const WITHIN_MS = 9_000;

export class TestSocket {
  readonly #ws: WebSocket;
  readonly #frames: string[] = [];
  #closed: { code: number; reason: string } | null = null;

  private constructor(ws: WebSocket) {
    this.#ws = ws;
    ws.on("message", (data) => this.#frames.push((data as Buffer).toString()));
    ws.on("close", (code, reason) => (this.#closed = { code, reason: reason.toString() }));
  }

  static async open(url: string, headers: Record<string, string> = {}): Promise<TestSocket> {
    const ws = new WebSocket(url.replace(/^http/, "ws"), { headers });
    const socket = new TestSocket(ws);
    await new Promise<void>((resolve, reject) => {
      ws.once("open", resolve);
      ws.once("error", reject);
    });
    ws.on("error", () => {}); // told by its close
    return socket;
  }

  send(message: string | object): void {
    this.#ws.send(typeof message === "string" ? message : JSON.stringify(message));
  }

  /** @param code none leaves the close frame empty, as `close()` in a browser does */
  close(code?: number): void {
    this.#ws.close(code);
  }

  /** All that came and was not read yet. */
  get unread(): readonly string[] {
    return this.#frames;
  }

  async next(): Promise<unknown> {
    await this.#until(() => this.#frames.length > 0);
    const frame = this.#frames.shift() ?? "";
    return frame.startsWith("{") ? JSON.parse(frame) : frame;
  }

  /** The code of the close frame; workerd keeps the connection below it open for another ten seconds. */
  async closed(): Promise<{ code: number; reason: string }> {
    await this.#until(() => this.#ws.readyState >= WebSocket.CLOSING);
    if (this.#closed === null) this.#ws.terminate();
    await this.#until(() => this.#closed !== null);
    return this.#closed ?? { code: 0, reason: "" };
  }

  /** The end of the whole handshake, which a client waits for that closed by itself. */
  async gone(): Promise<number> {
    await this.#until(() => this.#closed !== null);
    return this.#closed?.code ?? 0;
  }

  async #until(isSo: () => boolean): Promise<void> {
    const deadline = Date.now() + WITHIN_MS;
    while (!isSo()) {
      if (Date.now() > deadline) throw new Error("nothing came in time");
      await new Promise((wake) => setTimeout(wake, 10));
    }
  }
}
