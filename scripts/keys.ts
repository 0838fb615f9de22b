/**
 * `npm run keys`: makes secrets, and derives from this deployment's secrets the keys that other parties are given. What
 * it prints is secret; it goes to standard output alone, and nothing is written anywhere.
 */
import { randomBytes } from "node:crypto";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { parseArgs, parseEnv } from "node:util";
import { encodeBase64url } from "../core/base64url.ts";
import { deriveBytes, keyIdOf, LABEL, parseSecret, type Secret } from "../core/token/mac.ts";
import { newOidcKey, rotated } from "./lib/oidc-key.mjs";

const HELP = `Usage: npm run keys -- <command> [--json]

  audience <name>    the key of a resource server's audience, as createVerifier takes it (kid.key; two lines while
                     LEGATE_SECRET_ALSO is set). The name must stand in legate.config.ts, audiences.
  identity <worker>  LEGATE_IDENTITY_KEY of an agents' Worker (a second line is its LEGATE_IDENTITY_KEY_ALSO)
  secret             a new LEGATE_SECRET
  id                 a new LEGATE_ID_KEY
  oidc               new LEGATE_OIDC_KEYS, with one key
  oidc <step>        the next LEGATE_OIDC_KEYS of a rotation, a deploy each: prepare (a new key, published only),
                     activate (it signs), retire (the old one is gone)

audience and identity read LEGATE_SECRET and LEGATE_SECRET_ALSO from the environment, or else from .legate/dev.env.
`;

/** A mistake of whoever called: printed as its sentence, without a stack. */
class Mistake extends Error {}

const ENV_FILE = join(import.meta.dirname, "../.legate/dev.env");

function environment(): NodeJS.Dict<string> {
  if (process.env["LEGATE_SECRET"] !== undefined) return process.env;
  try {
    return parseEnv(readFileSync(ENV_FILE, "utf8"));
  } catch {
    throw new Mistake(
      "LEGATE_SECRET is not in the environment, and there is no .legate/dev.env (npm start makes one).",
    );
  }
}

/** The secret that signs first, then the other one. */
function secretsOf(env: NodeJS.Dict<string>): Secret[] {
  const secrets: Secret[] = [];
  for (const name of ["LEGATE_SECRET", "LEGATE_SECRET_ALSO"]) {
    const text = env[name] ?? "";
    if (text === "" && name !== "LEGATE_SECRET") continue;
    const secret = parseSecret(text);
    if (secret === null)
      throw new Mistake(`${name} must be 32 random bytes in base64url (npm run keys -- secret makes one).`);
    secrets.push(secret);
  }
  return secrets;
}

async function audienceKeys(name: string): Promise<string[]> {
  const env = environment();
  if (name === env["LEGATE_ISSUER"])
    throw new Mistake("That is the issuer's own audience: whoever had its key could forge every session.");
  const { config } = await import("../legate.config.ts");
  const known = [...config.audiences.keys()];
  if (!known.includes(name))
    throw new Mistake(
      `"${name}" is no audience of legate.config.ts; it lists ${known.length === 0 ? "none" : known.join(", ")}.`,
    );
  return Promise.all(
    secretsOf(env).map(async (secret) => `${await keyIdOf(secret)}.${await derived(secret, LABEL.audience(name))}`),
  );
}

async function derived(secret: Secret, label: string): Promise<string> {
  return encodeBase64url((await deriveBytes(secret, label)).revealBytes());
}

async function identityKeys(worker: string): Promise<string[]> {
  if (!/^[a-z0-9][a-z0-9-]{0,62}$/.test(worker))
    throw new Mistake(`"${worker}" is no Worker's name (lower case, digits, hyphens).`);
  return Promise.all(secretsOf(environment()).map((secret) => derived(secret, LABEL.identity(worker))));
}

/** A fresh secret passes the check that a configured one must pass; one in 10^14 does not, and is drawn again. */
function fresh(): string[] {
  const text = encodeBase64url(randomBytes(32));
  return parseSecret(text) === null ? fresh() : [text];
}

/** The present keys come from the environment, or from the development server's file. */
function oidcKeys(step: string | undefined): string[] {
  if (step === undefined) return [JSON.stringify([newOidcKey()])];
  let next: object[] | null;
  try {
    const text = process.env["LEGATE_OIDC_KEYS"] ?? environment()["LEGATE_OIDC_KEYS"] ?? "[]";
    next = rotated(JSON.parse(text) as Record<string, unknown>[], step);
  } catch (error) {
    throw error instanceof Mistake ? error : new Mistake("LEGATE_OIDC_KEYS is no JSON array.");
  }
  if (next === null) throw new Mistake("The steps are prepare, activate (after prepare) and retire.");
  return [JSON.stringify(next)];
}

async function run(argv: readonly string[]): Promise<string> {
  const { values, positionals } = parseArgs({
    args: [...argv],
    allowPositionals: true,
    options: { json: { type: "boolean", default: false }, help: { type: "boolean", short: "h", default: false } },
  });
  const [command, name, ...more] = positionals;
  if (values.help) return HELP;
  if (command === undefined) throw new Mistake(`Say what to print.\n\n${HELP}`);
  const takesName = command === "audience" || command === "identity";
  if (!takesName && command !== "secret" && command !== "id" && command !== "oidc")
    throw new Mistake(`There is no command "${command}".\n\n${HELP}`);
  if ((command !== "oidc" && takesName !== (name !== undefined)) || more.length > 0) {
    throw new Mistake(takesName ? `${command} takes one name.` : `${command} takes no name.`);
  }
  const keys =
    command === "audience"
      ? await audienceKeys(name as string)
      : command === "identity"
        ? await identityKeys(name as string)
        : command === "oidc"
          ? oidcKeys(name)
          : fresh();
  return values.json ? `${JSON.stringify({ command, name: name ?? null, keys })}\n` : `${keys.join("\n")}\n`;
}

try {
  process.stdout.write(await run(process.argv.slice(2)));
} catch (error) {
  const isUsage = error instanceof Mistake || (error instanceof TypeError && "code" in error);
  process.stderr.write(`${isUsage ? error.message : "Something failed; nothing was printed."}\n`);
  process.exitCode = 1;
}
