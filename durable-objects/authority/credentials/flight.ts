/**
 * One exchange, from a fresh JWT to a checked answer: at most two attempts, the second with another JWT where the first
 * was refused for it, and a deadline over all. What comes back is a credential that ends with its node, or a failure and
 * until when it is the answer for everyone.
 */
import { ABSURD, LATE, pauseMs, type ExchangeFailure } from "../../../core/credential/failure.ts";
import { webIdentityClaims, type Tags } from "../../../core/credential/identity.ts";
import type { Role } from "../../../core/credential/roles.ts";
import type { Exchanged } from "../../../core/credential/sts.ts";
import type { CredentialDenial } from "../../../core/credential/denial.ts";
import { encodeBase64url } from "../../../core/base64url.ts";
import { sessionOf, toEpochSeconds, type EpochSeconds, type NodePath } from "../../../core/ids.ts";
import { CREDENTIAL_LIFE_MIN_SECONDS, CREDENTIAL_SERVE_MIN_MS, FLIGHT_DEADLINE_MS } from "../../../core/limits.ts";
import { err, ok, type Result } from "../../../core/result.ts";
import { withDeadline } from "../alarms.ts";
import type { Context } from "../context.ts";
import { exchange } from "./exchange.ts";
import type { Signer } from "./signer.ts";

/** What is asked for: all that the cache key is made of. */
export interface Wanted {
  readonly key: string;
  readonly role: Role;
  /** The recorded node that the credential belongs to: dropped with it. */
  readonly owner: NodePath;
  readonly end: EpochSeconds;
  /** Empty for clouds that take none. */
  readonly policy: string;
  readonly tags: Tags;
}

type FailedDenial = Extract<CredentialDenial, { reason: "exchange_failed" }>;

export interface Failed {
  readonly denial: FailedDenial;
  readonly until: number;
  /** In a row. */
  readonly failures: number;
}

export interface Flown {
  readonly outcome: Result<Exchanged, Failed>;
  readonly tries: number;
}

const REMINT_PAUSE_MS = 500; // keys that were fetched a moment too early are there then
const CLOCKS_MS = 300_000; // how far a cloud's clock may be from ours before its answer is absurd

/** @param failures of this key in a row, before this one */
export async function fly(wanted: Wanted, signer: Signer, context: Context, failures: number): Promise<Flown> {
  let tries = 0;
  const attempt = async (): Promise<Result<Exchanged, ExchangeFailure>> => {
    tries++;
    return once(wanted, signer, context);
  };
  const both = async () => {
    const first = await attempt();
    if (first.ok || first.denial.kind !== "remint") return first;
    await new Promise((resolve) => setTimeout(resolve, REMINT_PAUSE_MS));
    return attempt();
  };
  let outcome: Result<Exchanged, ExchangeFailure>;
  try {
    outcome = await withDeadline(both(), FLIGHT_DEADLINE_MS);
  } catch {
    outcome = err(LATE);
  }
  if (outcome.ok) return { outcome, tries };
  const { kind, code } = outcome.denial;
  const chance = (context.random(1)[0] ?? 0) / 256;
  const pause = pauseMs(kind === "retry" ? "retry" : "permanent", failures + 1, chance);
  const denial = {
    reason: "exchange_failed",
    kind: kind === "retry" ? "retry" : "permanent",
    code,
    retryAfterMs: pause,
  } as const;
  return { outcome: err({ denial, until: context.now() + pause, failures: failures + 1 }), tries };
}

async function once(wanted: Wanted, signer: Signer, context: Context): Promise<Result<Exchanged, ExchangeFailure>> {
  const { role, tags, end, policy, owner } = wanted;
  const nowMs = context.now();
  const now = toEpochSeconds(nowMs);
  const jti = encodeBase64url(context.random(12));
  const claims = webIdentityClaims({ issuer: context.issuer, role, user: context.user, tags, jti, now });
  const shortest = role.provider === "aws" ? CREDENTIAL_LIFE_MIN_SECONDS : 0;
  const durationSeconds = Math.max(shortest, Math.min(role.durationSeconds, end - now));
  const made = await exchange(role, {
    webIdentity: await signer.sign(claims),
    sessionName: sessionOf(owner),
    policy,
    durationSeconds,
    nowMs,
  });
  if (!made.ok) return made;
  const { secrets, expiresAt } = made.value;
  if (expiresAt < context.now() + CREDENTIAL_SERVE_MIN_MS) return err(ABSURD);
  if (role.provider === "aws" && expiresAt > nowMs + durationSeconds * 1000 + CLOCKS_MS) return err(ABSURD);
  // Clouds without a policy of ours: what would outlive the node is not handed out at all.
  if (role.provider !== "aws" && expiresAt > end * 1000 + 1_000)
    return err({ kind: "permanent", code: "outlives_node" });
  return ok({ secrets, expiresAt: Math.min(expiresAt, end * 1000) });
}
