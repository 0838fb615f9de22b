// Makes worker/auth/common-passwords.ts from a ranked list, one password a line, the most common first:
//   node scripts/common-passwords.ts RANKED.txt > worker/auth/common-passwords.ts
// Kept are the first 3,000 that the length rule would let through, as sorted 24-bit digests: a third of the text's size,
// and nobody has to read what people choose. One other password in 5,600 is refused by chance.
import { createHash } from "node:crypto";
import { readFileSync } from "node:fs";
import { PASSWORD_LENGTH_MIN } from "../core/limits.ts";

const COUNT = 3_000;
const DIGEST_BYTES = 3;

const file = process.argv[2];
if (file === undefined) throw new Error("Name the ranked list: node scripts/common-passwords.ts RANKED.txt");
const ranked = readFileSync(file, "utf8")
  .split("\n")
  .map((line) => line.trim().toLowerCase())
  .filter((word) => Array.from(word).length >= PASSWORD_LENGTH_MIN);
const digests = [...new Set(ranked)]
  .slice(0, COUNT)
  .map((word) => createHash("sha256").update(word).digest().subarray(0, DIGEST_BYTES));
const packed = Buffer.concat(digests.sort(Buffer.compare)).toString("base64url");
process.stdout.write(`/**
 * The ${COUNT} most common passwords of ${PASSWORD_LENGTH_MIN} characters and more (OWASP ASVS 5.0, 6.2.4), from the ranked list in zxcvbn 4.4.2
 * (Dropbox, MIT licence), which was drawn from published leaks. Written by scripts/common-passwords.ts: the first three
 * bytes of the SHA-256 of each in lower case, sorted, in base64url. Not to be edited.
 */
export const COMMON_PASSWORDS =
  "${packed}";
`);
