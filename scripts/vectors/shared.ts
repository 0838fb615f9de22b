// What all vectors are made with.
import type { VerifiedToken } from "../../core/token/verify.ts";
import { LABEL } from "../../core/token/mac.ts";
import { narrowToken, type Narrowing } from "../../core/token/mint.ts";
import { derive, kidOf, seededRandom } from "../../test/support/forge.ts";
import * as fixed from "../../test/support/deployment.ts";

const { AUDIENCE, ISSUER, KEYS, NOW, OTHER_AUDIENCE, SECRETS, claimsOf } = fixed;

export interface ValidVector {
  readonly name: string;
  /** Root → current, as in the tests. */
  readonly picture: string;
  readonly verifier: fixed.VerifierName;
  readonly now: number;
  readonly token: string;
  readonly expect: ReturnType<typeof viewOf>;
}

export interface InvalidVector {
  readonly name: string;
  readonly verifier: fixed.VerifierName;
  readonly now: number;
  readonly token: string;
  readonly expect: { readonly reason: string; readonly fault?: string };
}

export interface TokenVectors {
  readonly about: string;
  readonly issuer: string;
  readonly verifiers: Record<
    fixed.VerifierName,
    { readonly audience: string; readonly lifeMaxSeconds: number; readonly keys: readonly string[] }
  >;
  readonly valid: readonly ValidVector[];
  readonly invalid: readonly InvalidVector[];
}

/** A verified token as JSON: sets become lists in the order of the token. */
export function viewOf(token: VerifiedToken) {
  return { ...token, scope: [...token.scope], agents: token.agents === null ? null : [...token.agents] };
}

export const HEADER = { alg: "HS256", typ: "at+jwt", kid: kidOf(SECRETS.current) };
export const LABELS: Record<fixed.VerifierName, { label: string; audience: string }> = {
  session: { label: LABEL.audience(ISSUER), audience: ISSUER },
  cookie: { label: LABEL.cookie, audience: ISSUER },
  audience: { label: LABEL.audience(AUDIENCE), audience: AUDIENCE },
  other: { label: LABEL.audience(OTHER_AUDIENCE), audience: OTHER_AUDIENCE },
};
export const keyOf = (name: fixed.VerifierName, secret: Uint8Array = SECRETS.current): Buffer =>
  derive(secret, LABELS[name].label);
export const withIssuer = (claims: object, name: fixed.VerifierName = "session") => ({
  iss: ISSUER,
  aud: LABELS[name].audience,
  ...claims,
});

/** Bytes that no key could have been asked for: the last character's unused bits set. */
export function respelt(text: string): string {
  const alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
  return text.slice(0, -1) + (alphabet[alphabet.indexOf(text.at(-1) as string) + 1] as string);
}

const random = seededRandom("vectors");
export const narrow = (token: string, narrowing: Narrowing): Promise<string> => narrowToken(token, narrowing, random);
export { random };

/** The plain token that most of the invalid ones are made of, its claims with issuer and audience, and its key. */
export const plain = await KEYS.session.mint(claimsOf());
export const claims = withIssuer(claimsOf());
export const key = keyOf("session");

export function invalid(
  name: string,
  fault: string,
  token: string,
  verifier: fixed.VerifierName = "session",
  now: number = NOW,
): InvalidVector {
  return { name, verifier, now, token, expect: { reason: "token_invalid", fault } };
}
export function expired(name: string, token: string, now: number): InvalidVector {
  return { name, verifier: "session", now, token, expect: { reason: "token_expired" } };
}
