/** What is asked of a user's SessionAuthority about credentials of clouds and foreign identities; a part of AuthorityRpc. */
import type { Provider } from "../credential/roles.ts";
import type { Secrets } from "../credential/sts.ts";
import type { Denial } from "../denial.ts";
import type { EpochMs } from "../ids.ts";
import type { Result } from "../result.ts";
import type { VerifiedToken } from "../token/verify.ts";
import type { GrantView } from "./answers.ts";
import type { OpenSession } from "./questions.ts";

export interface CredentialQuestion {
  readonly token: VerifiedToken;
  readonly provider: Provider;
  readonly alias: string;
}

/** Secret: only the answer that hands it over, and the proxy that signs with it, may hold one. */
export interface CredentialView {
  readonly secrets: Secrets;
  /** When it ends: its own end or its node's, whichever comes first. */
  readonly expiresAt: EpochMs;
}

/** A session by a foreign token that the edge verified; the object uses it up. */
export interface OpenForeign {
  readonly issuer: string;
  readonly jti: string;
  /** When the token would be refused for its age anyway. */
  readonly usedUntil: EpochMs;
  readonly open: OpenSession;
}

export interface CredentialsRpc {
  credentials(question: CredentialQuestion): Promise<Result<CredentialView, Denial>>;
  openForeign(question: OpenForeign): Promise<Result<GrantView, Denial>>;
}

/** What an agents' Worker asks over its service binding, beside AuthorityServiceRpc, with the delegation it was given. */
export interface CredentialServiceRpc {
  credentials(question: {
    alias: string;
    /** A token, such as `Legate-Delegation`. */
    token: string;
    /** `aws` unless said. */
    provider?: Provider;
  }): Promise<Result<CredentialView, Denial>>;
}
