// The STS double behind a real socket: what it throws is a connection that drops, what it streams is sent as it comes.
import { createServer, type IncomingMessage, type Server, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";
import type { JSONWebKeySet } from "jose";
import { StsDouble } from "./sts-double.ts";

export class StsServer {
  readonly double: StsDouble;
  readonly url: string;
  readonly #server: Server;

  private constructor(double: StsDouble, server: Server) {
    this.double = double;
    this.#server = server;
    this.url = `http://127.0.0.1:${(server.address() as AddressInfo).port}/`;
  }

  /** @param jwks what it knows of its issuer's keys at that moment */
  static async start(jwks: () => Promise<JSONWebKeySet>): Promise<StsServer> {
    const double = new StsDouble(jwks);
    const server = createServer((request, response) => {
      answer(double, request, response).catch(() => response.socket?.resetAndDestroy());
    });
    await new Promise<void>((ready) => server.listen(0, "127.0.0.1", ready));
    return new StsServer(double, server);
  }

  end(): void {
    this.#server.close();
    this.#server.closeAllConnections();
  }
}

async function answer(double: StsDouble, request: IncomingMessage, response: ServerResponse): Promise<void> {
  const { method = "GET", url = "/" } = request;
  const chunks: Buffer[] = [];
  for await (const chunk of request) chunks.push(chunk as Buffer);
  const init = method === "POST" ? { method, body: Buffer.concat(chunks) } : { method };
  const given = await double.handle(new Request(new URL(url, "http://sts/"), init));
  response.writeHead(given.status, Object.fromEntries(given.headers));
  for await (const chunk of given.body ?? []) response.write(chunk);
  response.end();
}
