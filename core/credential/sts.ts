/**
 * AWS STS `AssumeRoleWithWebIdentity` as text: the form that is posted, and what AWS and Ceph answer. They disagree on
 * namespaces, on the spelling of ids and on how an error is wrapped; what both have is a few leaf elements with plain
 * text, and those alone are read. Not an XML parser on purpose: entities, DTDs and nesting have no way in.
 */
import type { AwsRole } from "./roles.ts";

export interface AwsCredential {
  readonly provider: "aws";
  readonly accessKeyId: string;
  readonly secretAccessKey: string;
  readonly sessionToken: string;
}

export interface TokenCredential {
  readonly provider: "gcp" | "azure";
  readonly accessToken: string;
}

export type Secrets = AwsCredential | TokenCredential;

/** What came back: a credential and its end, milliseconds since 1970. */
export interface Exchanged {
  readonly secrets: Secrets;
  readonly expiresAt: number;
}

export function assumeRoleForm(
  role: AwsRole,
  given: {
    readonly sessionName: string;
    readonly webIdentity: string;
    readonly policy: string;
    readonly durationSeconds: number;
  },
): string {
  return formOf({
    Action: "AssumeRoleWithWebIdentity",
    Version: "2011-06-15",
    RoleArn: role.roleArn,
    RoleSessionName: given.sessionName,
    WebIdentityToken: given.webIdentity,
    DurationSeconds: String(given.durationSeconds),
    Policy: given.policy,
  });
}

/** An `application/x-www-form-urlencoded` body. */
export function formOf(members: Readonly<Record<string, string>>): string {
  return Object.entries(members)
    .map(([name, value]) => `${name}=${encodeURIComponent(value)}`)
    .join("&");
}

/** @returns the text of the first leaf element of that name; null where there is none */
function leaf(xml: string, name: string): string | null {
  const found = new RegExp(`<(?:[A-Za-z0-9]+:)?${name}(?:\\s[^<>]*)?>([^<>]*)</(?:[A-Za-z0-9]+:)?${name}>`).exec(
    xml,
  )?.[1];
  if (found === undefined) return null;
  return found.replaceAll(/&(lt|gt|quot|apos|amp);/g, (_, entity: string) => ENTITIES[entity] ?? "").trim();
}
const ENTITIES: Readonly<Record<string, string>> = { lt: "<", gt: ">", quot: '"', apos: "'", amp: "&" };

/** @returns the credential, or null unless all four members are there and the end is a moment */
export function readAssumedRole(xml: string): Exchanged | null {
  const accessKeyId = leaf(xml, "AccessKeyId");
  const secretAccessKey = leaf(xml, "SecretAccessKey");
  const sessionToken = leaf(xml, "SessionToken");
  const expiresAt = Date.parse(leaf(xml, "Expiration") ?? "");
  if (!accessKeyId || !secretAccessKey || !sessionToken || Number.isNaN(expiresAt)) return null;
  return { secrets: { provider: "aws", accessKeyId, secretAccessKey, sessionToken }, expiresAt };
}

/** @returns the error's code as the STS wrote it, from `<ErrorResponse><Error>` or a bare `<Error>` */
export function readErrorCode(xml: string): string | null {
  if (!/<(?:[A-Za-z0-9]+:)?Error[\s>]/.test(xml)) return null;
  const code = leaf(xml, "Code");
  return code !== null && /^[A-Za-z0-9_.]{1,80}$/.test(code) ? code : null;
}
