/**
 * WebSockets that carry a Bearer token in a header, on each platform that can: Workers by an upgrading fetch, node, Bun
 * and Deno by the options of their WebSocket. Browsers can't, and offer a one-use ticket as a subprotocol; nothing secret
 * goes into a URL.
 */
import { LegateError } from "./errors.ts";
import type { Ticket } from "./renewal.ts";

type HeaderSocket = new (url: string, options: { readonly headers: Record<string, string> }) => WebSocket;

interface Platform {
  readonly WebSocket?: unknown;
  readonly process?: { readonly versions?: Record<string, string> };
  readonly Deno?: object;
  readonly navigator?: { readonly userAgent?: string };
}

/**
 * @param buy a ticket, where no header can be sent
 * @returns an open socket
 */
export async function openSocket(url: URL, token: string, buy: () => Promise<Ticket>): Promise<WebSocket> {
  const platform = globalThis as unknown as Platform;
  const headers = { authorization: `Bearer ${token}` };
  if (platform.navigator?.userAgent === "Cloudflare-Workers") return byFetch(url, headers);
  if (platform.WebSocket === undefined)
    throw unsupported("This node has no WebSocket; 22 or newer has. Or pass token() to the client of your choice.");
  url.protocol = url.protocol === "http:" ? "ws:" : "wss:";
  if (platform.process?.versions?.["node"] === undefined && platform.Deno === undefined)
    return opened(new WebSocket(url.href, [...(await buy()).protocols]));
  return opened(new (platform.WebSocket as HeaderSocket)(url.href, { headers }));
}

async function byFetch(url: URL, headers: Record<string, string>): Promise<WebSocket> {
  const response = await fetch(url, { headers: { ...headers, upgrade: "websocket" } });
  const { webSocket } = response as unknown as { readonly webSocket?: (WebSocket & { accept(): void }) | null };
  if (!webSocket) throw await LegateError.fromResponse(response);
  webSocket.accept();
  return webSocket;
}

function opened(socket: WebSocket): Promise<WebSocket> {
  return new Promise((resolve, reject) => {
    const fail = () =>
      reject(new LegateError("connection_refused", "The socket did not open; the same path over HTTP says why."));
    socket.addEventListener("open", () => resolve(socket), { once: true });
    socket.addEventListener("error", fail, { once: true });
    socket.addEventListener("close", fail, { once: true });
  });
}

function unsupported(message: string): LegateError {
  return new LegateError("unsupported", message);
}
