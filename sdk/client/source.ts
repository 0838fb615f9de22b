/**
 * Where a session's token comes from. A root has its agent's key and renews its window; a child narrows its parent's
 * token, always with the same `n`, so that it stays the same node of the tree when the parent renews.
 */
import { decodeObject, splitToken } from "../../core/token/format.ts";
import { narrowToken, type Narrowing } from "../../core/token/mint.ts";
import type { ClientCredentials } from "./credentials.ts";
import { LegateError } from "./errors.ts";

/** Renewed when less than this share of the window is left. */
const RENEW_LEAD = 1 / 3;

export interface TokenSource {
  readonly issuer: string;
  /** A token that holds for a while yet. */
  token(): Promise<string>;
  /** The token at hand, as it is. */
  readonly current: string;
  /** It was not taken, though its window holds: the next one is asked for first, once. */
  refused(token: string): void;
}

/** What a token says of itself, to whoever holds it; a holder can't verify it, and need not. */
export interface TokenFacts {
  /** Of its session and the grant's path below it. */
  readonly gid: string;
  readonly iat: number;
  readonly exp: number;
  /** The grant's path, and a segment for each block. */
  readonly node: string;
}

export function random(length: number): Uint8Array {
  return crypto.getRandomValues(new Uint8Array(length));
}

/** @throws LegateError `invalid_token` when the text is no session token */
export function readFacts(token: string): TokenFacts {
  const parts = splitToken(token);
  const claims = parts === null ? undefined : decodeObject(parts.payload)?.value;
  const { gid, iat, exp } = claims ?? {};
  if (parts === null || typeof gid !== "string" || typeof iat !== "number" || typeof exp !== "number")
    throw new LegateError("invalid_token", "This is not a Legate session token.");
  const segments = parts.blocks.map((block) => String(decodeObject(block)?.value["n"]));
  return { gid, iat, exp, node: [gid, ...segments].join(".") };
}

export class RootSource implements TokenSource {
  readonly issuer: string;
  readonly #credentials: ClientCredentials;
  #token: string;
  #renewal: Promise<void> | null = null;
  /** Refused, and not renewed since; and whether that was tried. */
  #refused: { readonly token: string; isTried: boolean } | null = null;

  constructor(credentials: ClientCredentials, token: string) {
    this.issuer = credentials.issuer;
    this.#credentials = credentials;
    this.#token = token;
    readFacts(token);
  }

  get current(): string {
    return this.#token;
  }

  async token(): Promise<string> {
    const { iat, exp } = readFacts(this.#token);
    const now = Date.now() / 1000;
    const isRefused = this.#refused?.token === this.#token && !this.#refused.isTried;
    if (this.#renewal === null && !isRefused && exp - now > (exp - iat) * RENEW_LEAD) return this.#token;
    if (isRefused && this.#refused !== null) this.#refused.isTried = true;
    // Whoever comes while a renewal runs waits for that one.
    this.#renewal ??= this.#renew().finally(() => (this.#renewal = null));
    try {
      await this.#renewal;
    } catch (error) {
      if (exp <= Date.now() / 1000) throw error; // until then the old one serves
    }
    return this.#token;
  }

  refused(token: string): void {
    if (this.#refused?.token !== token) this.#refused = { token, isTried: false };
  }

  async #renew(): Promise<void> {
    this.#token = await this.#credentials.exchange(this.#token);
  }

  end(): Promise<void> {
    return this.#credentials.revoke(this.#token);
  }
}

export class NarrowedSource implements TokenSource {
  readonly issuer: string;
  readonly #parent: TokenSource;
  readonly #narrowing: Narrowing;
  #last: { readonly parent: string; readonly token: string };

  private constructor(parent: TokenSource, narrowing: Narrowing, last: { parent: string; token: string }) {
    this.issuer = parent.issuer;
    this.#parent = parent;
    this.#narrowing = narrowing;
    this.#last = last;
  }

  /** @param narrowing with its `n`, which stays */
  static async from(source: TokenSource, narrowing: Narrowing & { readonly n: string }): Promise<NarrowedSource> {
    const parent = await source.token();
    return new NarrowedSource(source, narrowing, { parent, token: await narrowToken(parent, narrowing, random) });
  }

  get current(): string {
    return this.#last.token;
  }

  async token(): Promise<string> {
    const parent = await this.#parent.token();
    if (parent !== this.#last.parent)
      this.#last = { parent, token: await narrowToken(parent, this.#narrowing, random) };
    return this.#last.token;
  }

  refused(token: string): void {
    if (token === this.#last.token) this.#parent.refused(this.#last.parent);
  }
}
