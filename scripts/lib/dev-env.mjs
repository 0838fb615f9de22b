// The development secrets: made once for each state folder, readable by their maker only, never in git.
import { hkdfSync, randomBytes } from "node:crypto";
import { existsSync, mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { newOidcKey } from "./oidc-key.mjs";
import { Sentence } from "./term.mjs";

const random = (bytes) => randomBytes(bytes).toString("base64url");

/** The key with which Legate signs identities for one agents' Worker: DESIGN's label for a purpose, and the Worker's name. */
export function deriveIdentityKey(secret, worker) {
  const key = hkdfSync("sha256", Buffer.from(secret, "base64url"), "", `legate/1/use/identity/${worker}`, 32);
  return Buffer.from(key).toString("base64url");
}

/** @returns {Record<string, string>} */
function freshSecrets() {
  const secret = random(32);
  return {
    LEGATE_SECRET: secret,
    LEGATE_SECRET_ALSO: "",
    LEGATE_ID_KEY: random(32),
    LEGATE_OIDC_KEYS: JSON.stringify([newOidcKey()]),
    LEGATE_BOOTSTRAP: `${Math.floor(Date.now() / 1000)}.${random(18)}`,
    LEGATE_IDENTITY_KEY: deriveIdentityKey(secret, "legate-agents"),
  };
}

/** Reads NAME='value' lines. */
function parse(text) {
  const entries = text.split("\n").filter((line) => /^[A-Z_]+=/.test(line));
  return Object.fromEntries(
    entries.map((line) => {
      const at = line.indexOf("=");
      return [line.slice(0, at), line.slice(at + 1).replace(/^'(.*)'$/, "$1")];
    }),
  );
}

/**
 * The secrets of one state folder; made at its first use.
 * @param {string} stateDir
 * @returns {{file: string, secrets: Record<string, string>, isNew: boolean}}
 */
export function devEnv(stateDir) {
  const file = join(stateDir, "dev.env");
  const isNew = !existsSync(file);
  if (isNew) {
    mkdirSync(stateDir, { recursive: true, mode: 0o700 });
    const lines = Object.entries(freshSecrets()).map(([name, value]) => `${name}='${value}'\n`);
    // "wx": of two starts at once, one makes the file and the other stops instead of overwriting it.
    writeFileSync(file, `# Development secrets of this folder. Delete .legate/ to start anew.\n${lines.join("")}`, {
      mode: 0o600,
      flag: "wx",
    });
  }
  const secrets = parse(readFileSync(file, "utf8"));
  for (const name of ["LEGATE_SECRET", "LEGATE_ID_KEY", "LEGATE_IDENTITY_KEY"]) {
    if (!secrets[name]) throw new Sentence(`${file} has no ${name}. Delete the file to have a new one made.`);
  }
  return { file, secrets, isNew };
}
