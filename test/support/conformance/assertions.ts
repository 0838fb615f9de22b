// Client assertions (RFC 7523) by a public library, with any claim bent.
import { randomUUID } from "node:crypto";
import { importJWK, SignJWT, type JWTPayload } from "jose";
import type { RegisteredAgent } from "./people.ts";

export const ASSERTION_TYPE = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer";

/** @param bent claims that differ from those of a good one; undefined leaves a claim out */
export async function assertionOf(
  agent: Pick<RegisteredAgent, "clientId" | "key">,
  issuer: string,
  bent: { readonly [Claim in keyof JWTPayload]?: JWTPayload[Claim] | undefined } = {},
): Promise<string> {
  const now = Math.floor(Date.now() / 1000);
  const { clientId, key } = agent;
  const claims = {
    iss: clientId,
    sub: clientId,
    aud: issuer,
    iat: now,
    exp: now + 60,
    jti: randomUUID(),
    ...bent,
  } as JWTPayload;
  return new SignJWT(claims)
    .setProtectedHeader({ alg: "ES256", typ: "JWT" })
    .sign(await importJWK({ ...key }, "ES256"));
}

/** The form of a question to /oauth/…, with a proof. */
export function provenForm(assertion: string, more: Readonly<Record<string, string>>): URLSearchParams {
  return new URLSearchParams({ client_assertion_type: ASSERTION_TYPE, client_assertion: assertion, ...more });
}
