/**
 * The isolate's memory of verified tokens: least recently used goes first, bounded in all and per session. Looked up by
 * the last signature, a hit only if every byte is equal and the window still holds. What is kept are values; ids, never
 * token strings, name anything outside of it.
 */
import type { EpochSeconds, SessionId } from "../ids.ts";
import { REMEMBERED_TOKENS_MAX, REMEMBERED_TOKENS_SESSION_MAX } from "../limits.ts";
import { SIGNATURE_LENGTH } from "./mac.ts";
import type { VerifiedToken } from "./verify.ts";

interface Entry {
  readonly text: string;
  readonly token: VerifiedToken;
  newer: Entry | null;
  older: Entry | null;
}

export class RememberedTokens {
  readonly #entries = new Map<string, Entry>();
  readonly #perSession = new Map<SessionId, number>();
  #newest: Entry | null = null;
  #oldest: Entry | null = null;

  get size(): number {
    return this.#entries.size;
  }

  /** @returns the token if these very bytes were verified before and have not expired */
  lookup(text: string, now: EpochSeconds): VerifiedToken | null {
    const entry = this.#entries.get(text.slice(-SIGNATURE_LENGTH));
    if (entry === undefined || entry.text !== text) return null;
    if (entry.token.exp <= now) {
      this.#forget(entry);
      return null;
    }
    if (entry !== this.#newest) {
      this.#unlink(entry);
      this.#link(entry);
    }
    return entry.token;
  }

  remember(text: string, token: VerifiedToken): void {
    const signature = text.slice(-SIGNATURE_LENGTH);
    const known = this.#entries.get(signature);
    if (known !== undefined) this.#forget(known);
    const count = this.#perSession.get(token.session) ?? 0;
    if (count >= REMEMBERED_TOKENS_SESSION_MAX) this.#forgetOldestOf(token.session);
    else if (this.#entries.size >= REMEMBERED_TOKENS_MAX && this.#oldest !== null) this.#forget(this.#oldest);
    const entry: Entry = { text, token, newer: null, older: null };
    this.#entries.set(signature, entry);
    this.#perSession.set(token.session, (this.#perSession.get(token.session) ?? 0) + 1);
    this.#link(entry);
  }

  #forgetOldestOf(session: SessionId): void {
    for (let entry = this.#oldest; entry !== null; entry = entry.newer) {
      if (entry.token.session === session) return this.#forget(entry);
    }
  }

  #forget(entry: Entry): void {
    this.#unlink(entry);
    this.#entries.delete(entry.text.slice(-SIGNATURE_LENGTH));
    const left = (this.#perSession.get(entry.token.session) ?? 1) - 1;
    if (left === 0) this.#perSession.delete(entry.token.session);
    else this.#perSession.set(entry.token.session, left);
  }

  #link(entry: Entry): void {
    entry.older = this.#newest;
    entry.newer = null;
    if (this.#newest !== null) this.#newest.newer = entry;
    this.#newest = entry;
    this.#oldest ??= entry;
  }

  #unlink(entry: Entry): void {
    if (entry.newer === null) this.#newest = entry.older;
    else entry.newer.older = entry.older;
    if (entry.older === null) this.#oldest = entry.newer;
    else entry.older.newer = entry.newer;
  }
}
