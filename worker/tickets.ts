/**
 * Tickets at the edge: `ticket.<user>.<random>.<tag>`. The tag is a MAC, so that an invented one touches no object; the
 * random part is the secret, of which the object has a digest alone. A ticket is used in the user's object, once, and
 * what it stands for comes from there. None is ever logged, or put into a URL.
 */
import { createHash } from "node:crypto";
import { encodeBase64url } from "../core/base64url.ts";
import type { Denial } from "../core/denial.ts";
import { isUserId, type NodePath, type UserId } from "../core/ids.ts";
import { err, type Result } from "../core/result.ts";
import type { VerifiedToken } from "../core/token/verify.ts";
import type { TicketTarget } from "../core/wire/questions.ts";
import type { Edge } from "./env.ts";

const SECRET_BYTES = 18;
const TICKET_PATTERN = /^ticket\.(usr_[a-z0-9]{1,64})\.([A-Za-z0-9_-]{24})\.([A-Za-z0-9_-]{43})$/;

export interface Ticket {
  readonly user: UserId;
  /** What the object knows it by. */
  readonly digest: string;
}

export const agentTarget = (slug: string, instance: string): TicketTarget => `agent ${slug} ${instance}`;
export const channelTarget = (path: NodePath): TicketTarget => `channel ${path}`;

const digestOf = (secret: string): string => createHash("sha256").update(secret).digest("base64url");

export async function makeTicket(edge: Edge, user: UserId): Promise<Ticket & { readonly text: string }> {
  const secret = encodeBase64url(edge.random(SECRET_BYTES));
  const tag = await edge.ticketKey.seal(`${user}.${secret}`);
  return { user, digest: digestOf(secret), text: `ticket.${user}.${secret}.${tag}` };
}

/** @returns whose it is, or null unless this deployment made exactly this text */
export async function openTicket(edge: Edge, text: unknown): Promise<Ticket | null> {
  const [, user = "", secret = "", tag = ""] = typeof text === "string" ? (TICKET_PATTERN.exec(text) ?? []) : [];
  if (!isUserId(user) || !(await edge.ticketKey.isSeal(tag, `${user}.${secret}`))) return null;
  return { user, digest: digestOf(secret) };
}

/**
 * Uses a ticket up.
 *
 * @param origin of the page that knocks; a ticket that a cookie bought holds for the page that bought it alone
 * @returns the token that it stands for
 */
export async function redeemTicket(
  edge: Edge,
  text: string,
  target: TicketTarget,
  origin: string | null,
): Promise<Result<VerifiedToken, Denial>> {
  const ticket = await openTicket(edge, text);
  if (ticket === null) return err({ reason: "ticket_invalid" });
  const { user, digest } = ticket;
  return edge.ask(user, (authority) => authority.redeemTicket({ digest, target, origin }));
}
