// npm start: installs, makes the development secrets, migrates, serves both Workers, walks the tour, keeps serving.
// Runs on the builtins of node 20, because it runs before anything is installed.
import { spawn, spawnSync } from "node:child_process";
import { join, resolve } from "node:path";
import { install } from "./lib/install.mjs";
import { onOrphaned } from "./lib/parent.mjs";
import { nodeBinary, quietEnv, ROOT } from "./lib/paths.mjs";
import { startServer } from "./lib/serve.mjs";
import { Sentence, bold, dim, green, main, say, seconds, step } from "./lib/term.mjs";

const HELP = `Usage: npm start [-- --no-tour]     serve, walk the tour, keep serving until interrupted
       npm run tour                  serve, walk the tour, stop, exit with the tour's status

  --no-tour   only serve
  --help      this text

  PORT=8787             the port on 127.0.0.1
  LEGATE_STATE=.legate  where state and development secrets live; delete it to start anew
  NO_COLOR=1            no colour`;

const TOUR = join(ROOT, "scripts/tour.ts");
const STATE = resolve(ROOT, process.env.LEGATE_STATE || ".legate");
const FLAGS = ["--no-tour", "--tour-only", "--help"];

function readPort(text = "8787") {
  const port = Number(text);
  if (Number.isInteger(port) && port > 0 && port < 65_536) return port;
  throw new Sentence(`PORT must be a number from 1 to 65535; it is "${text}".`);
}

/** Walks the tour against the running server. Resolves to its status. */
function walkTour(server, onSpawn) {
  const tour = spawn(nodeBinary(), [TOUR, server.url, "--state", join(STATE, "tour.json")], {
    cwd: ROOT,
    env: { ...process.env, LEGATE_URL: server.url, LEGATE_BOOTSTRAP: server.secrets.LEGATE_BOOTSTRAP ?? "" },
    stdio: ["ignore", "inherit", "inherit"],
  });
  onSpawn(tour);
  return new Promise((done) => tour.once("close", (code) => done(code ?? 1)));
}

/** What runs, and how it ends: asked twice, or from two sides (terminal and parent), it ends once. */
class Run {
  /** @type {Awaited<ReturnType<typeof startServer>> | undefined} */
  server;
  /** @type {import("node:child_process").ChildProcess | undefined} */
  tour;
  /** @type {Promise<void> | undefined} */
  ended;

  end() {
    this.tour?.kill("SIGTERM");
    this.ended ??= this.server?.stop() ?? Promise.resolve();
    return this.ended;
  }
}

/** Ends the run and this process when a signal asks or whoever started it is gone. */
function endWith(run) {
  const end = (status) => run.end().finally(() => process.exit(status));
  process.on("SIGINT", () => end(130));
  for (const signal of ["SIGTERM", "SIGHUP"]) process.on(signal, () => end(143));
  onOrphaned(() => end(143));
}

/** Mistakes of the deployment's configuration, before anything runs on it. */
function checkConfig() {
  const check = spawnSync(nodeBinary(), ["--no-warnings", join(ROOT, "scripts/check-config.ts")], {
    cwd: ROOT,
    env: quietEnv(),
    encoding: "utf8",
  });
  if (check.status !== 0) throw new Sentence(`The configuration has mistakes:\n${check.stderr.trim()}`);
}

async function serve(run, port) {
  const began = Date.now();
  step("Starting both Workers, offline …");
  const { server } = Object.assign(run, {
    server: await startServer({ port, stateDir: STATE, log: (text) => process.stderr.write(dim(text)) }),
  });
  if (server.isNew) {
    say(`  Bootstrap code, for the first operator, within 24 h: ${bold(server.secrets.LEGATE_BOOTSTRAP)}`);
  }
  say(`${green("✓")} Legate serves at ${bold(server.url)} ${dim(`(${seconds(Date.now() - began)})`)}`);
  return server;
}

await main(async () => {
  const flags = process.argv.slice(2);
  const unknown = flags.find((flag) => !FLAGS.includes(flag));
  if (unknown) throw new Sentence(`Unknown option ${unknown}. See npm start -- --help`);
  if (flags.includes("--help")) return say(HELP);

  const run = new Run();
  const port = readPort(process.env.PORT || undefined);
  endWith(run);
  await install();
  checkConfig();
  const server = await serve(run, port);
  if (!flags.includes("--no-tour")) {
    const status = await walkTour(server, (child) => (run.tour = child));
    if (flags.includes("--tour-only")) return run.end().then(() => status);
    if (status !== 0 && !run.ended) say(`The tour ended with ${status}; the server keeps serving.`);
  }
  if (!run.ended) say(dim("Ctrl-C stops it."));
  await server.exited;
  if (!run.ended) throw new Sentence("The server ended by itself. What it said stands above.");
  await run.ended;
});
