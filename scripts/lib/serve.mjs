// Starts both Workers in one `wrangler dev`, offline, on this machine only, and ends every process of it again.
import { execFile, spawn } from "node:child_process";
import { existsSync, mkdirSync, readFileSync, readdirSync, writeFileSync } from "node:fs";
import { createServer } from "node:net";
import { dirname, join, resolve } from "node:path";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import { devEnv } from "./dev-env.mjs";
import { CONFIGS, nodeBinary, ROOT, quietEnv, wrangler } from "./paths.mjs";
import { Sentence } from "./term.mjs";

const HOST = "127.0.0.1";
const READY_WITHIN_MS = 60_000;
const STOP_WITHIN_MS = 8_000;
const MIGRATIONS = join(ROOT, "drizzle/d1/migrations");
const SUPERVISOR = fileURLToPath(new URL("supervisor.mjs", import.meta.url));

// wrangler loads from the env-file only what wrangler.jsonc requires; these may be absent there, so they go by --var,
// which `wrangler dev` gives to the first Worker alone (read in wrangler 4.155.0, setupDevEnv).
const OPTIONAL = ["LEGATE_SECRET_ALSO", "LEGATE_BOOTSTRAP", "LEGATE_OIDC_KEYS", "LEGATE_RECEIPT_KEYS"];

const run = promisify(execFile);
const sleep = (ms) => new Promise((wake) => setTimeout(wake, ms));

/** Listens on the port for a moment: 0 finds a free one. Resolves to the port, or to null when it is taken. */
function probePort(port) {
  return new Promise((answer) => {
    const probe = createServer();
    probe.once("error", () => answer(null));
    probe.listen({ port, host: HOST, exclusive: true }, () => {
      const address = probe.address();
      probe.close(() => answer(typeof address === "object" && address ? address.port : null));
    });
  });
}

/** Brings the local D1 to the newest schema. What was applied is noted beside it, because asking wrangler takes 2 s. */
async function migrate(stateDir, envFile) {
  const names = existsSync(MIGRATIONS) ? readdirSync(MIGRATIONS).filter((name) => name.endsWith(".sql")) : [];
  const note = join(stateDir, "state/migrated.json");
  const applied = JSON.stringify(names.toSorted());
  if (names.length === 0 || (existsSync(note) && readFileSync(note, "utf8") === applied)) return;
  const args = ["d1", "migrations", "apply", "DB", "--local", "--persist-to", join(stateDir, "state")];
  try {
    await run(nodeBinary(), wrangler(...args, "-c", "wrangler.jsonc", "--env-file", envFile), {
      cwd: ROOT,
      env: quietEnv(stateDir),
    });
  } catch (error) {
    throw new Sentence(`The local D1 could not be migrated:\n${error.stdout ?? ""}${error.stderr ?? error}`);
  }
  writeFileSync(note, applied);
}

/**
 * While an identity key is rotated the agents' Worker opens envelopes with two. wrangler gives it what its configuration
 * requires and nothing else, so for as long it is one that requires both.
 */
function agentsConfig(config, stateDir, secrets) {
  if (!secrets.LEGATE_IDENTITY_KEY_ALSO) return config;
  const text = readFileSync(resolve(ROOT, config), "utf8");
  const rotating = text
    .replace('"required": ["LEGATE_IDENTITY_KEY"]', '"required": ["LEGATE_IDENTITY_KEY", "LEGATE_IDENTITY_KEY_ALSO"]')
    .replace('"main": "index.ts"', `"main": ${JSON.stringify(resolve(ROOT, dirname(config), "index.ts"))}`);
  const file = join(stateDir, "agents.wrangler.jsonc");
  writeFileSync(file, rotating);
  return file;
}

function wranglerArgs({ configs, port, stateDir, envFile, vars }) {
  return wrangler(
    "dev",
    ...configs.flatMap((config) => ["-c", config]),
    ...["--env-file", envFile, "--persist-to", join(stateDir, "state")],
    ...["--ip", HOST, "--port", String(port), "--inspector-port", "0"],
    ...["--show-interactive-dev-session=false", "--log-level", "warn"],
    ...Object.entries(vars).flatMap(([name, value]) => ["--var", `${name}:${value}`]),
  );
}

async function isHealthy(url) {
  try {
    const answer = await fetch(`${url}/healthz`, { signal: AbortSignal.timeout(2_000) });
    return answer.ok && (await answer.json()).status === "ok";
  } catch {
    return false;
  }
}

/**
 * Starts a server and resolves when it answers.
 *
 * @param {object} [options]
 * @param {number} [options.port] 0, the default, takes a free one
 * @param {string} [options.stateDir] where secrets, D1 and the objects' storage live
 * @param {Record<string, string>} [options.env] more variables of the edge Worker, such as LEGATE_OIDC_KEYS
 * @param {string[]} [options.configs] wrangler's, the edge's first
 * @param {(text: string) => void} [options.log] is given what the server prints
 * @returns {Promise<{url: string, pid: number, secrets: Record<string, string>, isNew: boolean, exited: Promise<void>,
 *   stop: () => Promise<void>, kill9: () => Promise<void>}>}
 */
export async function startServer({
  port = 0,
  stateDir = join(ROOT, ".legate"),
  env = {},
  configs: [edge, agents] = CONFIGS,
  log = () => {},
} = {}) {
  const state = resolve(stateDir);
  const free = await probePort(port);
  if (free === null)
    throw new Sentence(`Port ${port} is in use. Stop what listens there, or choose another: PORT=8788 npm start`);
  const url = `http://${HOST}:${free}`;
  mkdirSync(state, { recursive: true, mode: 0o700 });
  const { file: envFile, secrets, isNew } = devEnv(state);
  await migrate(state, envFile);

  const optional = OPTIONAL.filter((name) => secrets[name]).map((name) => [name, secrets[name]]);
  const configs = [edge, agentsConfig(agents, state, secrets)];
  const vars = { ...Object.fromEntries(optional), LEGATE_ISSUER: url, ...env };
  const supervisor = spawn(
    nodeBinary(),
    [SUPERVISOR, nodeBinary(), ...wranglerArgs({ configs, port: free, stateDir: state, envFile, vars })],
    {
      cwd: ROOT,
      env: quietEnv(state),
      stdio: ["pipe", "pipe", "pipe"],
      // A process group of its own: Ctrl-C at the terminal reaches us alone, and one signal reaches all of the server.
      detached: true,
    },
  );
  const { pid } = supervisor;
  if (pid === undefined) throw new Sentence(`Could not start ${nodeBinary()}.`);
  const group = -pid;
  let tail = "";
  const hear = (chunk) => {
    tail = (tail + chunk).slice(-4_000);
    log(String(chunk));
  };
  supervisor.stdout.on("data", hear);
  supervisor.stderr.on("data", hear);
  supervisor.stdin.on("error", () => {});

  let hasExited = false;
  /** @type {Promise<void>} */
  const exited = new Promise((done) => supervisor.once("exit", () => done())).then(() => {
    hasExited = true;
    signalGroup("SIGKILL"); // Whoever ended the supervisor alone has left its children.
  });

  function signalGroup(signal) {
    try {
      process.kill(group, signal);
    } catch {
      // Nobody is left in the group.
    }
  }
  async function kill9() {
    signalGroup("SIGKILL");
    await exited;
  }
  async function stop() {
    if (hasExited) return;
    supervisor.kill("SIGTERM");
    const impatience = setTimeout(() => signalGroup("SIGKILL"), STOP_WITHIN_MS);
    await exited;
    clearTimeout(impatience);
  }

  const deadline = Date.now() + READY_WITHIN_MS;
  while (!(await isHealthy(url))) {
    if (hasExited) throw new Sentence(`The server ended before it answered. It said:\n${tail.trim()}`);
    if (Date.now() > deadline) {
      await stop();
      throw new Sentence(`The server did not answer within ${READY_WITHIN_MS / 1000} s. It said:\n${tail.trim()}`);
    }
    await sleep(100);
  }
  return { url, pid, secrets, isNew, exited, stop, kill9 };
}
