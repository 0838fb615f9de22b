/**
 * Step 2 of a call's way: what a path under `/agents/` names, and which object that is. A user's own instances can't be
 * named by anyone else, for the object's name begins with the verified subject.
 */
import type { AgentEntry, LegateConfig } from "../core/config.ts";
import { isInstance, type UserId } from "../core/ids.ts";

/** An entry of the registry and one of its instances. */
export interface Target {
  readonly entry: AgentEntry;
  readonly instance: string;
}

/**
 * `/agents/:slug[/:instance[/…]]`. An entry's sub-agents live behind a segment `sub`, which the base class finds wherever
 * it stands in a path (agents 0.32), so it is refused wherever it stands.
 *
 * @returns null for an unknown slug and for whatever no instance can be called
 */
export function findTarget(pathname: string, config: LegateConfig): Target | null {
  const [, , slug = "", instance = "default", ...rest] = pathname.split("/");
  const entry = config.agents.get(slug);
  if (entry === undefined || !isInstance(instance) || slug === "sub" || instance === "sub") return null;
  return rest.includes("sub") && !entry.subAgents ? null : { entry, instance };
}

/** @param subject verified; neither it nor an instance has a dot in it */
export function objectName({ entry, instance }: Target, subject: UserId): string {
  return `${entry.instances === "user" ? subject : "shared"}.${instance}`;
}
