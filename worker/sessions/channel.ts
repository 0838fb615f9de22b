/**
 * `GET /sessions/:id/socket`: a control channel. The socket is the user's object's own; the request that reaches the
 * object is built by the edge, and nothing of the caller's goes with it. A session that is over is told so by a close
 * code, like everywhere else.
 */
import type { Denial } from "../../core/denial.ts";
import { isAtOrBelow, parseNodePath, toEpochMs, userOf, type Micros, type Slug } from "../../core/ids.ts";
import { err, ok } from "../../core/result.ts";
import { CLOSE, closeCodeOf, closeReason } from "../../core/wire/frames.ts";
import { leases } from "../admit.ts";
import type { Answer, Call, SessionCaller } from "../call.ts";
import { isFromOwnPage, isNotFromForeignPage, foreignOrigin } from "../inbound.ts";
import { refusedSocket, upgraded } from "../outbound.ts";

const NO_SLUG = "" as Slug;

export async function open(call: Call, { token, via }: SessionCaller): Promise<Answer> {
  const { edge, request, url, params, now } = call;
  const offered = request.headers.get("sec-websocket-protocol");
  if (request.headers.get("upgrade")?.toLowerCase() !== "websocket")
    return err({ reason: "request_invalid", detail: "This is a WebSocket; ask GET /sessions/:id for the session." });
  const isWelcome = via === "cookie" ? isFromOwnPage(request, url, edge) : isNotFromForeignPage(request, url, edge);
  if (!isWelcome) return foreignOrigin(request);
  const path = parseNodePath(params["id"] ?? "", edge.idMac);
  const isOwn =
    path !== null &&
    userOf(path, edge.idMac) === token.subject &&
    // A person may listen to all of theirs; a ticket was bought for exactly this path.
    (via !== "bearer" || isAtOrBelow(path, token.node));
  if (!isOwn) return err({ reason: "not_found" });
  const known = leases.refusal(token, NO_SLUG, 0 as Micros, now);
  if (known !== null) return turnedAway(known, offered);
  // A ticket's token was looked up a moment ago.
  const live = via === "ticket" ? ok(null) : await edge.ask(token.subject, (authority) => authority.check(token));
  if (!live.ok) {
    leases.noteRefusal(token, NO_SLUG, 0 as Micros, live.denial, edge.now(), edge.config.limits.leaseMs);
    return turnedAway(live.denial, offered);
  }
  const socket = await edge.channel(token.subject, { path, listener: token.node, expires: toEpochMs(token.exp) });
  return socket === null ? err({ reason: "authority_unavailable" }) : ok(upgraded(socket, offered));
}

function turnedAway(denial: Denial, offered: string | null): Answer {
  if (denial.reason === "ended")
    return ok(refusedSocket(closeCodeOf(denial.why), closeReason("session_ended", denial.node), offered));
  if (denial.reason === "user_disabled" || denial.reason === "locked")
    return ok(refusedSocket(CLOSE.terminated, "session_ended", offered));
  return err(denial);
}
