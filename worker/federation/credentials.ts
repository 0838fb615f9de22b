/**
 * `GET /federation/<provider>/<alias>`: a credential for the node of the token that asks. For AWS in the shape of its
 * container credentials, so that every SDK and the CLI read it unmodified. The alias is all that a request can say.
 */
import { permitRole } from "../../core/credential/permit.ts";
import { PROVIDERS, type Provider, type Role } from "../../core/credential/roles.ts";
import type { Denial } from "../../core/denial.ts";
import { err, ok, type Result } from "../../core/result.ts";
import type { VerifiedToken } from "../../core/token/verify.ts";
import type { CredentialView } from "../../core/wire/credentials.ts";
import type { Answer, Call, SessionCaller } from "../call.ts";
import type { Edge } from "../env.ts";
import { json } from "../respond.ts";

/**
 * What a token forbids is refused here, so that a refused caller can't keep its object busy; what lives, and the tier of
 * this moment, are the object's to say.
 */
export async function obtain(
  edge: Edge,
  token: VerifiedToken,
  provider: Provider,
  alias: string,
): Promise<Result<{ readonly role: Role; readonly view: CredentialView }, Denial>> {
  const role = permitRole(edge.config, edge.issuer, token, provider, alias);
  if (!role.ok) return role;
  const view = await edge.ask(token.subject, (authority) => authority.credentials({ token, provider, alias }));
  return view.ok ? ok({ role: role.value, view: view.value }) : view;
}

export async function credentials(call: Call, { token }: SessionCaller): Promise<Answer> {
  const { provider, alias = "" } = call.params;
  const isProvider = PROVIDERS.includes(provider as Provider);
  if (!isProvider) return err({ reason: "not_found" });
  if (call.url.search !== "")
    return err({
      reason: "request_invalid",
      detail: "An alias is all that can be asked for; this takes no parameters.",
    });
  const obtained = await obtain(call.edge, token, provider as Provider, alias);
  return obtained.ok ? ok(json(shapeOf(obtained.value.role, obtained.value.view, call.now))) : obtained;
}

/** AWS: the container credentials provider's; others: RFC 6749 §5.1. */
function shapeOf(role: Role, { secrets, expiresAt }: CredentialView, now: number): object {
  if (secrets.provider !== "aws")
    return {
      access_token: secrets.accessToken,
      token_type: "Bearer",
      expires_in: Math.max(0, Math.floor((expiresAt - now) / 1000)),
    };
  return {
    AccessKeyId: secrets.accessKeyId,
    SecretAccessKey: secrets.secretAccessKey,
    Token: secrets.sessionToken,
    Expiration: new Date(expiresAt).toISOString(),
    ...(role.provider === "aws" ? { RoleArn: role.roleArn } : {}),
  };
}
