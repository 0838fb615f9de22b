// Real tokens for simulated callers: minted under a secret of the simulation, narrowed offline, verified as at the edge.
import { createHash } from "node:crypto";
import type { EpochSeconds, Micros } from "../../core/ids.ts";
import { nestActors } from "../../core/token/chain.ts";
import { liveSecrets, sessionTokenKey, type TokenKey } from "../../core/token/keyring.ts";
import { parseSecret, type Secret } from "../../core/token/mac.ts";
import { narrowToken } from "../../core/token/mint.ts";
import { formatScope } from "../../core/token/scope.ts";
import { verifyToken, type VerifiedToken } from "../../core/token/verify.ts";
import type { GrantView } from "../../core/wire/answers.ts";

export const ISSUER = "http://127.0.0.1:8787";
const SECRET = createHash("sha256").update("legate simulated secret").digest("base64url");

/** One narrowing; the same `n` each time the token is renewed. */
export interface Step {
  readonly n: string;
  readonly act: string;
  readonly budget: Micros | null;
}

/** Who calls: a grant, and what was narrowed below it. */
export interface Caller {
  readonly grant: GrantView;
  readonly steps: readonly Step[];
}

let key: TokenKey | null = null;

export async function tokenOf({ grant, steps }: Caller, now: EpochSeconds): Promise<VerifiedToken> {
  key ??= await sessionTokenKey(await liveSecrets([parseSecret(SECRET) as Secret]), ISSUER);
  const act = nestActors(grant.actors);
  let text = await key.mint({
    sub: grant.subject,
    iat: now,
    exp: Math.min(now + 3_600, grant.expires) as EpochSeconds,
    jti: "simulated",
    gid: grant.path,
    scope: formatScope(grant.scope),
    client_id: grant.clientId,
    tier: grant.tier,
    ...(act === undefined ? {} : { act }),
  });
  for (const { n, act, budget } of steps)
    text = await narrowToken(
      text,
      { n, act, ...(budget === null ? {} : { budget }) },
      (length) => new Uint8Array(length),
    );
  const token = await verifyToken(text, key.verifier, now);
  if (!token.ok) throw new Error(`the simulation's own token is refused: ${JSON.stringify(token.denial)}`);
  return token.value;
}
