/**
 * `npm run vectors`: writes test/vectors/*.json, which core's tests and the SDKs' eat alike. Everything in them follows
 * from fixed secrets, so that the same program writes the same bytes on any machine; `--check` only compares.
 */
import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { LABEL } from "../core/token/mac.ts";
import { base64url, derive, fixedBytes, kidOf } from "../test/support/forge.ts";
import * as fixed from "../test/support/deployment.ts";
import { invalidBlocks } from "./vectors/blocks.ts";
import { invalidBytes } from "./vectors/bytes.ts";
import { invalidClaims } from "./vectors/claims.ts";
import { keyOf, LABELS, type TokenVectors } from "./vectors/shared.ts";
import { validVectors } from "./vectors/valid.ts";

const { AUDIENCE, ISSUER, KEYS, SECRETS } = fixed;

function base64urlVectors() {
  const bytes = [
    [],
    [0],
    [255],
    [0, 0],
    [255, 255],
    [0, 0, 0],
    [251, 239, 190],
    [255, 224, 63, 255],
    [...fixedBytes("base64url")],
  ];
  return {
    about:
      "Canonical base64url (RFC 4648 §5, no padding): `valid` are all spellings there are of those bytes (hex), `invalid` are none.",
    valid: bytes.map((list) => ({
      hex: Buffer.from(list).toString("hex"),
      text: Buffer.from(list).toString("base64url"),
    })),
    invalid: [
      "A",
      "AAAAA",
      "AB",
      "AAB",
      "A_",
      "AA_",
      "//8",
      "++8",
      "AA=",
      "AA==",
      "AAA=",
      "A A",
      " AA",
      "AA ",
      "AA\n",
      "AA\u0000",
      "AA.A",
      "éAAA",
      "AAAé",
      "Ā",
      "AA\ud800",
      "AA\ufeff",
      "ＡＡ",
    ],
  };
}

function keyVectors() {
  const secrets = Object.entries(SECRETS).map(([name, secret]) => ({
    name,
    secret: base64url(secret),
    kid: kidOf(secret),
    derived: [
      LABEL.audience(ISSUER),
      LABEL.audience(AUDIENCE),
      LABEL.cookie,
      LABEL.identity("legate-agents"),
      LABEL.connection,
      LABEL.cursor,
      LABEL.device,
    ].map((label) => ({ label, key: base64url(derive(secret, label)) })),
  }));
  return {
    about:
      "HKDF-SHA256 (RFC 5869) of a root secret, empty salt, 32 bytes, info = label. The kid is the first eight characters of the key for legate/1/use/kid.",
    secrets,
  };
}

function idVectors() {
  const { ALICE, BOB, PLANNER, SEARCHER, BOBS_AGENT, SESSION, BOBS_SESSION } = fixed;
  const valid = { ALICE, BOB, PLANNER, SEARCHER, BOBS_AGENT, SESSION, BOBS_SESSION };
  const flip = (id: string) => id.slice(0, -1) + (id.endsWith("a") ? "b" : "a");
  return {
    about:
      "Ids under LEGATE_ID_KEY. The tag is the last eight characters: the low five bits of each of the first eight bytes of HMAC-SHA256(key, all before it).",
    idKey: base64url(fixed.ID_KEY),
    valid: Object.values(valid),
    invalid: Object.values(valid).flatMap((id) => [
      flip(id),
      id.toUpperCase(),
      ` ${id}`,
      `${id} `,
      id.slice(0, -1),
      `${id}a`,
      id.replace("_", "-"),
    ]),
  };
}

/** @returns file name → text */
export async function makeVectors(): Promise<Record<string, string>> {
  const verifierOf = (name: fixed.VerifierName) => ({
    audience: LABELS[name].audience,
    lifeMaxSeconds: KEYS[name].verifier.lifeMaxSeconds,
    keys: [SECRETS.current, SECRETS.also].map((secret) => `${kidOf(secret)}.${base64url(keyOf(name, secret))}`),
  });
  const verifiers = {
    session: verifierOf("session"),
    cookie: verifierOf("cookie"),
    audience: verifierOf("audience"),
    other: verifierOf("other"),
  };
  const tokens: TokenVectors = {
    about:
      "Session tokens (docs/token.md). `keys` are `kid.key`; every token is checked at its own `now` (epoch seconds). Made by scripts/vectors.ts; the secrets are public and protect nothing.",
    issuer: ISSUER,
    verifiers,
    valid: await validVectors(),
    invalid: [...(await invalidBytes()), ...(await invalidClaims()), ...(await invalidBlocks())],
  };
  const text = (value: unknown) => `${JSON.stringify(value, null, 2)}\n`;
  return {
    "tokens.json": text(tokens),
    "base64url.json": text(base64urlVectors()),
    "keys.json": text(keyVectors()),
    "ids.json": text(idVectors()),
  };
}

export const VECTORS_DIR = join(import.meta.dirname, "../test/vectors");

if (import.meta.main) {
  const check = process.argv.includes("--check");
  for (const [name, text] of Object.entries(await makeVectors())) {
    const path = join(VECTORS_DIR, name);
    if (!check) writeFileSync(path, text);
    else if (readFileSync(path, "utf8") !== text) {
      console.error(
        `test/vectors/${name} is not what scripts/vectors.ts writes; run npm run vectors and look at the difference.`,
      );
      process.exitCode = 1;
    }
  }
}
