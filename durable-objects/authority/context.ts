/**
 * What every capability of SessionAuthority is given: the database, named sources of time and randomness, and the one way
 * to change anything. `decide` runs a synchronous decision in one transaction: a denial rolls all of it back, and what
 * lives in memory moves only after the commit, so memory never runs ahead of storage (threats.md I19). No await inside.
 */
import { createHash } from "node:crypto";
import { openAuthority, type AuthorityDb } from "../../drizzle/authority/open.ts";
import type { LegateConfig } from "../../core/config.ts";
import type { Denial } from "../../core/denial.ts";
import type { EpochMs, IdMac, RandomBytes, UserId } from "../../core/ids.ts";
import type { Result } from "../../core/result.ts";

export type Db = AuthorityDb;

/** Thrown to roll a transaction back, caught where it was begun; the denial is its value. */
class Rollback extends Error {}

export class Context {
  readonly user: UserId;
  readonly db: Db;
  readonly config: LegateConfig;
  readonly issuer: string;
  readonly random: RandomBytes;
  readonly idMac: IdMac;
  readonly #storage: DurableObjectStorage;
  #moves: (() => void)[] = [];

  constructor(given: {
    user: UserId;
    storage: DurableObjectStorage;
    config: LegateConfig;
    issuer: string;
    random: RandomBytes;
    idMac: IdMac;
  }) {
    this.user = given.user;
    this.#storage = given.storage;
    this.config = given.config;
    this.issuer = given.issuer;
    this.random = given.random;
    this.idMac = given.idMac;
    this.db = openAuthority(given.storage);
  }

  /** The object's clock; the only place that reads it. */
  now(): EpochMs {
    return Date.now() as EpochMs;
  }

  /**
   * A query of the hot path, built at its first use and kept for this life of the object: building one costs several
   * times what running it does.
   */
  prepared<Q>(build: (db: Db) => { prepare(): Q }): () => Q {
    let made: Q | undefined;
    return () => (made ??= build(this.db).prepare());
  }

  sha256(text: string): string {
    return createHash("sha256").update(text).digest("hex");
  }

  /** Memory that follows a commit; dropped with the transaction. */
  afterCommit(move: () => void): void {
    this.#moves.push(move);
  }

  /**
   * @param decision synchronous; every read and write of one act
   * @returns what it decided; nothing of it was written unless that is `ok`
   */
  decide<T>(decision: () => Result<T, Denial>): Result<T, Denial> {
    this.#moves = [];
    let outcome: Result<T, Denial> | null = null;
    try {
      this.#storage.transactionSync(() => {
        outcome = decision();
        if (!outcome.ok) throw new Rollback();
      });
    } catch (thrown) {
      this.#moves = [];
      if (!(thrown instanceof Rollback)) throw thrown;
    }
    const moves = this.#moves;
    this.#moves = [];
    for (const move of moves) move();
    return outcome as unknown as Result<T, Denial>;
  }

  /** A change that nothing refuses. */
  commit(change: () => void): void {
    this.decide<null>(() => {
      change();
      return { ok: true, value: null };
    });
  }
}
