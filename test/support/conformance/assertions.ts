// Client assertions (RFC 7523) by a public library, with any claim bent.
import { randomUUID } from "node:crypto";
import { SignJWT, type JWTPayload } from "jose";
import type { RegisteredAgent } from "./people.ts";

export const ASSERTION_TYPE = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer";

/** @param bent claims that differ from those of a good one; undefined leaves a claim out */
export function assertionOf(agent: RegisteredAgent, issuer: string, bent: JWTPayload = {}): Promise<string> {
  const now = Math.floor(Date.now() / 1000);
  const { clientId, key } = agent;
  const claims = { iss: clientId, sub: clientId, aud: issuer, iat: now, exp: now + 60, jti: randomUUID(), ...bent };
  return new SignJWT(claims)
    .setProtectedHeader({ alg: "ES256", typ: "JWT" })
    .sign(key.privateKey as Parameters<SignJWT["sign"]>[0]);
}

/** The form of a question to /oauth/…, with a proof. */
export function provenForm(assertion: string, more: Readonly<Record<string, string>>): URLSearchParams {
  return new URLSearchParams({ client_assertion_type: ASSERTION_TYPE, client_assertion: assertion, ...more });
}
