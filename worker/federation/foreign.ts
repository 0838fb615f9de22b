/**
 * Tokens of foreign issuers. Issuer, audience, algorithms and where the keys are come from the configuration; of the token
 * nothing is believed before its signature, and nothing in it says how it is checked: a header that brings a key, or names
 * a place of one, or wants something understood, refuses it (RFC 8725 §3).
 */
import { Buffer } from "node:buffer";
import { jwtVerify, type JWTPayload } from "jose";
import { subjectFor, type Issuer, type Subject } from "../../core/credential/issuers.ts";
import type { Denial } from "../../core/denial.ts";
import type { EpochMs } from "../../core/ids.ts";
import { ASSERTION_SKEW_SECONDS, FOREIGN_TOKEN_LENGTH_MAX } from "../../core/limits.ts";
import { err, ok, type Result } from "../../core/result.ts";
import type { Edge } from "../env.ts";
import { foreignKey } from "./jwks.ts";

export interface ForeignIdentity {
  readonly issuer: Issuer;
  readonly subject: Subject;
  readonly jti: string;
  /** After that, its age alone refuses it. */
  readonly usedUntil: EpochMs;
}

const FORBIDDEN = ["jwk", "jku", "x5u", "x5c", "crit", "b64", "zip"];
const JTI_LENGTH_MAX = 200;

function refused(fault: string): Result<never, Denial> {
  return err({ reason: "grant_invalid", fault });
}

/** @returns who that is here, or `grant_invalid` with why, for the audit trail alone */
export async function verifyForeign(
  text: string,
  edge: Edge,
  purpose: Issuer["for"],
): Promise<Result<ForeignIdentity, Denial>> {
  if (text.length > FOREIGN_TOKEN_LENGTH_MAX) return refused("too_long");
  const [head, body, signature, ...rest] = text.split(".");
  const header = unsafeObject(head);
  const unsafe = unsafeObject(body);
  if (header === null || unsafe === null || !signature || rest.length > 0) return refused("grammar");
  const issuer = typeof unsafe["iss"] === "string" ? edge.config.issuers.get(unsafe["iss"]) : undefined;
  if (issuer?.for !== purpose) return refused("issuer");
  const { alg, kid, typ } = header;
  if (!(issuer.algorithms as readonly unknown[]).includes(alg)) return refused("algorithm");
  if (FORBIDDEN.some((name) => Object.hasOwn(header, name))) return refused("header");
  if (!issuer.types.includes(typeof typ === "string" ? typ.toLowerCase() : typ === undefined ? "" : "?"))
    return refused("type");
  const claims = await verifiedClaims(text, issuer, alg as string, kid);
  if (claims === null) return refused("signature");
  // One audience, whole: a token for others too could have been replayed by them.
  const audience: unknown = Array.isArray(claims.aud) && claims.aud.length === 1 ? claims.aud[0] : claims.aud;
  if (audience !== issuer.audience) return refused("audience");
  const subject = subjectFor(issuer, claims);
  if (subject === null) return refused("subject");
  const { jti, exp = 0, iat = 0 } = claims;
  if (jti !== undefined && (typeof jti !== "string" || jti === "" || jti.length > JTI_LENGTH_MAX))
    return refused("jti");
  const ends = Math.min(exp, iat + issuer.maxAgeSeconds) + 2 * ASSERTION_SKEW_SECONDS;
  return ok({ issuer, subject, jti: jti ?? (await digestOf(`${head}.${body}`)), usedUntil: (ends * 1000) as EpochMs });
}

async function verifiedClaims(text: string, issuer: Issuer, alg: string, kid: unknown): Promise<JWTPayload | null> {
  const jwk = await foreignKey(issuer, kid, alg);
  if (jwk === null) return null;
  try {
    const { payload } = await jwtVerify(text, jwk, {
      algorithms: [alg],
      issuer: issuer.issuer,
      audience: issuer.audience,
      clockTolerance: ASSERTION_SKEW_SECONDS,
      maxTokenAge: issuer.maxAgeSeconds,
      requiredClaims: ["iss", "aud", "exp", "iat"],
    });
    return payload;
  } catch {
    return null;
  }
}

function unsafeObject(segment: string | undefined): Readonly<Record<string, unknown>> | null {
  try {
    const value: unknown = JSON.parse(Buffer.from(segment ?? "", "base64url").toString("utf8"));
    return typeof value === "object" && value !== null ? (value as Record<string, unknown>) : null;
  } catch {
    return null;
  }
}

async function digestOf(text: string): Promise<string> {
  return Buffer.from(await crypto.subtle.digest("SHA-256", new TextEncoder().encode(text))).toString("base64url");
}
