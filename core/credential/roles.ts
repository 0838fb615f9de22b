/**
 * Roles of clouds, as a deployment writes them: which provider, which role there, for whom, for how long. A caller names
 * an alias and nothing else; no part of an exchange comes from a request. The scope of a role is `<provider>:<alias>`,
 * and stands in `scopes` like any other. Found wrong at start, all mistakes at once.
 */
import type { ActorsRule, Scope, Tier } from "../config.ts";
import { CREDENTIAL_LIFE_MAX_SECONDS, CREDENTIAL_LIFE_MIN_SECONDS } from "../limits.ts";
import { isScopeName } from "../token/scope.ts";
import { isHttpsOrLoopback, isHttpsOrLoopbackOrigin } from "./endpoint.ts";
import { checkPolicy, type PolicyTemplate } from "./policy.ts";

export const PROVIDERS = ["aws", "gcp", "azure"] as const;
export type Provider = (typeof PROVIDERS)[number];

interface CommonInput {
  /** What a caller names; its scope is `<provider>:<alias>`. */
  alias: string;
  /** Whether credentials rest, encrypted, in the object's storage, or in memory alone. There is no default: it is a decision. */
  atRest: "encrypted" | "none";
  /** Longest life of a credential, in seconds: 900 to 43,200. 3,600 by default. */
  durationSeconds?: number;
  requiredTier?: Tier;
  /** Whose agents may ask: the user's own by default. */
  actors?: { allow?: "any" | "own" | readonly string[]; unproven?: boolean };
}

export interface AwsRoleInput extends CommonInput {
  provider: "aws";
  roleArn: string;
  region: string;
  /** The STS; `https://sts.<region>.amazonaws.com/` by default. */
  endpoint?: string;
  /** Of the web-identity token: what the provider at AWS lists as its client id. */
  audience?: string;
  /** A session policy, with placeholders (core/credential/policy.ts). */
  policy?: PolicyTemplate;
  /** Services that the signing proxy may reach with this role, by origin. */
  proxy?: { service: string; origins: readonly string[] };
}

export interface GcpRoleInput extends CommonInput {
  provider: "gcp";
  /** `//iam.googleapis.com/projects/N/locations/global/workloadIdentityPools/P/providers/X`. */
  audience: string;
  scope: string;
  endpoint?: string;
  /** Whom to act as; without one, the federated token itself is the credential. */
  serviceAccount?: { email: string; endpoint?: string };
}

export interface AzureRoleInput extends CommonInput {
  provider: "azure";
  /** `https://login.microsoftonline.com/<tenant>/oauth2/v2.0/token`. */
  endpoint: string;
  clientId: string;
  scope: string;
  audience?: string;
}

export type RoleInput = AwsRoleInput | GcpRoleInput | AzureRoleInput;

interface Common {
  readonly alias: string;
  /** `<provider>:<alias>`: the role's name everywhere, and the scope that a caller needs. */
  readonly scope: string;
  readonly atRest: "encrypted" | "none";
  readonly durationSeconds: number;
  readonly requiredTier: Tier;
  readonly actors: ActorsRule;
  readonly endpoint: string;
  /** Of the web-identity token. */
  readonly audience: string;
}
export interface AwsRole extends Common {
  readonly provider: "aws";
  readonly roleArn: string;
  readonly region: string;
  readonly policy: PolicyTemplate | null;
  readonly proxy: { readonly service: string; readonly origins: readonly string[] } | null;
}
export interface GcpRole extends Common {
  readonly provider: "gcp";
  readonly cloudScope: string;
  readonly serviceAccount: { readonly email: string; readonly endpoint: string } | null;
}
export interface AzureRole extends Common {
  readonly provider: "azure";
  readonly clientId: string;
  readonly cloudScope: string;
}
export type Role = AwsRole | GcpRole | AzureRole;

const ALIAS_PATTERN = /^[a-z0-9]+(?:-[a-z0-9]+)*$/;
const ROLE_ARN_PATTERN = /^arn:[a-z-]+:iam::(?:\d{12})?:role\/[\w+=,.@/-]{1,512}$/;
const MEMBERS: Readonly<Record<Provider, readonly string[]>> = {
  aws: ["roleArn", "region", "endpoint", "audience", "policy", "proxy"],
  gcp: ["audience", "scope", "endpoint", "serviceAccount"],
  azure: ["endpoint", "clientId", "scope", "audience"],
};
const COMMON_MEMBERS = ["provider", "alias", "atRest", "durationSeconds", "requiredTier", "actors"];

/**
 * @param scopes of the deployment: a role without its scope could never be used
 * @param isTier config.ts's, which imports this file
 * @param mistakes is added to: sentences that name their place
 */
export function checkRoles(
  input: readonly RoleInput[],
  scopes: ReadonlyMap<string, Scope>,
  isTier: (value: unknown) => boolean,
  mistakes: string[],
): Map<string, Role> {
  const roles = new Map<string, Role>();
  for (const raw of input) {
    const role = roleOf(raw);
    const at = `roles: "${role.scope}"`;
    if (!PROVIDERS.includes(raw.provider)) {
      mistakes.push(`${at} has an unknown provider; it is one of ${PROVIDERS.join(", ")}.`);
      continue;
    }
    if (roles.has(role.scope)) mistakes.push(`${at} stands twice.`);
    if (!ALIAS_PATTERN.test(raw.alias) || !isScopeName(role.scope))
      mistakes.push(`${at}: an alias is lower case words and digits, joined by hyphens.`);
    else if (!scopes.has(role.scope))
      mistakes.push(`${at} needs the scope "${role.scope}", which scopes does not list: nobody could be granted it.`);
    const unknown = Object.keys(raw).find((name) => ![...COMMON_MEMBERS, ...MEMBERS[raw.provider]].includes(name));
    if (unknown !== undefined) mistakes.push(`${at} has an unknown member "${unknown}".`);
    if (!isTier(role.requiredTier)) mistakes.push(`${at} has an unknown requiredTier.`);
    checkCommon(role, at, mistakes);
    if (role.provider === "aws") checkAws(role, at, mistakes);
    else if (role.cloudScope === "") mistakes.push(`${at} needs the scope that it asks the cloud for.`);
    if (role.provider === "gcp" && role.serviceAccount !== null && !isHttpsOrLoopback(role.serviceAccount.endpoint))
      mistakes.push(`${at}: serviceAccount.endpoint must be https, or http on this machine.`);
    if (role.provider === "azure" && role.clientId === "") mistakes.push(`${at} needs clientId.`);
    roles.set(role.scope, role);
  }
  return roles;
}

function checkCommon(role: Role, at: string, mistakes: string[]): void {
  const atRest: unknown = role.atRest;
  if (atRest !== "encrypted" && atRest !== "none")
    mistakes.push(`${at} must say atRest: "encrypted" or "none"; there is no default.`);
  const { durationSeconds: life, actors } = role;
  if (!Number.isSafeInteger(life) || life < CREDENTIAL_LIFE_MIN_SECONDS || life > CREDENTIAL_LIFE_MAX_SECONDS)
    mistakes.push(
      `${at}: durationSeconds must lie between ${CREDENTIAL_LIFE_MIN_SECONDS} and ${CREDENTIAL_LIFE_MAX_SECONDS}.`,
    );
  if (typeof actors.allow === "string" && actors.allow !== "any" && actors.allow !== "own")
    mistakes.push(`${at} has an unknown actors rule "${actors.allow as string}".`);
  if (!isHttpsOrLoopback(role.endpoint)) mistakes.push(`${at}: endpoint must be https, or http on this machine.`);
  if (role.audience === "") mistakes.push(`${at} needs an audience.`);
}

function checkAws(role: AwsRole, at: string, mistakes: string[]): void {
  if (!ROLE_ARN_PATTERN.test(role.roleArn)) mistakes.push(`${at}: "${role.roleArn}" is no role's ARN.`);
  if (!/^[a-z0-9-]{1,32}$/.test(role.region)) mistakes.push(`${at}: "${role.region}" is no region.`);
  if (role.policy !== null) mistakes.push(...checkPolicy(role.policy).map((mistake) => `${at} policy ${mistake}`));
  if (role.proxy === null) return;
  if (!/^[a-z0-9-]{1,40}$/.test(role.proxy.service))
    mistakes.push(`${at}: proxy.service names no service to sign for.`);
  for (const origin of role.proxy.origins) {
    if (!isHttpsOrLoopbackOrigin(origin))
      mistakes.push(`${at}: proxy origin "${origin}" must be an https origin, or http on this machine.`);
  }
}

function roleOf(raw: RoleInput): Role {
  const common = {
    alias: raw.alias,
    scope: `${raw.provider}:${raw.alias}`,
    atRest: raw.atRest,
    durationSeconds: raw.durationSeconds ?? 3_600,
    requiredTier: raw.requiredTier ?? ("admin" as const),
    actors: { allow: raw.actors?.allow ?? "own", unproven: raw.actors?.unproven ?? true },
  };
  switch (raw.provider) {
    case "aws":
      return {
        ...common,
        provider: "aws",
        roleArn: raw.roleArn,
        region: raw.region,
        endpoint: raw.endpoint ?? `https://sts.${raw.region}.amazonaws.com/`,
        audience: raw.audience ?? "sts.amazonaws.com",
        policy: raw.policy ?? null,
        proxy: raw.proxy ?? null,
      };
    case "gcp":
      return {
        ...common,
        provider: "gcp",
        endpoint: raw.endpoint ?? "https://sts.googleapis.com/v1/token",
        audience: raw.audience,
        cloudScope: raw.scope,
        serviceAccount:
          raw.serviceAccount === undefined
            ? null
            : {
                email: raw.serviceAccount.email,
                endpoint: raw.serviceAccount.endpoint ?? "https://iamcredentials.googleapis.com/",
              },
      };
    case "azure":
      return {
        ...common,
        provider: "azure",
        endpoint: raw.endpoint,
        audience: raw.audience ?? "api://AzureADTokenExchange",
        clientId: raw.clientId,
        cloudScope: raw.scope,
      };
  }
}
