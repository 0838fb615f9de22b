// Plain workerd: both Workers as a deploy would bundle them, served by the runtime itself, on the objects that a server
// left behind. No proxy stands between a client and the isolate, so a reset connection is a reset connection.
import { execFile, spawn, type ChildProcess } from "node:child_process";
import { mkdirSync, readdirSync, readFileSync, writeFileSync } from "node:fs";
import { createRequire } from "node:module";
import { connect, createServer, type AddressInfo, type Socket } from "node:net";
import { basename, join } from "node:path";
import { promisify } from "node:util";
import { CONFIGS, nodeBinary, quietEnv, ROOT, wrangler } from "../../../scripts/lib/paths.mjs";

// The binary itself: node_modules/workerd/bin/workerd is a script of node's that would stand before it.
const { default: WORKERD } = createRequire(import.meta.url)(join(ROOT, "node_modules/workerd")) as { default: string };
/** The package `agents` imports it; the platform provides it, and wrangler its own. Nothing here sends mail. */
const EMAIL = "export class EmailMessage {}; export default { EmailMessage };";
const SUPERVISOR = join(ROOT, "scripts/lib/supervisor.mjs");
const HOST = "127.0.0.1";
const LISTENING_WITHIN_MS = 20_000;
export const AGENT_CLASSES = ["Planner", "Researcher", "Catalog"];
const run = promisify(execFile);

export interface Bundle {
  readonly name: string;
  readonly folder: string;
  readonly classes: readonly string[];
  /** Bindings, as capnp text. */
  readonly bindings: readonly string[];
}

export interface PlainOptions {
  /** Where bundles and configuration are written. */
  readonly folder: string;
  /** The objects' folder of the server that has stopped. */
  readonly objectsDir: string;
  readonly issuer: string;
  readonly secrets: Readonly<Record<string, string>>;
  /** wrangler's configurations, the edge's first; the repository's own unless said. */
  readonly configs?: readonly string[] | undefined;
}

export const quoted = (text: string) => JSON.stringify(text);
/** Where a socket listens. @param options of HTTP, as capnp text */
export const listens = (port: number, options = "") => `address = "${HOST}:${port}", http = (${options})`;
const PROPS = quoted(JSON.stringify({ worker: "legate-agents" }));
/** The edge's entrypoint for the agents' Worker. */
export const AUTHORITY = `(name = "legate", entrypoint = "Authority", props = (json = ${PROPS}))`;
const text = (name: string, value: string) => `(name = ${quoted(name)}, text = ${quoted(value)})`;
const namespace = (name: string, className: string, service?: string) =>
  service === undefined
    ? `(name = ${quoted(name)}, durableObjectNamespace = ${quoted(className)})`
    : `(name = ${quoted(name)}, durableObjectNamespace = (className = ${quoted(className)}, serviceName = ${quoted(service)}))`;

/** @returns the bundle's modules, by paths from the configuration beside it; the main one first, workerd takes it for the Worker */
function modulesOf(folder: string): string {
  const names = readdirSync(folder).filter((name) => name.endsWith(".js") || name.endsWith(".sql"));
  const ordered = names.toSorted((a, b) => Number(b === "index.js") - Number(a === "index.js"));
  return ordered
    .map((name) => {
      const kind = name.endsWith(".js") ? "esModule" : "text";
      return `(name = ${quoted(name)}, ${kind} = embed ${quoted(`${basename(folder)}/${name}`)})`;
    })
    .join(", ");
}

export function workerOf({ name, folder, classes, bindings }: Bundle): string {
  const namespaces = classes.map(
    (className) =>
      `(className = ${quoted(className)}, uniqueKey = ${quoted(`${name}-${className}`)}, enableSql = true)`,
  );
  return `(name = ${quoted(name)}, worker = (
    modules = [${modulesOf(folder)}],
    compatibilityDate = "2026-10-01",
    compatibilityFlags = ["nodejs_compat", "enable_request_signal"],
    bindings = [${bindings.join(", ")}],
    durableObjectNamespaces = [${namespaces.join(", ")}],
    durableObjectStorage = (localDisk = "objects"),
  ))`;
}

/** The bundles of a deployment, and the configuration that serves them. */
export class Plain {
  readonly #options: PlainOptions;

  private constructor(options: PlainOptions) {
    this.#options = options;
  }

  static async build(options: PlainOptions): Promise<Plain> {
    const [edge = "", agents = ""] = options.configs ?? CONFIGS;
    for (const [name, config] of [
      ["legate", edge],
      ["legate-agents", agents],
    ] as const) {
      const args = ["deploy", "--dry-run", "--outdir", join(options.folder, name), "-c", config];
      await run(nodeBinary(), wrangler(...args), { cwd: ROOT, env: quietEnv(options.folder) });
    }
    return new Plain(options);
  }

  /** Another folder with the edge's bundle, changed: to see that a test can fail. */
  mutant(name: string, change: (source: string) => string): string {
    const from = join(this.#options.folder, "legate");
    const folder = join(this.#options.folder, name);
    mkdirSync(folder);
    for (const file of readdirSync(from)) {
      const source = readFileSync(join(from, file), "utf8");
      writeFileSync(join(folder, file), file === "index.js" ? change(source) : source);
    }
    return folder;
  }

  /** Starts a cold isolate on a free port; it has answered nothing yet. */
  async start(edgeFolder = join(this.#options.folder, "legate")): Promise<PlainServer> {
    const port = await freePort();
    const workers = [this.edge("legate-agents", edgeFolder), this.agents(AUTHORITY)];
    return this.serve(basename(edgeFolder), workers, [`(name = "http", ${listens(port)}, service = "legate")`], port);
  }

  /** The edge's Worker. @param behind the service that has the agents' classes */
  edge(behind: string, folder = join(this.#options.folder, "legate")): string {
    const { issuer, secrets } = this.#options;
    const { LEGATE_SECRET = "", LEGATE_ID_KEY = "", LEGATE_OIDC_KEYS = "" } = secrets;
    return workerOf({
      name: "legate",
      folder,
      classes: ["SessionAuthority", "LoginLimiter"],
      bindings: [
        text("LEGATE_SECRET", LEGATE_SECRET),
        text("LEGATE_ID_KEY", LEGATE_ID_KEY),
        text("LEGATE_ISSUER", issuer),
        text("LEGATE_OIDC_KEYS", LEGATE_OIDC_KEYS),
        namespace("AUTHORITY", "SessionAuthority"),
        namespace("LOGIN_LIMITER", "LoginLimiter"),
        ...AGENT_CLASSES.map((className) => namespace(className.toUpperCase(), className, behind)),
      ],
    });
  }

  /** The agents' Worker. @param authority the service that it asks, as capnp text */
  agents(authority: string): string {
    const { folder, secrets } = this.#options;
    return workerOf({
      name: "legate-agents",
      folder: join(folder, "legate-agents"),
      classes: AGENT_CLASSES,
      bindings: [
        text("LEGATE_IDENTITY_KEY", secrets["LEGATE_IDENTITY_KEY"] ?? ""),
        `(name = "LEGATE", service = ${authority})`,
        ...AGENT_CLASSES.map((className) => namespace(className.toUpperCase(), className)),
      ],
    });
  }

  /** A folder for one more module of a test's own. */
  module(name: string, source: string): string {
    const folder = join(this.#options.folder, name);
    mkdirSync(folder, { recursive: true });
    writeFileSync(join(folder, "index.js"), source);
    return folder;
  }

  /** Starts a process of these services and sockets, as capnp text. */
  serve(name: string, services: readonly string[], sockets: readonly string[], port: number): Promise<PlainServer> {
    const config = join(this.#options.folder, `${name}.capnp`);
    writeFileSync(
      config,
      `using Workerd = import "/workerd/workerd.capnp";
const config :Workerd.Config = (
  services = [
    (name = "internet", network = (allow = ["local"])),
    (name = "objects", disk = (path = ${quoted(this.#options.objectsDir)}, writable = true)),
    ${services.join(",\n    ")},
  ],
  extensions = [(modules = [(name = "cloudflare-internal:email", internal = true, esModule = ${quoted(EMAIL)})])],
  sockets = [${sockets.join(", ")}],
);\n`,
    );
    return PlainServer.start(config, port);
  }
}

/** A port that nobody listens on. */
export function freePort(): Promise<number> {
  return new Promise((resolve, reject) => {
    const probe = createServer().once("error", reject);
    probe.listen(0, HOST, () => {
      const { port } = probe.address() as AddressInfo;
      probe.close(() => resolve(port));
    });
  });
}

/** One workerd process: a cold isolate. Its supervisor ends it with whoever started it. */
export class PlainServer {
  readonly port: number;
  readonly #process: ChildProcess;

  private constructor(port: number, process: ChildProcess) {
    this.port = port;
    this.#process = process;
  }

  static async start(config: string, port: number): Promise<PlainServer> {
    const args = [SUPERVISOR, WORKERD, "serve", "--experimental", config];
    const child = spawn(nodeBinary(), args, { stdio: ["pipe", "ignore", "pipe"], detached: true });
    let said = "";
    let hasEnded = false;
    child.stderr.on("data", (chunk) => (said += String(chunk)));
    child.once("exit", () => (hasEnded = true));
    const server = new PlainServer(port, child);
    const deadline = Date.now() + LISTENING_WITHIN_MS;
    // Connections alone: the isolate must not have answered anything.
    while (!(await server.#listens())) {
      if (hasEnded) throw new Error(`workerd has ended: ${said}`);
      if (Date.now() > deadline) throw new Error(`workerd does not listen: ${said}`);
      await new Promise((wake) => setTimeout(wake, 20));
    }
    return server;
  }

  #listens(): Promise<boolean> {
    return new Promise((answer) => {
      const probe = connect(this.port, HOST, () => answer(probe.destroy() !== null));
      probe.once("error", () => answer(false));
    });
  }

  get url(): string {
    return `http://${HOST}:${this.port}`;
  }

  async stop(): Promise<void> {
    const { pid, exitCode, signalCode } = this.#process;
    if (exitCode !== null || signalCode !== null) return;
    const ended = new Promise((done) => this.#process.once("exit", done));
    if (pid !== undefined) process.kill(-pid, "SIGKILL");
    await ended;
  }

  /** Sends a whole GET over a connection of its own, and hands the connection over unread. */
  async sendRaw(path: string, headers: Readonly<Record<string, string>>): Promise<Socket> {
    const socket = connect(this.port, HOST);
    await new Promise<void>((resolve, reject) => {
      socket.once("connect", resolve);
      socket.once("error", reject);
    });
    socket.on("error", () => {}); // it is about to be reset
    const lines = Object.entries({ host: `${HOST}:${this.port}`, ...headers }).map(
      ([name, value]) => `${name}: ${value}`,
    );
    socket.write(`GET ${path} HTTP/1.1\r\n${lines.join("\r\n")}\r\n\r\n`);
    return socket;
  }
}
