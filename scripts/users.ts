// People, from the command line of whoever runs the deployment: brought in with the password hashes that they had
// elsewhere, listed, moved to another tier. It writes D1 through wrangler and nothing else; it never sees a password.
// Every value is checked against its grammar before it becomes SQL, and quoted all the same.
import { execFileSync } from "node:child_process";
import { createHmac, randomBytes } from "node:crypto";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import { parseArgs } from "node:util";
import { decodeBase64url } from "../core/base64url.ts";
import { isTier, TIERS } from "../core/config.ts";
import { makeUserId } from "../core/ids.ts";
import { isPasswordHash } from "../worker/auth/password.ts";
import { isUsername } from "../worker/auth/username.ts";
import { devEnv } from "./lib/dev-env.mjs";
import { nodeBinary, quietEnv, ROOT, wrangler } from "./lib/paths.mjs";
import { dim, main, say, Sentence } from "./lib/term.mjs";

const HELP = `People of a deployment.

  npm run users -- list
  npm run users -- import FILE        one person a line: {"username": …, "passwordHash": …, "tier": …}
  npm run users -- tier NAME TIER     ${TIERS.join(", ")}; in effect at the next sign-in

Hashes may be bcrypt ($2a$, $2b$) or scrypt ($scrypt$ln=15,r=8,p=1$…); they are replaced by a current scrypt hash when
the person signs in. Bcrypt keeps 72 bytes of a password: someone with a longer one can't sign in, and needs another
hash. Names that are taken stay as they are.

  --state DIR   the local state folder (default: .legate)
  --remote      the deployed D1 instead; says what it would do, and does it with --yes.
                Importing needs the deployment's LEGATE_ID_KEY in the environment.
  --yes         with --remote: really write
`;

interface Person {
  readonly username: string;
  readonly passwordHash: string;
  readonly tier: string;
}

const quoted = (text: string) => `'${text.replaceAll("'", "''")}'`;

function parsePerson(line: string, number: number): Person {
  const at = `Line ${number}`;
  let value: unknown;
  try {
    value = JSON.parse(line);
  } catch {
    throw new Sentence(`${at} is not JSON. Write one object a line.`);
  }
  const { username, passwordHash, tier = "free", ...rest } = (value ?? {}) as Record<string, unknown>;
  const [unknown] = Object.keys(rest);
  if (unknown !== undefined) throw new Sentence(`${at} has a member "${unknown}", which means nothing here.`);
  if (typeof username !== "string" || !isUsername(username))
    throw new Sentence(`${at}: "username" is up to 64 letters, digits and . _ @ + -, a letter or digit first.`);
  if (typeof passwordHash !== "string" || !isPasswordHash(passwordHash))
    throw new Sentence(`${at} (${username}): "passwordHash" is neither bcrypt ($2a$, $2b$) nor scrypt ($scrypt$ln=…).`);
  if (!isTier(tier)) throw new Sentence(`${at} (${username}): "tier" is one of ${TIERS.join(", ")}.`);
  return { username, passwordHash, tier };
}

/** Every line is checked before the first is written. */
function readPeople(file: string): Person[] {
  let text: string;
  try {
    text = readFileSync(file, "utf8");
  } catch {
    throw new Sentence(`${file} can't be read.`);
  }
  const seen = new Set<string>();
  return text.split("\n").flatMap((line, index) => {
    if (line.trim() === "") return [];
    const person = parsePerson(line, index + 1);
    const name = person.username.toLowerCase();
    if (seen.has(name))
      throw new Sentence(`Line ${index + 1}: "${person.username}" stands twice; case does not tell names apart.`);
    seen.add(name);
    return [person];
  });
}

function importSql(people: readonly Person[], idKey: Uint8Array, now: number): string {
  const idMac = (text: string) => createHmac("sha256", idKey).update(text).digest();
  return people
    .map(({ username, passwordHash, tier }) => {
      const id = makeUserId((length) => randomBytes(length), idMac);
      const values = [id, username, passwordHash, tier].map(quoted).join(", ");
      return `insert into users (id, username, password_hash, tier, created_at) values (${values}, ${now}) on conflict do nothing;`;
    })
    .join("\n");
}

interface Target {
  readonly isRemote: boolean;
  readonly stateDir: string;
}

/** Runs statements in D1 and returns the rows of the last one. */
function execute(sql: string, { isRemote, stateDir }: Target): Record<string, unknown>[] {
  const folder = mkdtempSync(join(tmpdir(), "legate-users-"));
  try {
    const file = join(folder, "statements.sql");
    writeFileSync(file, sql, { mode: 0o600 });
    const where = isRemote ? ["--remote"] : ["--local", "--persist-to", join(stateDir, "state")];
    // wrangler answers a file with a count and a command with rows.
    const what = sql.startsWith("select") ? ["--command", sql] : ["--file", file];
    const args = wrangler("d1", "execute", "DB", ...where, ...what, "--json", "--yes", "-c", "wrangler.jsonc");
    const output = execFileSync(nodeBinary(), args, {
      cwd: ROOT,
      env: quietEnv(stateDir),
      stdio: ["ignore", "pipe", "pipe"],
    });
    const answers = JSON.parse(output.toString()) as { results?: Record<string, unknown>[] }[];
    return answers.at(-1)?.results ?? [];
  } catch (error) {
    const { stdout, stderr } = error as { stdout?: Buffer; stderr?: Buffer };
    const said = `${String(stdout ?? "")}${String(stderr ?? error)}`.trim();
    if (said.includes("no such table"))
      throw new Sentence("This D1 has no tables yet. Locally `npm start` makes them; deployed, the migrations do.");
    throw new Sentence(`D1 did not take it. wrangler says:\n${said}`);
  } finally {
    rmSync(folder, { recursive: true });
  }
}

const namesIn = (target: Target) =>
  new Set(execute("select lower(username) as name from users", target).map(({ name }) => String(name)));

function idKeyOf({ isRemote, stateDir }: Target): Uint8Array {
  const text = isRemote ? process.env["LEGATE_ID_KEY"] : devEnv(stateDir).secrets["LEGATE_ID_KEY"];
  const key = decodeBase64url(text ?? "");
  if (key === null || key.length !== 32)
    throw new Sentence("Ids need the deployment's LEGATE_ID_KEY in the environment: 32 bytes in base64url.");
  return key;
}

function importPeople(file: string, target: Target, isWritten: boolean): void {
  const people = readPeople(file);
  const taken = namesIn(target);
  const fresh = people.filter(({ username }) => !taken.has(username.toLowerCase()));
  for (const { username } of people)
    if (taken.has(username.toLowerCase())) say(dim(`${username} is there already and stays as they are.`));
  for (const { username, tier } of fresh) say(`${isWritten ? "" : "would add "}${username} ${dim(tier)}`);
  if (isWritten && fresh.length > 0) execute(importSql(fresh, idKeyOf(target), Date.now()), target);
  say(`${fresh.length} of ${people.length} ${isWritten ? "added." : "would be added. Add --yes to write."}`);
}

function list(target: Target): void {
  const rows = execute("select username, tier, id, created_at from users order by lower(username)", target);
  for (const { username, tier, id, created_at: at } of rows)
    say(
      `${String(username).padEnd(24)} ${String(tier).padEnd(6)} ${dim(`${String(id)}  ${new Date(Number(at)).toISOString()}`)}`,
    );
  say(dim(rows.length === 1 ? "1 person." : `${rows.length} people.`));
}

function setTier(name: string, tier: string, target: Target, isWritten: boolean): void {
  if (!isTier(tier)) throw new Sentence(`"${tier}" is no tier; it is one of ${TIERS.join(", ")}.`);
  if (!isUsername(name) || !namesIn(target).has(name.toLowerCase()))
    throw new Sentence(`Nobody here is called "${name}".`);
  if (isWritten)
    execute(`update users set tier = ${quoted(tier)} where lower(username) = lower(${quoted(name)});`, target);
  say(isWritten ? `${name} is ${tier} from the next sign-in on.` : `${name} would become ${tier}. Add --yes to write.`);
}

/** @throws Sentence for an option that is none */
function readArguments() {
  try {
    return parseArgs({
      allowPositionals: true,
      options: {
        help: { type: "boolean", short: "h" },
        remote: { type: "boolean", default: false },
        yes: { type: "boolean", default: false },
        state: { type: "string", default: join(ROOT, ".legate") },
      },
    });
  } catch (error) {
    throw new Sentence(`${error instanceof Error ? error.message : String(error)}\nnpm run users -- --help`);
  }
}

await main(() => {
  const { values, positionals } = readArguments();
  const [command, ...rest] = positionals;
  const target = { isRemote: values.remote, stateDir: resolve(values.state) };
  const isWritten = !values.remote || values.yes;
  const [first, second, ...more] = rest;
  if (values.help) return say(HELP);
  if (command === "list" && rest.length === 0) return list(target);
  if (command === "import" && first !== undefined && second === undefined)
    return importPeople(first, target, isWritten);
  if (command === "tier" && first !== undefined && second !== undefined && more.length === 0)
    return setTier(first, second, target, isWritten);
  say(HELP);
  return 1;
});
