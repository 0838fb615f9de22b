/**
 * Who acts, and on whose behalf: the actor chain of RFC 8693 §4.1, flat and root first. Only the last link decides; the
 * earlier ones are for the record and for an entry's `actors` rule.
 */
import { isAgentId, isSlug, type Slug } from "../ids.ts";
import { ACTORS_MAX } from "../limits.ts";
import { isActorName } from "./block.ts";
import type { ActClaim } from "./format.ts";

export interface ActorLink {
  /** `agt_…`, `<issuer>/agents/<slug>`, or `<parent>/<name>` for a bearer link. */
  readonly sub: string;
  /** Whether a key, or the gate itself, vouches for it. */
  readonly proven: boolean;
}

/** The name of an agent behind the gate, in chains. */
export function gateActor(issuer: string, slug: Slug): string {
  return `${issuer}/agents/${slug}`;
}

/** The agent behind the gate that a proven link names, or null. */
export function slugOfActor(issuer: string, link: ActorLink): Slug | null {
  const prefix = `${issuer}/agents/`;
  if (!link.proven || !link.sub.startsWith(prefix)) return null;
  const slug = link.sub.slice(prefix.length);
  return isSlug(slug) ? slug : null;
}

/** The link that a bearer block adds below `parent`: the user's id where a person delegates. */
export function bearerLink(parent: string, name: string): ActorLink {
  return { sub: `${parent}/${name}`, proven: false };
}

function isLink(sub: unknown, proven: unknown, issuer: string): sub is string {
  if (typeof sub !== "string") return false;
  if (proven === undefined) return isAgentId(sub) || slugOfActor(issuer, { sub, proven: true }) !== null;
  const slash = sub.lastIndexOf("/");
  return proven === false && slash > 0 && isActorName(sub.slice(slash + 1));
}

/** @returns root → current, or null for anything but a chain of at most `ACTORS_MAX` well-formed links */
export function flattenAct(act: unknown, issuer: string): readonly ActorLink[] | null {
  const links: ActorLink[] = [];
  let at: unknown = act;
  while (at !== undefined) {
    if (typeof at !== "object" || at === null || links.length === ACTORS_MAX) return null;
    for (const name in at) if (name !== "sub" && name !== "proven" && name !== "act") return null;
    const { sub, proven, act } = at as Record<string, unknown>;
    if (!isLink(sub, proven, issuer)) return null;
    links.push({ sub, proven: proven === undefined });
    at = act;
  }
  return links.reverse();
}

/** The claim for a chain; undefined for a person in person. */
export function nestActors(links: readonly ActorLink[]): ActClaim | undefined {
  let act: ActClaim | undefined;
  for (const { sub, proven } of links) {
    act = { sub, ...(proven ? {} : { proven: false as const }), ...(act === undefined ? {} : { act }) };
  }
  return act;
}
