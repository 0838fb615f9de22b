/**
 * Where credentials are kept: a port with two sides. Memory alone forgets with the object. The sealed one writes them
 * into SQLite too, AES-256-GCM under a key for this purpose alone, with the cache key as associated data, so that a row
 * is good in its own place only. What cannot be opened is a miss, never an error: a rotated secret costs an exchange.
 */
import { createCipheriv, createDecipheriv, hkdfSync } from "node:crypto";
import { eq } from "drizzle-orm";
import type { Secrets } from "../../core/credential/sts.ts";
import type { RandomBytes } from "../../core/ids.ts";
import { LABEL } from "../../core/token/mac.ts";
import * as t from "../../drizzle/authority/credential-tables.ts";
import type { Db } from "./context.ts";

export interface CredentialStore {
  get(key: string): Secrets | null;
  /** Call inside a decision, after the entry's row was written; memory follows with `keep`. */
  put(key: string, secrets: Secrets): void;
  keep(key: string, secrets: Secrets): void;
  /** Memory's side; what is in SQLite goes with its row. */
  forget(key: string): void;
}

export class MemoryStore implements CredentialStore {
  readonly #kept = new Map<string, Secrets>();

  get(key: string): Secrets | null {
    return this.#kept.get(key) ?? null;
  }
  put(): void {
    // Nothing of it rests anywhere.
  }
  keep(key: string, secrets: Secrets): void {
    this.#kept.set(key, secrets);
  }
  forget(key: string): void {
    this.#kept.delete(key);
  }
}

export class SealedStore implements CredentialStore {
  readonly #memory = new MemoryStore();
  readonly #db: Db;
  readonly #vault: Vault;

  constructor(db: Db, vault: Vault) {
    this.#db = db;
    this.#vault = vault;
  }

  get(key: string): Secrets | null {
    const known = this.#memory.get(key);
    if (known !== null) return known;
    const row = this.#db
      .select({ sealed: t.credentials.sealed, kid: t.credentials.kid })
      .from(t.credentials)
      .where(eq(t.credentials.key, key))
      .get();
    const text = row?.sealed && row.kid ? this.#vault.open(key, row.kid, row.sealed) : null;
    if (text === null) return null;
    const secrets = JSON.parse(text) as Secrets;
    this.#memory.keep(key, secrets);
    return secrets;
  }
  put(key: string, secrets: Secrets): void {
    this.#db
      .update(t.credentials)
      .set(this.#vault.seal(key, JSON.stringify(secrets)))
      .where(eq(t.credentials.key, key))
      .run();
  }
  keep(key: string, secrets: Secrets): void {
    this.#memory.keep(key, secrets);
  }
  forget(key: string): void {
    this.#memory.forget(key);
  }
}

const NONCE_BYTES = 12;
const TAG_BYTES = 16;

/** Seals with the signing secret's derived key; opens with that of any live secret (DESIGN.md §3, Rotation). */
export class Vault {
  readonly #random: RandomBytes;
  readonly #keys: ReadonlyMap<string, Buffer>;
  readonly #kid: string;

  /** @param roots LEGATE_SECRET, then LEGATE_SECRET_ALSO, as bytes */
  constructor(roots: readonly Uint8Array[], random: RandomBytes) {
    this.#random = random;
    const derive = (root: Uint8Array, label: string) => Buffer.from(hkdfSync("sha256", root, "", label, 32));
    this.#keys = new Map(
      roots.map((root) => [derive(root, LABEL.kid).toString("base64url").slice(0, 8), derive(root, LABEL.credentials)]),
    );
    this.#kid = [...this.#keys.keys()][0] ?? "";
  }

  seal(key: string, text: string): { kid: string; sealed: string } {
    const nonce = this.#random(NONCE_BYTES);
    const cipher = createCipheriv("aes-256-gcm", this.#keys.get(this.#kid) as Buffer, nonce);
    cipher.setAAD(Buffer.from(key));
    const body = Buffer.concat([cipher.update(text, "utf8"), cipher.final()]);
    return { kid: this.#kid, sealed: Buffer.concat([nonce, body, cipher.getAuthTag()]).toString("base64") };
  }

  open(key: string, kid: string, sealed: string): string | null {
    const secret = this.#keys.get(kid);
    const bytes = Buffer.from(sealed, "base64");
    if (secret === undefined || bytes.length < NONCE_BYTES + TAG_BYTES) return null;
    try {
      const opener = createDecipheriv("aes-256-gcm", secret, bytes.subarray(0, NONCE_BYTES));
      opener.setAAD(Buffer.from(key));
      opener.setAuthTag(bytes.subarray(-TAG_BYTES));
      const body = bytes.subarray(NONCE_BYTES, -TAG_BYTES);
      return Buffer.concat([opener.update(body), opener.final()]).toString("utf8");
    } catch {
      return null;
    }
  }
}
