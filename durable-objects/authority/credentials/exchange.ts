/**
 * The port behind which clouds differ: a web-identity token in, a credential and its end out, or why not. One attempt;
 * when to try again is the flight's to decide.
 */
import type { ExchangeFailure } from "../../../core/credential/failure.ts";
import { classify, UNREADABLE } from "../../../core/credential/failure.ts";
import type { AwsRole, AzureRole, GcpRole, Role } from "../../../core/credential/roles.ts";
import {
  assumeRoleForm,
  formOf,
  readAssumedRole,
  readErrorCode,
  type Exchanged,
} from "../../../core/credential/sts.ts";
import { err, ok, type Result } from "../../../core/result.ts";
import { jsonErrorCode, jsonOf, post, type Posted } from "./post.ts";

export interface ExchangeOrder {
  readonly webIdentity: string;
  /** Names the session in the cloud's own logs. */
  readonly sessionName: string;
  /** AWS alone. */
  readonly policy: string;
  readonly durationSeconds: number;
  readonly nowMs: number;
}

type Outcome = Result<Exchanged, ExchangeFailure>;

const FORM = { "content-type": "application/x-www-form-urlencoded" } as const;
const TOKEN_EXCHANGE = "urn:ietf:params:oauth:grant-type:token-exchange";
const ACCESS_TOKEN = "urn:ietf:params:oauth:token-type:access_token";
const JWT_TYPE = "urn:ietf:params:oauth:token-type:jwt";
const CLIENT_ASSERTION = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer";
const CLOUD_PLATFORM = "https://www.googleapis.com/auth/cloud-platform";

export function exchange(role: Role, order: ExchangeOrder): Promise<Outcome> {
  switch (role.provider) {
    case "aws":
      return exchangeAws(role, order);
    case "gcp":
      return exchangeGcp(role, order);
    case "azure":
      return exchangeAzure(role, order);
  }
}

/** AWS STS AssumeRoleWithWebIdentity. Ceph answers JSON to `accept: application/json`, AWS XML; both write XML unasked. */
async function exchangeAws(role: AwsRole, order: ExchangeOrder): Promise<Outcome> {
  const answer = await post(role.endpoint, assumeRoleForm(role, order), { ...FORM, accept: "text/xml" });
  if (!answer.ok) return answer;
  const { status, text } = answer.value;
  if (status !== 200) return err(classify(readErrorCode(text), status));
  const read = readAssumedRole(text);
  return read === null ? err(UNREADABLE) : ok(read);
}

/** GCP's STS (RFC 8693), then, where the entry names one, a service account's own token with the life that is asked. */
async function exchangeGcp(role: GcpRole, order: ExchangeOrder): Promise<Outcome> {
  const body = formOf({
    grant_type: TOKEN_EXCHANGE,
    audience: role.audience,
    scope: role.serviceAccount === null ? role.cloudScope : CLOUD_PLATFORM,
    requested_token_type: ACCESS_TOKEN,
    subject_token_type: JWT_TYPE,
    subject_token: order.webIdentity,
  });
  const federated = tokenOf("gcp", await post(role.endpoint, body, FORM), order.nowMs);
  if (!federated.ok || role.serviceAccount === null || federated.value.secrets.provider === "aws") return federated;
  const { email, endpoint } = role.serviceAccount;
  const url = `${endpoint.replace(/\/$/, "")}/v1/projects/-/serviceAccounts/${encodeURIComponent(email)}:generateAccessToken`;
  const wish = { scope: role.cloudScope.split(" "), lifetime: `${order.durationSeconds}s` };
  const answer = await post(url, JSON.stringify(wish), {
    "content-type": "application/json",
    authorization: `Bearer ${federated.value.secrets.accessToken}`,
  });
  if (!answer.ok) return answer;
  const { status, text } = answer.value;
  if (status !== 200) return err(classify(jsonErrorCode(text), status));
  const { accessToken, expireTime } = jsonOf(text) ?? {};
  const expiresAt = typeof expireTime === "string" ? Date.parse(expireTime) : NaN;
  if (typeof accessToken !== "string" || accessToken === "" || Number.isNaN(expiresAt)) return err(UNREADABLE);
  return ok({ secrets: { provider: "gcp", accessToken }, expiresAt });
}

/** Microsoft's client credentials with a federated assertion (RFC 7523 §2.2). */
async function exchangeAzure(role: AzureRole, order: ExchangeOrder): Promise<Outcome> {
  const body = formOf({
    grant_type: "client_credentials",
    client_id: role.clientId,
    client_assertion_type: CLIENT_ASSERTION,
    client_assertion: order.webIdentity,
    scope: role.cloudScope,
  });
  return tokenOf("azure", await post(role.endpoint, body, FORM), order.nowMs);
}

/** RFC 6749 §5.1. An answer without its life is none: what has no end cannot be ended with a node. */
function tokenOf(provider: "gcp" | "azure", answer: Result<Posted, ExchangeFailure>, nowMs: number): Outcome {
  if (!answer.ok) return answer;
  const { status, text } = answer.value;
  if (status !== 200) return err(classify(jsonErrorCode(text), status));
  const { access_token: accessToken, expires_in: seconds } = jsonOf(text) ?? {};
  const life = Number(seconds);
  if (typeof accessToken !== "string" || accessToken === "" || !Number.isSafeInteger(life) || life <= 0)
    return err(UNREADABLE);
  return ok({ secrets: { provider, accessToken }, expiresAt: nowMs + life * 1000 });
}
