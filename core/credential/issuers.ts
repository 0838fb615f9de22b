/**
 * Foreign issuers, as a deployment writes them: whose tokens start a session here, and for whom. An entry maps subjects
 * that match one anchored pattern to one user and one client that exist already; nothing is created that it does not
 * name. Keys, algorithms, audience and issuer come from here, never from a token.
 */
import type { Scope } from "../config.ts";
import type { AgentId, UserId } from "../ids.ts";
import { FOREIGN_AGE_DEFAULT_SECONDS, GRANT_LIFE_MAX_SECONDS, GRANT_LIFE_MIN_SECONDS } from "../limits.ts";
import { isHttpsOrLoopback } from "./endpoint.ts";

export const FOREIGN_ALGORITHMS = ["RS256", "RS384", "RS512", "PS256", "ES256", "ES384", "ES512", "EdDSA"] as const;
export type ForeignAlgorithm = (typeof FOREIGN_ALGORITHMS)[number];

export interface SubjectInput {
  /** Exact text, with `*` for one or more characters; the whole subject must match. */
  subject: string;
  /** Claims that must be there with exactly that text: the issuer's ids that nobody can take over by a rename. */
  claims?: { readonly [name: string]: string };
  user: string;
  /** The agent of that user that acts; absent for operators, who act in person. */
  client?: string;
  /** What its sessions may have at most; all that the agent may have by default. */
  scope?: readonly string[];
  sessionSeconds?: number;
}

export interface IssuerInput {
  /** Exactly as in `iss`. */
  issuer: string;
  /** `sessions`: grant jwt-bearer. `operators`: Cloudflare Access in front of the operators' routes. */
  for: "sessions" | "operators";
  /** Exactly as in `aud`. */
  audience: string;
  algorithms: readonly ForeignAlgorithm[];
  /** The key set; `<issuer>/.well-known/openid-configuration` names it by default. */
  jwksUri?: string;
  /** Accepted `typ` headers, lower case; `jwt`, and none at all, by default. */
  types?: readonly string[];
  /** Longest time since `iat`, in seconds. */
  maxAgeSeconds?: number;
  /** Claims of every token of the issuer. */
  claims?: { readonly [name: string]: string };
  /** The claim that names the subject: `sub` by default. */
  subjectClaim?: string;
  subjects: readonly SubjectInput[];
}

export interface Subject {
  readonly pattern: string;
  readonly claims: Readonly<Record<string, string>>;
  readonly user: UserId;
  readonly client: AgentId | null;
  readonly scope: readonly string[] | null;
  readonly sessionSeconds: number | null;
}

export interface Issuer {
  readonly issuer: string;
  readonly for: "sessions" | "operators";
  readonly audience: string;
  readonly algorithms: readonly ForeignAlgorithm[];
  readonly jwksUri: string | null;
  readonly types: readonly string[];
  readonly maxAgeSeconds: number;
  readonly claims: Readonly<Record<string, string>>;
  readonly subjectClaim: string;
  readonly subjects: readonly Subject[];
}

const USER_PATTERN = /^usr_[a-z2-7]{28}$/;
const CLIENT_PATTERN = /^agt_[a-z2-7]{20}_[a-z2-7]{28}$/;

/** @param mistakes is added to: sentences that name their place */
export function checkIssuers(
  input: readonly IssuerInput[],
  scopes: ReadonlyMap<string, Scope>,
  mistakes: string[],
): Map<string, Issuer> {
  const issuers = new Map<string, Issuer>();
  for (const raw of input) {
    const at = `issuers: "${raw.issuer}"`;
    if (issuers.has(raw.issuer)) mistakes.push(`${at} stands twice.`);
    for (const url of [raw.issuer, ...(raw.jwksUri === undefined ? [] : [raw.jwksUri])])
      if (!isHttpsOrLoopback(url)) mistakes.push(`${at}: "${url}" must be https, or http on this machine.`);
    if (raw.for !== "sessions" && raw.for !== "operators")
      mistakes.push(`${at} must say what it is for: "sessions" or "operators".`);
    if (raw.audience === "" || typeof raw.audience !== "string") mistakes.push(`${at} needs its exact audience.`);
    const unknown = raw.algorithms.filter((name) => !FOREIGN_ALGORITHMS.includes(name));
    if (raw.algorithms.length === 0 || unknown.length > 0)
      mistakes.push(`${at} needs algorithms, each of ${FOREIGN_ALGORITHMS.join(", ")}.`);
    const { maxAgeSeconds = FOREIGN_AGE_DEFAULT_SECONDS } = raw;
    if (!Number.isSafeInteger(maxAgeSeconds) || maxAgeSeconds < 1 || maxAgeSeconds > 86_400)
      mistakes.push(`${at}: maxAgeSeconds must lie between 1 and 86400.`);
    if (raw.subjects.length === 0) mistakes.push(`${at} maps no subject to anyone.`);
    issuers.set(raw.issuer, {
      issuer: raw.issuer,
      for: raw.for,
      audience: raw.audience,
      algorithms: raw.algorithms,
      jwksUri: raw.jwksUri ?? null,
      types: raw.types ?? ["jwt", ""],
      maxAgeSeconds,
      claims: raw.claims ?? {},
      subjectClaim: raw.subjectClaim ?? "sub",
      subjects: raw.subjects.map((subject) => subjectOf(subject, raw, scopes, at, mistakes)),
    });
  }
  return issuers;
}

function subjectOf(
  raw: SubjectInput,
  issuer: IssuerInput,
  scopes: ReadonlyMap<string, Scope>,
  at: string,
  mistakes: string[],
): Subject {
  const place = `${at} subject "${raw.subject}"`;
  if (raw.subject.replaceAll("*", "").length < 3)
    mistakes.push(`${place} matches nearly everyone; write more of it than stars.`);
  if (!USER_PATTERN.test(raw.user)) mistakes.push(`${place} maps to "${raw.user}", which is no user (usr_…).`);
  if (issuer.for === "operators") {
    if (raw.client !== undefined) mistakes.push(`${place}: an operator acts in person; remove client.`);
  } else if (raw.client === undefined || !CLIENT_PATTERN.test(raw.client)) {
    mistakes.push(`${place} needs client: a registered agent (agt_…).`);
  } else if (raw.client.slice(4, 24) !== raw.user.slice(4, 24)) {
    mistakes.push(`${place}: the client is not an agent of that user.`);
  }
  for (const scope of raw.scope ?? [])
    if (!scopes.has(scope)) mistakes.push(`${place} gives the scope "${scope}", which scopes does not list.`);
  const { sessionSeconds = null } = raw;
  if (
    sessionSeconds !== null &&
    !(sessionSeconds >= GRANT_LIFE_MIN_SECONDS && sessionSeconds <= GRANT_LIFE_MAX_SECONDS)
  )
    mistakes.push(`${place}: sessionSeconds must lie between ${GRANT_LIFE_MIN_SECONDS} and ${GRANT_LIFE_MAX_SECONDS}.`);
  return {
    pattern: raw.subject,
    claims: raw.claims ?? {},
    user: raw.user as UserId,
    client: (raw.client ?? null) as AgentId | null,
    scope: raw.scope ?? null,
    sessionSeconds,
  };
}

/**
 * Anchored at both ends; a star is one or more characters. No regular expression is made of what a deployment or a token
 * writes, so that none can be slow.
 */
export function matchesSubject(pattern: string, subject: string): boolean {
  const [first = "", ...rest] = pattern.split("*");
  if (rest.length === 0) return subject === pattern;
  if (!subject.startsWith(first)) return false;
  let at = first.length;
  const last = rest.pop() as string;
  for (const part of rest) {
    const found = subject.indexOf(part, at + 1);
    if (found === -1) return false;
    at = found + part.length;
  }
  return subject.length - last.length >= at + 1 && subject.endsWith(last);
}

/** Whether every named claim is there with exactly that text. Numbers and booleans count by their JSON spelling. */
export function hasClaims(
  claims: Readonly<Record<string, unknown>>,
  required: Readonly<Record<string, string>>,
): boolean {
  return Object.entries(required).every(([name, text]) => {
    const value = Object.hasOwn(claims, name) ? claims[name] : undefined;
    const isPlain = typeof value === "string" || typeof value === "number" || typeof value === "boolean";
    return isPlain && String(value) === text;
  });
}

/** @returns the first entry that a verified token's claims fit, or null */
export function subjectFor(issuer: Issuer, claims: Readonly<Record<string, unknown>>): Subject | null {
  const name = claims[issuer.subjectClaim];
  if (typeof name !== "string" || name === "" || !hasClaims(claims, issuer.claims)) return null;
  return (
    issuer.subjects.find(
      ({ pattern, claims: required }) => matchesSubject(pattern, name) && hasClaims(claims, required),
    ) ?? null
  );
}
