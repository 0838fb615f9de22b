/**
 * bcrypt (Provos and Mazières, 1999), to check hashes that were imported and nothing else: none is made here. Alone in a
 * module that most deployments never load. Blowfish's first state is the fraction of π, so it is computed when it is first
 * needed; a table of it would be a twentieth of the edge (docs/decisions/022-the-edge-is-larger-than-its-goal.md).
 */
import { Buffer } from "node:buffer";
import { timingSafeEqual } from "node:crypto";

const PASSWORD_MAX_BYTES = 72;
const P_WORDS = 18;
const S_WORDS = 4 * 256;
const HASH_BYTES = 23;
const ENCRYPTIONS = 64;
const MAGIC = "OrpheanBeholderScryDoubt";
/** Rounds between two turns for the isolate's other requests: some 10 ms. */
const ROUNDS_A_TURN = 64;
const ALPHABET = "./ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789";
const BASE64 = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

/** P and, behind it, the four S. */
type State = Uint32Array;
let initial: State | null = null;
const NO_SALT = new Uint32Array(4);

/** The first words of π's fraction, by the series of the Chudnovskys: 14 digits a term, with 64 bits more than are kept. */
function fractionOfPi(words: number): State {
  const bits = BigInt(32 * words + 64);
  let linear = 0n;
  let sum = 0n;
  for (let k = 0n, term = 1n << bits; term !== 0n;) {
    sum += term;
    linear += k * term;
    k++;
    term = (term * -(6n * k - 5n) * (2n * k - 1n) * (6n * k - 1n)) / (k ** 3n * (640320n ** 3n / 24n));
  }
  const pi = ((426880n * rootOf(10005n, bits)) << bits) / (13591409n * sum + 545140134n * linear);
  const hex = ((pi >> 64n) & ((1n << (bits - 64n)) - 1n)).toString(16).padStart(8 * words, "0");
  return Uint32Array.from({ length: words }, (_, i) => parseInt(hex.slice(8 * i, 8 * i + 8), 16));
}

/** Newton's square root in fixed point; each step doubles the bits that are right, of the 50 that a number begins with. */
function rootOf(value: bigint, bits: bigint): bigint {
  const square = value << (2n * bits);
  let root = BigInt(Math.floor(Math.sqrt(Number(value)) * 2 ** 44)) << (bits - 44n);
  for (let right = 40n; right < bits; right *= 2n) root = (root + square / root) >> 1n;
  return root;
}

const at = (words: Uint32Array, index: number) => words[index] ?? 0;

/** Blowfish's sixteen rounds over the two words from `from` on. */
function encipher(state: State, block: Uint32Array, from: number): void {
  let left = at(block, from) ^ at(state, 0);
  let right = at(block, from + 1);
  for (let i = 1; i <= 16; i++) {
    const a = at(state, P_WORDS + (left >>> 24));
    const b = at(state, P_WORDS + 256 + ((left >>> 16) & 255));
    const c = at(state, P_WORDS + 512 + ((left >>> 8) & 255));
    const d = at(state, P_WORDS + 768 + (left & 255));
    const next = right ^ (((a + b) ^ c) + d) ^ at(state, i);
    right = left;
    left = next;
  }
  block[from] = right ^ at(state, 17);
  block[from + 1] = left;
}

/** The key into P, then each word of the state out of the cipher itself; the salt, where there is one, stirs it. */
function expand(state: State, key: Uint32Array, salt: Uint32Array): void {
  for (let i = 0; i < P_WORDS; i++) state[i] = at(state, i) ^ at(key, i % key.length);
  const block = new Uint32Array(2);
  for (let i = 0; i < P_WORDS + S_WORDS; i += 2) {
    block[0] = at(block, 0) ^ at(salt, i % salt.length);
    block[1] = at(block, 1) ^ at(salt, (i + 1) % salt.length);
    encipher(state, block, 0);
    state.set(block, i);
  }
}

/** Big-endian words, the bytes over and over. */
function wordsOf(bytes: Uint8Array, words: number): Uint32Array {
  const round = new DataView(Uint8Array.from({ length: 4 * words }, (_, i) => bytes[i % bytes.length] ?? 0).buffer);
  return Uint32Array.from({ length: words }, (_, i) => round.getUint32(4 * i));
}

function decode(text: string): Buffer {
  return Buffer.from(
    text.replace(/./g, (character) => BASE64.charAt(ALPHABET.indexOf(character))),
    "base64",
  );
}

async function bcrypt(password: string, salt: Buffer, cost: number): Promise<Buffer> {
  const state = (initial ??= fractionOfPi(P_WORDS + S_WORDS)).slice();
  const key = wordsOf(Buffer.from(`${password}\0`), P_WORDS);
  const salted = wordsOf(salt, 4);
  expand(state, key, salted);
  for (let round = 0; round < 2 ** cost; round++) {
    expand(state, key, NO_SALT);
    expand(state, salted, NO_SALT);
    if (round % ROUNDS_A_TURN === ROUNDS_A_TURN - 1) await new Promise((resolve) => setTimeout(resolve));
  }
  const block = wordsOf(Buffer.from(MAGIC), MAGIC.length / 4);
  for (let i = 0; i < ENCRYPTIONS; i++) for (let from = 0; from < block.length; from += 2) encipher(state, block, from);
  const bytes = Buffer.alloc(MAGIC.length);
  block.forEach((word, i) => bytes.writeUInt32BE(word, 4 * i));
  return bytes.subarray(0, HASH_BYTES);
}

/**
 * bcrypt reads 72 bytes and, in many implementations, stops at a NUL: a longer password would fit with any ending, so it
 * never fits here. Whoever had one is given a new hash by `npm run users -- import`.
 *
 * @param stored `$2a$` or `$2b$`, two digits of cost, 22 characters of salt and 31 of hash, as `BCRYPT_PATTERN` has it
 */
export async function bcryptFits(password: string, stored: string): Promise<boolean> {
  const [, , cost, tail = ""] = stored.split("$");
  const isExact = Buffer.byteLength(password) <= PASSWORD_MAX_BYTES && !password.includes("\0");
  const hash = await bcrypt(password, decode(tail.slice(0, 22)), Number(cost));
  return timingSafeEqual(hash, decode(tail.slice(22))) && isExact;
}
