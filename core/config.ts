/**
 * What a deployment is: the types of `legate.config.ts` and the check that finds every mistake in it at once. The
 * defaults are the strict ones: an agent entry that says nothing takes only administrators, over WebSocket.
 * Validated at start-up (`npm start`), before a deploy and in a test; the Workers take only the checked value.
 */
import { isSlug, type AgentId, type Micros, type Slug } from "./ids.ts";
import { checkRates, type Rate, type RateInput } from "./budget/rates.ts";
import { checkIssuers, type Issuer, type IssuerInput } from "./credential/issuers.ts";
import { checkRoles, type Role, type RoleInput } from "./credential/roles.ts";
import { CURVE, type Curve } from "./budget/throttle.ts";
import { IDLE_DEFAULT_SECONDS, LEASE_DEFAULT_MS, LEASE_MAX_MS } from "./limits.ts";
import { err, ok, type Result } from "./result.ts";
import { isScopeName } from "./token/scope.ts";

/** Lowest first; a tier has the rights of all before it. */
export const TIERS = ["free", "pro", "admin"] as const;
export type Tier = (typeof TIERS)[number];
export function isTier(value: unknown): value is Tier {
  return typeof value === "string" && (TIERS as readonly string[]).includes(value);
}
export function tierReaches(tier: Tier, required: Tier): boolean {
  return TIERS.indexOf(tier) >= TIERS.indexOf(required);
}

export type Transport = "websocket" | "sse" | "http";
/** How a call is counted (DESIGN.md §2, three levels). */
export type Level = "counted" | "strict" | "sensitive";

/**
 * Who may act at an entry: `any` agent or person; `own` agents of the calling user (and the user in person, and agents behind the gate); or
 * the named clients (`agt_…`, or `~<slug>` for an agent behind the gate). Unproven links (bearer delegation, where the
 * current actor has no key) call only where `unproven` says so.
 */
export interface ActorsRule {
  readonly allow: "any" | "own" | readonly string[];
  readonly unproven: boolean;
}

/** One protected agent as a deployment writes it. */
export interface AgentEntryInput {
  /** Kebab-case name in the URL; must be the kebab form of `binding`. */
  slug: string;
  /** Name of the Durable Object binding of the edge Worker. */
  binding: string;
  /** The Worker that runs it: whose identity key signs its envelopes. */
  worker: string;
  name: string;
  description: string;
  requiredTier?: Tier;
  requiredScopes?: readonly string[];
  actors?: { allow?: "any" | "own" | readonly string[]; unproven?: boolean };
  transport?: Transport;
  /** `user`: every user has instances of their own; `shared`: one namespace for all. */
  instances?: "user" | "shared";
  /** Micros that one call (or message) may cost at most, and what it is expected to cost. */
  cost?: { most: number; estimate?: number };
  level?: Level;
  /** Slugs that this agent may call on behalf of its caller. */
  calls?: readonly string[];
  /** Rate windows of its own, instead of the deployment's, by tier. */
  rates?: { readonly [T in Tier]?: readonly RateInput[] };
  /** Lets clients reach the agent's sub-agents under `/sub/`. */
  subAgents?: boolean;
  enabled?: boolean;
}

export interface ScopeInput {
  name: string;
  leastTier: Tier;
  description: string;
}

/** A resource server that verifies its own tokens (`sdk/verify`), and the client that speaks for it. */
export interface AudienceInput {
  /** An https URI without a fragment (RFC 8707 §2), or a plain name like `billing`; what `aud` says, to the letter. */
  name: string;
  client: string;
}

export interface LimitsInput {
  /** Micros a user may spend a UTC day; null is no cap. */
  userDayMicros?: number | null;
  /** Longest session, in seconds. */
  sessionSeconds?: number;
  /** Largest WebSocket message an agent is given, in bytes. */
  messageBytes?: number;
  /** A socket that has sent nothing for that long is closed with 4408; 3,600 by default. */
  idleSeconds?: number;
  /** Rate windows by tier; a tier that is not named has none. */
  rates?: { readonly [T in Tier]?: readonly RateInput[] };
  /** How the budget shapes the rates: full above `fullAbove` of the cap, `leastShare` of them at nothing left. */
  curve?: Curve;
  /** How long an isolate may admit calls without asking: 2,000 by default, 10,000 at most. A stop waits for it. */
  leaseMilliseconds?: number;
}

export interface LegateConfigInput {
  agents: readonly AgentEntryInput[];
  scopes: readonly ScopeInput[];
  /** Browser origins, besides the deployment's own, that may send a person's cookie and read answers. */
  origins?: readonly string[];
  audiences?: readonly AudienceInput[];
  /** Roles of clouds that agents may get credentials of. */
  roles?: readonly RoleInput[];
  /** Foreign issuers whose tokens start sessions here. */
  issuers?: readonly IssuerInput[];
  limits?: LimitsInput;
}

/** One protected agent, checked. */
export interface AgentEntry {
  readonly slug: Slug;
  readonly binding: string;
  readonly worker: string;
  readonly name: string;
  readonly description: string;
  readonly requiredTier: Tier;
  readonly requiredScopes: readonly string[];
  readonly actors: ActorsRule;
  readonly transport: Transport;
  readonly instances: "user" | "shared";
  readonly cost: { readonly most: Micros; readonly estimate: Micros };
  readonly level: Level;
  readonly calls: readonly Slug[];
  readonly rates: { readonly [T in Tier]?: readonly Rate[] };
  readonly subAgents: boolean;
  readonly enabled: boolean;
}

export interface Scope {
  readonly name: string;
  readonly leastTier: Tier;
  readonly description: string;
}

/** A checked deployment. */
export interface LegateConfig {
  readonly agents: ReadonlyMap<string, AgentEntry>;
  readonly scopes: ReadonlyMap<string, Scope>;
  readonly origins: ReadonlySet<string>;
  readonly audiences: ReadonlyMap<string, { readonly name: string; readonly client: AgentId }>;
  /** By scope: `aws:<alias>`. */
  readonly roles: ReadonlyMap<string, Role>;
  /** By `iss`. */
  readonly issuers: ReadonlyMap<string, Issuer>;
  readonly limits: {
    readonly userDayMicros: Micros | null;
    readonly sessionSeconds: number;
    readonly messageBytes: number;
    readonly idleMs: number;
    readonly rates: { readonly [T in Tier]?: readonly Rate[] };
    readonly curve: Curve;
    readonly leaseMs: number;
  };
}

/** Scope of operators' keys; no agent can have it (DESIGN.md §4). */
export const OPERATOR_SCOPE = "operator";

const BINDING_PATTERN = /^[A-Z][A-Z0-9_]*$/;
const WORKER_PATTERN = /^[a-z0-9][a-z0-9-]{0,62}$/;
const CLIENT_PATTERN = /^(?:agt_[a-z2-7]{20}_[a-z2-7]{28}|~[a-z][a-z0-9-]{0,63})$/;

const AUDIENCE_PATTERN =
  /^(?:[a-z][a-z0-9.-]{0,127}|https:\/\/[a-z0-9.-]{1,253}(?::\d{1,5})?(?:[/?][\w\-.~!$&'()*+,;=:@%/?]{0,255})?)$/;

/** `WEB_SEARCHER` ↔ `web-searcher`: one word, so that a reader of either finds the other. */
function slugOfBinding(binding: string): string {
  return binding.toLowerCase().replaceAll("_", "-");
}

function isOrigin(text: string): boolean {
  return /^https?:\/\/[a-z0-9.-]+(?::\d{1,5})?$/.test(text);
}

/**
 * Checks a deployment's configuration.
 *
 * @param input the value of `legate.config.ts`
 * @returns the configuration with every default filled in, or all mistakes as sentences that name their place
 */
export function checkConfig(input: LegateConfigInput): Result<LegateConfig, readonly string[]> {
  const mistakes: string[] = [];
  const scopes = checkScopes(input.scopes, mistakes);
  const agents = checkAgents(input.agents, scopes, mistakes);
  const origins = input.origins ?? [];
  for (const origin of origins) {
    if (!isOrigin(origin))
      mistakes.push(`origins: "${origin}" is not an origin like https://app.example.com (scheme, host, no path).`);
  }
  const audiences = new Map<string, { name: string; client: AgentId }>();
  for (const { name, client } of input.audiences ?? []) {
    if (audiences.has(name)) mistakes.push(`audiences: "${name}" stands twice.`);
    if (!AUDIENCE_PATTERN.test(name))
      mistakes.push(`audiences: "${name}" is neither an https URI nor a plain name (lower case, digits, . and -).`);
    if (!CLIENT_PATTERN.test(client) || client.startsWith("~"))
      mistakes.push(`audiences: "${name}" needs a registered client (agt_…), not "${client}".`);
    audiences.set(name, { name, client: client as AgentId });
  }
  const roles = checkRoles(input.roles ?? [], scopes, isTier, mistakes);
  const issuers = checkIssuers(input.issuers ?? [], scopes, mistakes);
  const { userDayMicros = null, sessionSeconds = 86_400, messageBytes = 65_536 } = input.limits ?? {};
  if (userDayMicros !== null && !isCount(userDayMicros))
    mistakes.push("limits.userDayMicros must be a whole number of micros, or null.");
  if (!isCount(sessionSeconds) || sessionSeconds < 60 || sessionSeconds > 86_400)
    mistakes.push("limits.sessionSeconds must lie between 60 and 86400.");
  if (!isCount(messageBytes) || messageBytes < 1 || messageBytes > 1_048_576)
    mistakes.push("limits.messageBytes must lie between 1 and 1048576.");
  const { idleSeconds = IDLE_DEFAULT_SECONDS } = input.limits ?? {};
  if (!isCount(idleSeconds) || idleSeconds < 1 || idleSeconds > 86_400)
    mistakes.push("limits.idleSeconds must lie between 1 and 86400.");
  const { curve = CURVE, leaseMilliseconds: leaseMs = LEASE_DEFAULT_MS } = input.limits ?? {};
  const rates = checkTierRates(input.limits?.rates, "*", "limits.rates", mistakes);
  if (!isShare(curve.fullAbove) || !isShare(curve.leastShare) || curve.fullAbove === 0 || curve.leastShare === 0)
    mistakes.push("limits.curve needs fullAbove and leastShare between 0 and 1.");
  if (!isCount(leaseMs) || leaseMs < 100 || leaseMs > LEASE_MAX_MS)
    mistakes.push(`limits.leaseMilliseconds must lie between 100 and ${LEASE_MAX_MS}.`);
  if (mistakes.length > 0) return err(mistakes);
  return ok({
    agents,
    scopes,
    origins: new Set(origins),
    audiences,
    roles,
    issuers,
    limits: {
      userDayMicros: userDayMicros as Micros | null,
      sessionSeconds,
      messageBytes,
      idleMs: idleSeconds * 1_000,
      rates,
      curve,
      leaseMs,
    },
  });
}

function isShare(value: number): boolean {
  return value >= 0 && value <= 1;
}

function checkTierRates(
  input: LimitsInput["rates"],
  owner: string,
  at: string,
  mistakes: string[],
): LegateConfig["limits"]["rates"] {
  const rates: { [T in Tier]?: readonly Rate[] } = {};
  for (const [tier, windows] of Object.entries(input ?? {})) {
    if (isTier(tier)) rates[tier] = checkRates(windows, owner, `${at}.${tier}`, mistakes);
    else mistakes.push(`${at} has an unknown tier "${tier}"; it is one of ${TIERS.join(", ")}.`);
  }
  return rates;
}

/** The windows that limit a tier's calls of an entry. */
export function ratesOf(config: LegateConfig, entry: AgentEntry | undefined, tier: Tier): readonly Rate[] {
  return entry?.rates[tier] ?? config.limits.rates[tier] ?? [];
}

function isCount(value: number): boolean {
  return Number.isSafeInteger(value) && value >= 0;
}

function checkScopes(input: readonly ScopeInput[], mistakes: string[]): Map<string, Scope> {
  const scopes = new Map<string, Scope>();
  for (const { name, leastTier, description } of input) {
    const at = `scopes: "${name}"`;
    if (!isScopeName(name)) mistakes.push(`${at} is not a scope name (lower case words joined by : . _ or -).`);
    if (name === OPERATOR_SCOPE) mistakes.push(`${at} is Legate's own; remove it.`);
    if (scopes.has(name)) mistakes.push(`${at} stands twice.`);
    if (!isTier(leastTier))
      mistakes.push(`${at} has an unknown leastTier "${String(leastTier)}"; it is one of ${TIERS.join(", ")}.`);
    if (description === "") mistakes.push(`${at} needs a description: people are shown it.`);
    scopes.set(name, { name, leastTier, description });
  }
  return scopes;
}

function checkAgents(
  input: readonly AgentEntryInput[],
  scopes: ReadonlyMap<string, Scope>,
  mistakes: string[],
): Map<string, AgentEntry> {
  const agents = new Map<string, AgentEntry>();
  const bindings = new Set<string>();
  for (const raw of input) {
    const at = `agents: "${raw.slug}"`;
    if (!isSlug(raw.slug)) mistakes.push(`${at} is not a slug (lower case, digits, hyphens, a letter first).`);
    if (!BINDING_PATTERN.test(raw.binding))
      mistakes.push(`${at} has the binding "${raw.binding}"; bindings are UPPER_CASE.`);
    else if (slugOfBinding(raw.binding) !== raw.slug)
      mistakes.push(
        `${at} is bound as ${raw.binding}, whose slug would be "${slugOfBinding(raw.binding)}"; make them agree.`,
      );
    if (agents.has(raw.slug)) mistakes.push(`${at} stands twice.`);
    if (bindings.has(raw.binding)) mistakes.push(`${at} uses the binding ${raw.binding}, which another entry has.`);
    if (!WORKER_PATTERN.test(raw.worker))
      mistakes.push(`${at} names the Worker "${raw.worker}", which is no Worker's name.`);
    bindings.add(raw.binding);
    agents.set(raw.slug, entryOf(raw, at, mistakes));
  }
  for (const entry of agents.values()) checkReferences(entry, agents, scopes, mistakes);
  return agents;
}

function entryOf(raw: AgentEntryInput, at: string, mistakes: string[]): AgentEntry {
  const { most, estimate = most } = raw.cost ?? { most: 0 };
  if (!isCount(most) || !isCount(estimate) || estimate > most)
    mistakes.push(`${at} needs cost.most and cost.estimate as whole micros, the estimate no more than the most.`);
  if (raw.name === "") mistakes.push(`${at} needs a name.`);
  if (raw.requiredTier !== undefined && !isTier(raw.requiredTier))
    mistakes.push(`${at} has an unknown requiredTier "${String(raw.requiredTier)}".`);
  const transport = raw.transport ?? "websocket";
  if (!["websocket", "sse", "http"].includes(transport))
    mistakes.push(`${at} has an unknown transport "${transport}".`);
  const level = raw.level ?? "counted";
  if (!["counted", "strict", "sensitive"].includes(level)) mistakes.push(`${at} has an unknown level "${level}".`);
  const instances = raw.instances ?? "user";
  if (!["user", "shared"].includes(instances)) mistakes.push(`${at} has unknown instances "${instances}".`);
  return {
    slug: raw.slug as Slug,
    binding: raw.binding,
    worker: raw.worker,
    name: raw.name,
    description: raw.description,
    requiredTier: raw.requiredTier ?? "admin",
    requiredScopes: raw.requiredScopes ?? [],
    actors: { allow: raw.actors?.allow ?? "any", unproven: raw.actors?.unproven ?? true },
    transport,
    instances,
    cost: { most: most as Micros, estimate: estimate as Micros },
    level,
    calls: (raw.calls ?? []) as readonly Slug[],
    rates: checkTierRates(raw.rates, raw.slug, `${at} rates`, mistakes),
    subAgents: raw.subAgents ?? false,
    enabled: raw.enabled ?? true,
  };
}

function checkReferences(
  entry: AgentEntry,
  agents: ReadonlyMap<string, AgentEntry>,
  scopes: ReadonlyMap<string, Scope>,
  mistakes: string[],
): void {
  const at = `agents: "${entry.slug}"`;
  for (const scope of entry.requiredScopes) {
    if (!scopes.has(scope)) mistakes.push(`${at} requires the scope "${scope}", which scopes does not list.`);
  }
  for (const callee of entry.calls) {
    if (!agents.has(callee)) mistakes.push(`${at} calls "${callee}", which is no agent here.`);
  }
  if (typeof entry.actors.allow === "string") {
    if (entry.actors.allow !== "any" && entry.actors.allow !== "own")
      mistakes.push(`${at} has an unknown actors rule "${entry.actors.allow}".`);
    return;
  }
  for (const client of entry.actors.allow) {
    if (!CLIENT_PATTERN.test(client))
      mistakes.push(`${at} allows the actor "${client}", which is neither a client (agt_…) nor an agent here (~slug).`);
    else if (client.startsWith("~") && !agents.has(client.slice(1)))
      mistakes.push(`${at} allows the actor "${client}", which is no agent here.`);
  }
}

/**
 * Which bindings of the registry a Worker lacks. Run against the real `env` at start; at run time each such entry
 * answers 503 `agent_unavailable`.
 */
export function missingBindings(config: LegateConfig, hasBinding: (name: string) => boolean): readonly AgentEntry[] {
  return [...config.agents.values()].filter((entry) => !hasBinding(entry.binding));
}

/**
 * The audience, if any, that names the deployment itself or something in it. Its key is derived from its name and handed
 * out (`npm run keys -- audience`): with the issuer's own, a resource server could forge every session.
 */
export function audienceWithin(config: LegateConfig, issuer: string): string | null {
  const ours = issuer.toLowerCase();
  const isOurs = (name: string) => name === ours || /^[/?]/.test(name.startsWith(ours) ? name.slice(ours.length) : "");
  return [...config.audiences.keys()].find((name) => isOurs(name.toLowerCase())) ?? null;
}

/** What of a token's scope a tier may have now: neither above it nor gone from the configuration. */
export function scopesWithin(config: LegateConfig, tier: Tier, scope: Iterable<string>): string[] {
  const may = new Set(scopesOfTier(config, tier));
  return [...scope].filter((name) => may.has(name));
}

/** Every scope that a person of that tier may use or hand on. */
export function scopesOfTier(config: LegateConfig, tier: Tier): string[] {
  return [...config.scopes.values()].filter((scope) => tierReaches(tier, scope.leastTier)).map((scope) => scope.name);
}
