/**
 * Sessions by tokens of foreign issuers: each token starts one session, once. The edge has verified it; that it is used
 * up is decided here, in the object of the user whom the issuer's entry names, before anything is opened.
 */
import { and, eq, lt } from "drizzle-orm";
import type { Denial } from "../../core/denial.ts";
import { err, ok, type Result } from "../../core/result.ts";
import type { OpenForeign } from "../../core/wire/credentials.ts";
import type { GrantView } from "../../core/wire/answers.ts";
import * as t from "../../drizzle/authority/credential-tables.ts";
import type { Context } from "./context.ts";
import type { Sessions } from "./sessions.ts";

export class ForeignSessions {
  readonly #context: Context;
  readonly #sessions: Sessions;

  constructor(context: Context, sessions: Sessions) {
    this.#context = context;
    this.#sessions = sessions;
  }

  /** @returns the session's root grant, or `grant_invalid` for a token that was used before */
  open({ issuer, jti, usedUntil, open }: OpenForeign): Result<GrantView, Denial> {
    const consumed = this.#context.decide<null>(() => {
      const { db } = this.#context;
      db.delete(t.foreignTokens).where(lt(t.foreignTokens.expiresAt, this.#context.now())).run();
      const used = db
        .select({ jti: t.foreignTokens.jti })
        .from(t.foreignTokens)
        .where(and(eq(t.foreignTokens.issuer, issuer), eq(t.foreignTokens.jti, jti)))
        .get();
      if (used !== undefined) return err({ reason: "grant_invalid", fault: "replayed" });
      db.insert(t.foreignTokens).values({ issuer, jti, expiresAt: usedUntil }).run();
      return ok(null);
    });
    return consumed.ok ? this.#sessions.open(open) : consumed;
  }
}
