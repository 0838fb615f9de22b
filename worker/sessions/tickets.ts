/**
 * `POST /sessions/ticket {target}`: buys half a minute of the caller's right to open one socket at an entry's instance,
 * or one control channel; with `connection`, to renew that open socket. Nothing is cleared here that the knock would not
 * clear again; an ended session is told from the isolate's own memory once it is known.
 */
import * as z from "zod/mini";
import type { Denial } from "../../core/denial.ts";
import {
  isAtOrBelow,
  parseNodePath,
  toEpochMs,
  userOf,
  type ConnectionId,
  type Micros,
  type Slug,
} from "../../core/ids.ts";
import { err, ok, type Result } from "../../core/result.ts";
import { SUBPROTOCOL } from "../../core/wire/frames.ts";
import type { TicketTarget } from "../../core/wire/questions.ts";
import { leases } from "../admit.ts";
import { readJson } from "../body.ts";
import type { Answer, Call, SessionCaller } from "../call.ts";
import { findTarget } from "../place.ts";
import { json } from "../respond.ts";
import { agentTarget, channelTarget, makeTicket } from "../tickets.ts";

const purchase = z.strictObject({
  /** As the socket's own path will be: `/agents/<slug>/<instance>` or `/sessions/<id>/socket`. */
  target: z.string().check(z.maxLength(1_024)),
  connection: z.optional(z.string().check(z.regex(/^[A-Za-z0-9_-]{8,64}$/))),
});

const CHANNEL_PATTERN = /^\/sessions\/([^/]+)\/socket$/;
/** Refusals of a purchase are remembered beside those of calls, under a name that is no entry's. */
const NO_SLUG = "" as Slug;

export async function buy(call: Call, caller: SessionCaller): Promise<Answer> {
  const { edge, now, request } = call;
  const { token, via } = caller;
  const body = await readJson(request, purchase);
  if (!body.ok) return body;
  const target = targetOf(call, caller, body.value.target);
  if (!target.ok) return target;
  const known = leases.refusal(token, NO_SLUG, 0 as Micros, now);
  if (known !== null) return err(known);
  const ticket = await makeTicket(edge, token.subject);
  const bought = await edge.ask(token.subject, (authority) =>
    authority.ticket({
      token,
      digest: ticket.digest,
      target: target.value,
      // A browser names its page whenever it sends a POST; a page of ours that it doesn't name is this origin's.
      origin: via === "cookie" ? (request.headers.get("origin") ?? call.url.origin) : null,
      connection: (body.value.connection ?? null) as ConnectionId | null,
    }),
  );
  if (!bought.ok) {
    leases.noteRefusal(token, NO_SLUG, 0 as Micros, bought.denial, edge.now(), edge.config.limits.leaseMs);
    return bought;
  }
  return ok(
    json(
      {
        ticket: ticket.text,
        protocols: [SUBPROTOCOL, ticket.text],
        expiresAt: bought.value.expires,
        tokenExpiresAt: toEpochMs(token.exp),
      },
      201,
    ),
  );
}

/** Where it is for. Foreign and missing places are alike; what the chain forbids is found out at the knock. */
function targetOf({ edge }: Call, { token, via }: SessionCaller, text: string): Result<TicketTarget, Denial> {
  const invalid = err({
    reason: "request_invalid" as const,
    detail: '"target": /agents/<slug>/<instance>, or /sessions/<id>/socket.',
  });
  const { pathname, origin } = URL.parse(text, edge.issuer) ?? {};
  if (pathname === undefined || origin !== edge.issuer) return invalid;
  const id = CHANNEL_PATTERN.exec(pathname)?.[1];
  if (id !== undefined) {
    const path = parseNodePath(id, edge.idMac);
    const isOwn =
      path !== null &&
      userOf(path, edge.idMac) === token.subject &&
      (via === "cookie" || isAtOrBelow(path, token.node));
    return isOwn ? ok(channelTarget(path)) : err({ reason: "not_found" });
  }
  const place = pathname.startsWith("/agents/") ? findTarget(pathname, edge.config) : null;
  if (place !== null) return ok(agentTarget(place.entry.slug, place.instance));
  return pathname.startsWith("/agents/") ? err({ reason: "not_found" }) : invalid;
}
