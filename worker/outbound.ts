/**
 * An agent's answer, cleaned: what passes is on a list, everything else stays behind. It is never active content on this
 * origin, sets nothing that a browser keeps, names no header of Legate's, and a server error keeps its status alone,
 * for its body may be a stack.
 */
import type { Denial } from "../core/denial.ts";
import type { Slug } from "../core/ids.ts";
import { err, ok, type Result } from "../core/result.ts";
import { SUBPROTOCOL } from "../core/wire/frames.ts";
import { ANSWER_HEADERS, HEADER, budgetHeader, rateHeaders } from "../core/wire/http.ts";
import type { RateView } from "../core/wire/answers.ts";
import { SECURITY_HEADERS } from "./respond.ts";

const AGENT_POLICY = "sandbox; default-src 'none'; frame-ancestors 'none'; base-uri 'none'";

/** Copied by each answer: the platform takes six times as long to read them from a plain object (workerd, 2026-11). */
const ALWAYS = new Headers({ ...SECURITY_HEADERS, "content-security-policy": AGENT_POLICY });

/** Statuses that carry no body (Fetch §2.2.3); a Response with one throws. */
const BODILESS = new Set([204, 205, 304]);

export interface AgentPlace {
  readonly slug: Slug;
  /** `/agents/<slug>/`: where a redirect may lead. */
  readonly prefix: string;
  /** Of the request, to resolve a relative Location against. */
  readonly url: URL;
}

/**
 * @param body what is sent of the agent's body: it may have been led through a pipe that sees its end
 * @param left micros left for the caller (null where nothing caps it), and its strictest rate window
 */
export function cleanAnswer(
  answer: Response,
  body: ReadableStream | null,
  left: { readonly remaining: number | null; readonly rate: RateView | null },
  place: AgentPlace,
): Result<Response, Denial> {
  if (answer.status >= 500) return err({ reason: "agent_failed", slug: place.slug, status: answer.status });
  const { status } = answer;
  const cleaned = new Response(BODILESS.has(status) ? null : body, { status, headers: ALWAYS });
  const { headers } = cleaned;
  let caching: string | null = null;
  answer.headers.forEach((value, name) => {
    if (name === "cache-control") caching = value;
    else if (name === "location") {
      const location = placeOf(value, status, place);
      if (location !== null) headers.set(name, location);
    } else if (ANSWER_HEADERS.has(name)) headers.set(name, value);
  });
  // A length that is only claimed would cut or hang a body that is streamed; the runtime knows the true one.
  if (body !== answer.body) headers.delete("content-length");
  headers.set("cache-control", privately(caching));
  const budget = budgetHeader(left.remaining);
  if (budget !== null) headers.set(HEADER.budget, budget);
  if (left.rate !== null) {
    const { ratelimit, "ratelimit-policy": policy } = rateHeaders(left.rate);
    headers.set("ratelimit", ratelimit);
    headers.set("ratelimit-policy", policy);
  }
  return ok(cleaned);
}

/** A shared cache must never give one caller's answer to another. */
function privately(sent: string | null): string {
  return sent !== null && /\b(?:private|no-store|no-cache)\b/i.test(sent) && !/\b(?:public|s-maxage)\b/i.test(sent)
    ? sent
    : "no-store";
}

/** A redirect leads back to the same agent or nowhere; what leaves is a path, so that no host can be named. */
function placeOf(sent: string, status: number, { prefix, url }: AgentPlace): string | null {
  if (status < 201 || status > 308) return null;
  const target = URL.parse(sent, url.href);
  if (target === null || target.origin !== url.origin || !target.pathname.startsWith(prefix)) return null;
  return `${target.pathname}${target.search}`;
}

/** An accepted upgrade: the socket, and the one subprotocol that is ever echoed; nothing else of the agent's answer. */
export function upgraded(socket: WebSocket, offered: string | null): Response {
  const headers = new Headers();
  const protocols = (offered ?? "").split(",").map((protocol) => protocol.trim());
  if (protocols.includes(SUBPROTOCOL)) headers.set("sec-websocket-protocol", SUBPROTOCOL);
  return new Response(null, { status: 101, webSocket: socket, headers });
}

/**
 * Accepts a socket at the edge only to close it with its code: stock clients stop at a code of 4000–4999, and hammer a
 * refused upgrade for ever. No object is woken for it.
 */
export function refusedSocket(code: number, reason: string, offered: string | null): Response {
  const [client, server] = Object.values(new WebSocketPair()) as [WebSocket, WebSocket];
  server.accept();
  server.close(code, reason);
  return upgraded(client, offered);
}
