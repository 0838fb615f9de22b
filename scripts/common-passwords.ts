// Makes worker/auth/common-passwords.ts from a ranked list, one password a line, the most common first:
//   node scripts/common-passwords.ts RANKED.txt > worker/auth/common-passwords.ts
// Kept are the first 3,000 that the length rule would let through, as sorted 24-bit digests, and of those the gaps: a
// quarter of the text's size, and nobody has to read what people choose. One other password in 5,600 is refused by chance.
import { createHash } from "node:crypto";
import { readFileSync } from "node:fs";
import { PASSWORD_LENGTH_MIN } from "../core/limits.ts";

const COUNT = 3_000;
/** A gap is a Rice code: the part above these bits in unary, then these bits. The mean gap is 2^24 / 3,000, some 2^12.4. */
const LOW_BITS = 12;

const file = process.argv[2];
if (file === undefined) throw new Error("Name the ranked list: node scripts/common-passwords.ts RANKED.txt");
const ranked = readFileSync(file, "utf8")
  .split("\n")
  .map((line) => line.trim().toLowerCase())
  .filter((word) => Array.from(word).length >= PASSWORD_LENGTH_MIN);
const digests = [...new Set(ranked)]
  .slice(0, COUNT)
  .map((word) => createHash("sha256").update(word).digest().readUIntBE(0, 3));

let bits = "";
let before = 0;
for (const digest of new Set(digests.toSorted((a, b) => a - b))) {
  const gap = digest - before;
  before = digest;
  bits += `${"1".repeat(gap >> LOW_BITS)}0${(gap & ((1 << LOW_BITS) - 1)).toString(2).padStart(LOW_BITS, "0")}`;
}
// Ones to the end of the last byte: a code that never ends.
const bytes = Buffer.from(
  (bits.padEnd(Math.ceil(bits.length / 8) * 8, "1").match(/.{8}/g) ?? []).map((byte) => parseInt(byte, 2)),
);
process.stdout.write(`/**
 * The ${COUNT} most common passwords of ${PASSWORD_LENGTH_MIN} characters and more (OWASP ASVS 5.0, 6.2.4), from the ranked list in zxcvbn 4.4.2
 * (Dropbox, MIT licence), which was drawn from published leaks. Written by scripts/common-passwords.ts: the first three
 * bytes of the SHA-256 of each in lower case, sorted; the gaps between them as Rice codes with twelve low bits, in
 * base64url. Not to be edited.
 */
export const COMMON_PASSWORDS =
  "${bytes.toString("base64url")}";
`);
