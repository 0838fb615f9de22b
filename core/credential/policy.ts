/**
 * Session policies (AWS STS, `Policy`): what a credential may do is the role's policy and this one. It always ends with
 * the node: a Deny from that moment on, by the cloud's own clock. A template names what it wants of the caller with
 * placeholders; their values are ids of ours, in which no character means anything to a policy.
 */
import { SESSION_POLICY_LENGTH_MAX } from "../limits.ts";

type PolicyValue = string | number | boolean | readonly PolicyValue[] | { readonly [name: string]: PolicyValue };

/** IAM's `Statement` list. */
export interface PolicyTemplate {
  readonly Statement: readonly { readonly [name: string]: PolicyValue }[];
}

/** `${legate:user}` and the others, in any string of a template. `${aws:…}` is the cloud's own and stays. */
export interface PolicyNames {
  readonly user: string;
  readonly session: string;
  readonly grant: string;
  readonly agent: string;
}
const NAMES = ["user", "session", "grant", "agent"] as const;
const PLACEHOLDER = /\$\{legate:([^}]*)\}/g;

/** @returns what is wrong with a template, as ends of sentences */
export function checkPolicy(template: PolicyTemplate): string[] {
  const mistakes: string[] = [];
  if (!Array.isArray(template.Statement) || template.Statement.length === 0)
    return ["needs a Statement with at least one member."];
  const text = JSON.stringify(template.Statement);
  for (const [, name] of text.matchAll(PLACEHOLDER)) {
    if (!(NAMES as readonly string[]).includes(name ?? "")) mistakes.push(`has an unknown placeholder "${name}".`);
  }
  if (!/^[\t\n\r -\u00ff]*$/.test(text)) mistakes.push("has characters that AWS takes in no policy.");
  if (text.length > SESSION_POLICY_LENGTH_MAX) mistakes.push(`is longer than ${SESSION_POLICY_LENGTH_MAX} characters.`);
  return mistakes;
}

function fill(value: PolicyValue, names: PolicyNames): PolicyValue {
  if (typeof value === "string")
    return value.replaceAll(PLACEHOLDER, (_, name: string) => names[name as keyof PolicyNames]);
  if (Array.isArray(value)) return value.map((member: PolicyValue) => fill(member, names));
  if (typeof value !== "object") return value;
  return Object.fromEntries(
    Object.entries(value as Record<string, PolicyValue>).map(([name, member]) => [name, fill(member, names)]),
  );
}

const EVERYTHING: PolicyTemplate = { Statement: [{ Effect: "Allow", Action: "*", Resource: "*" }] };

export interface BoundPolicy {
  readonly text: string;
  /** Whether the text itself ends the credential with the node; false only where there was no room for that. */
  readonly endsWithNode: boolean;
}

/**
 * @param endSeconds the node's end, since 1970
 * @returns the policy for an exchange, or null where the template's own text has no room left at all
 */
export function bindPolicy(
  template: PolicyTemplate | null,
  names: PolicyNames,
  endSeconds: number,
): BoundPolicy | null {
  const { Statement } = fill({ ...(template ?? EVERYTHING) }, names) as unknown as PolicyTemplate;
  const end = `${new Date(endSeconds * 1000).toISOString().slice(0, 19)}Z`;
  const last = {
    Effect: "Deny",
    Action: "*",
    Resource: "*",
    Condition: { DateGreaterThanEquals: { "aws:CurrentTime": end } },
  };
  const bound = textOf([...Statement, last]);
  if (bound.length <= SESSION_POLICY_LENGTH_MAX) return { text: bound, endsWithNode: true };
  const plain = textOf(Statement);
  return plain.length <= SESSION_POLICY_LENGTH_MAX ? { text: plain, endsWithNode: false } : null;
}

function textOf(Statement: readonly object[]): string {
  return JSON.stringify({ Version: "2012-10-17", Statement });
}

/**
 * The policy that ends, at AWS, what was handed out of these grants: credentials issued before the stop are denied
 * everything. An operator attaches it to the role; Legate has no right to, on purpose.
 */
export function denyPolicy(grants: readonly string[], stoppedAtMs: number): string {
  const issued = `${new Date(Math.ceil(stoppedAtMs / 1000) * 1000 + 1000).toISOString().slice(0, 19)}Z`;
  return textOf([
    {
      Effect: "Deny",
      Action: "*",
      Resource: "*",
      Condition: {
        StringLike: { "aws:PrincipalTag/legate-grant": grants.flatMap((grant) => [grant, `${grant}.*`]) },
        DateLessThan: { "aws:TokenIssueTime": issued },
      },
    },
  ]);
}
