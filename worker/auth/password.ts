/**
 * Passwords: what may be one, how it is kept, and whether one fits. Kept is a PHC string of scrypt with its parameters
 * in it, so that they can be raised and old rows be noticed; bcrypt strings that were imported fit too, and are replaced
 * at the next sign-in. A password is compared exactly as it came: no trimming, no folding, no cutting (OWASP ASVS 5.0,
 * 6.2.8). Nothing here logs or returns one.
 */
import { createHash, scrypt, timingSafeEqual } from "node:crypto";
import { decodeBase64url } from "../../core/base64url.ts";
import type { RandomBytes } from "../../core/ids.ts";
import { PASSWORD_LENGTH_MAX, PASSWORD_LENGTH_MIN } from "../../core/limits.ts";
import { COMMON_PASSWORDS } from "./common-passwords.ts";

interface ScryptParameters {
  /** log2 of N. */
  readonly ln: number;
  readonly r: number;
  readonly p: number;
}

/** 32 MiB and some 90 ms: as much memory as an isolate of 128 MB can give to a few sign-ins at a time. */
const CURRENT: ScryptParameters = { ln: 15, r: 8, p: 1 };
const SALT_BYTES = 16;
const HASH_BYTES = 32;
/** Imported rows may ask for this much, no more: N=2^16 with r=8, half an isolate. */
const SCRYPT_MEMORY_MAX_BYTES = 64 * 1024 * 1024;
/** Low bits of a gap between the digests of common passwords. */
const RICE_BITS = 12;

const B64 = "[A-Za-z0-9+/]";
const SCRYPT_PATTERN = new RegExp(
  `^\\$scrypt\\$ln=(\\d{1,2}),r=(\\d{1,2}),p=(\\d)\\$(${B64}{11,86})\\$(${B64}{22,86})$`,
);
/** Cost 14 is 1.4 s here; more would hold an isolate up. */
const BCRYPT_PATTERN = /^\$2[ab]\$(?:0[4-9]|1[0-4])\$[./A-Za-z0-9]{53}$/;

interface ScryptHash extends ScryptParameters {
  readonly salt: Buffer;
  readonly hash: Buffer;
}

/** Takes as long as any other, fits nothing: what a name without a row is compared with. */
const NOBODY: ScryptHash = { ...CURRENT, salt: Buffer.alloc(SALT_BYTES), hash: Buffer.alloc(HASH_BYTES) };

function parseScrypt(text: string): ScryptHash | null {
  const [, ln, r, p, salt, hash] = SCRYPT_PATTERN.exec(text) ?? [];
  if (salt === undefined || hash === undefined) return null;
  const parameters = { ln: Number(ln), r: Number(r), p: Number(p) };
  const memory = 128 * 2 ** parameters.ln * parameters.r;
  if (parameters.ln < 10 || parameters.r < 1 || parameters.p < 1 || memory > SCRYPT_MEMORY_MAX_BYTES) return null;
  return { ...parameters, salt: Buffer.from(salt, "base64"), hash: Buffer.from(hash, "base64") };
}

/** True of hashes that `passwordFits` can check: what an import takes. */
export function isPasswordHash(text: string): boolean {
  return BCRYPT_PATTERN.test(text) || parseScrypt(text) !== null;
}

function derive(password: string, salt: Buffer, length: number, { ln, r, p }: ScryptParameters): Promise<Buffer> {
  return new Promise((resolve, reject) => {
    // Node counts a little more than 128·N·r; its own default of 32 MiB refuses N=2^15.
    const maxmem = 128 * 2 ** ln * r + 1024 * 1024;
    scrypt(password, salt, length, { N: 2 ** ln, r, p, maxmem }, (error, key) =>
      error === null ? resolve(key) : reject(error),
    );
  });
}

const unpadded = (bytes: Buffer) => bytes.toString("base64").replace(/=+$/, "");

/** @returns the PHC string to keep */
export async function hashPassword(password: string, random: RandomBytes): Promise<string> {
  const salt = Buffer.from(random(SALT_BYTES));
  const hash = await derive(password, salt, HASH_BYTES, CURRENT);
  return `$scrypt$ln=${CURRENT.ln},r=${CURRENT.r},p=${CURRENT.p}$${unpadded(salt)}$${unpadded(hash)}`;
}

export interface Fit {
  readonly fits: boolean;
  /** It fits, but is kept in another way than `hashPassword` would today. */
  readonly isOutdated: boolean;
}

/**
 * @param stored what is kept for the name; null where nobody has that name: as much work, and never a fit
 */
export async function passwordFits(password: string, stored: string | null): Promise<Fit> {
  if (stored !== null && BCRYPT_PATTERN.test(stored))
    return { fits: await (await import("./bcrypt.ts")).bcryptFits(password, stored), isOutdated: true };
  const known = stored === null ? null : parseScrypt(stored);
  const against = known ?? NOBODY;
  const derived = await derive(password, against.salt, against.hash.length, against);
  const fits = timingSafeEqual(derived, against.hash) && known !== null;
  const isOutdated = against.ln !== CURRENT.ln || against.r !== CURRENT.r || against.p !== CURRENT.p;
  return { fits, isOutdated };
}

/**
 * Walks the sorted digests, which are written as gaps (scripts/common-passwords.ts): a rare question, and a
 * fifth of a millisecond for all of them.
 */
function isCommon(password: string): boolean {
  const bytes = decodeBase64url(COMMON_PASSWORDS) ?? new Uint8Array();
  const wanted = createHash("sha256").update(password.toLowerCase()).digest().readUIntBE(0, 3);
  const end = bytes.length * 8;
  const bit = (at: number) => ((bytes[at >> 3] ?? 0) >> (7 - (at & 7))) & 1;
  let digest = 0;
  for (let at = 0; at < end;) {
    while (at < end && bit(at++) === 1) digest += 1 << RICE_BITS;
    let low = 0;
    for (let i = 0; i < RICE_BITS; i++) low = (low << 1) | bit(at++);
    digest += low;
    if (digest >= wanted) return digest === wanted;
  }
  return false;
}

/** @returns why a new password can't be one, as a sentence for the person, or null */
export function passwordProblem(password: string, username: string): string | null {
  const { length } = Array.from(password);
  if (length < PASSWORD_LENGTH_MIN || length > PASSWORD_LENGTH_MAX)
    return `"password": ${PASSWORD_LENGTH_MIN} to ${PASSWORD_LENGTH_MAX} characters.`;
  if (!password.isWellFormed()) return '"password": not well-formed Unicode.';
  if (password.toLowerCase() === username.toLowerCase()) return '"password": not the username itself.';
  return isCommon(password) ? '"password": one of the most common passwords; choose another.' : null;
}
