/**
 * Plain workerd with several copies of the edge before one authority, and agents behind them: what `wrangler dev` puts in
 * between would hide costs, and would not let a copy fail alone. Nothing outlives `end`, nor the process that started it.
 */
import { execFileSync, spawn, type ChildProcess } from "node:child_process";
import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { createRequire } from "node:module";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { nodeBinary, ROOT, quietEnv, wrangler } from "../../../scripts/lib/paths.mjs";
import { TEST_IDENTITY_KEY, TEST_SECRETS } from "../secrets.ts";

export const ISSUER = "http://127.0.0.1:8787";
const HOST = "127.0.0.1";
const SOURCE = join(ROOT, "test/support/workerd/copies/wrangler.jsonc");
const SUPERVISOR = join(ROOT, "scripts/lib/supervisor.mjs");
const READY_WITHIN_MS = 20_000;

export interface Options {
  readonly copies?: number;
  readonly leaseMs?: number;
  /** More of the environment of workerd. */
  readonly env?: Readonly<Record<string, string>>;
  /** Where the isolates' inspectors listen: for profiles. */
  readonly inspector?: number;
}

/** Where a service listens: the edge's copies `edge-0`… and their controls `control-0`…, `same`, `same-alone`. */
type Ports = ReadonlyMap<string, number>;

/** The binary itself: node_modules/.bin/workerd is a script that would stand between. */
function binary(): string {
  const platform = `@cloudflare/workerd-${process.platform}-${process.arch === "x64" ? "64" : process.arch}`;
  return createRequire(createRequire(import.meta.url).resolve("wrangler/package.json")).resolve(
    `${platform}/bin/workerd`,
  );
}

const built = new Map<string, Buffer>();

/** Once for each process: every deployment of it has the same code. */
function bundle(folder: string): void {
  if (built.size === 0) {
    build(folder);
    for (const name of readdirSync(folder).filter((file) => /\.(?:js|sql)$/.test(file)))
      built.set(name, readFileSync(join(folder, name)));
  }
  for (const [name, content] of built) writeFileSync(join(folder, name), content);
}

function build(folder: string): void {
  execFileSync(nodeBinary(), wrangler("deploy", "--dry-run", "--outdir", folder, "-c", SOURCE), {
    cwd: ROOT,
    env: quietEnv(folder),
    stdio: ["ignore", "ignore", "pipe"],
  });
}

const text = (name: string, value: string) => `(name = "${name}", text = ${JSON.stringify(value)})`;
const objects = (name: string, className: string, service: string) =>
  `(name = "${name}", durableObjectNamespace = (className = "${className}", serviceName = "${service}"))`;

/** One service of the bundle, with what it is bound to. */
function worker(name: string, modules: string, bindings: readonly string[], owns: readonly string[] = []): string {
  const storage = owns.length === 0 ? "" : `,\n    durableObjectStorage = (localDisk = "objects")`;
  const namespaces = owns.map((own) => `(className = "${own}", uniqueKey = "${own}", enableSql = true)`).join(", ");
  return `  (name = "${name}", worker = (
    compatibilityDate = "2026-10-01",
    compatibilityFlags = ["nodejs_compat", "enable_request_signal"],
    modules = [${modules}],
    bindings = [${bindings.join(", ")}],
    durableObjectNamespaces = [${namespaces}]${storage}
  ))`;
}

function configOf(folder: string, copies: number, leaseMs: number): string {
  const files = readdirSync(folder).filter((name) => name.endsWith(".sql"));
  const modules = [
    `(name = "main.js", esModule = embed "main.js")`,
    ...files.map((name) => `(name = "${name}", text = embed "${name}")`),
  ].join(", ");
  const agents = ["METER", "WIDE", "STRICT", "TALK"].map((name) => objects(name, "Meter", "agents"));
  const edge = [
    text("LEGATE_ISSUER", ISSUER),
    text("LEASE_MS", String(leaseMs)),
    ...["LEGATE_SECRET", "LEGATE_ID_KEY"].map((name) => text(name, TEST_SECRETS[name as keyof typeof TEST_SECRETS])),
    objects("AUTHORITY", "SessionAuthority", "edge-0"),
    ...agents,
    `(name = "DB", wrapped = (moduleName = "cloudflare-internal:d1-api", innerBindings = [(name = "fetcher", service = (name = "nothing", entrypoint = "Database"))]))`,
  ];
  const named = Array.from({ length: copies }, (_, i) => i);
  const services = [
    ...named.map((i) => worker(`edge-${i}`, modules, edge, i === 0 ? ["SessionAuthority"] : [])),
    worker(
      "agents",
      modules,
      [
        text("LEGATE_IDENTITY_KEY", TEST_IDENTITY_KEY),
        `(name = "LEGATE", service = (name = "edge-0", entrypoint = "Authority", props = (json = "{\\"worker\\":\\"legate-agents\\"}")))`,
        `(name = "BARE", service = (name = "edge-0", entrypoint = "Bare"))`,
      ],
      ["Meter"],
    ),
    worker("same", modules, agents),
    worker("nothing", modules, []),
    `  (name = "objects", disk = (path = ${JSON.stringify(join(folder, "objects"))}, writable = true))`,
  ];
  const socket = (name: string, service: string, entrypoint: string | null) =>
    `  (name = "${name}", address = "${HOST}:0", http = (), service = (name = "${service}"${entrypoint === null ? "" : `, entrypoint = "${entrypoint}"`}))`;
  const sockets = [
    ...named.flatMap((i) => [socket(`edge-${i}`, `edge-${i}`, "Copy"), socket(`control-${i}`, `edge-${i}`, "Control")]),
    socket("plain", "edge-0", null), // the edge as it is deployed, with nothing of a test's around it
    socket("same", "same", "Same"),
    socket("same-alone", "same", "SameAlone"),
  ];
  return `using Workerd = import "/workerd/workerd.capnp";
const config :Workerd.Config = (
  services = [\n${services.join(",\n")}\n  ],
  sockets = [\n${sockets.join(",\n")}\n  ],
);\n`;
}

export class Copies {
  readonly #child: ChildProcess;
  readonly #ports: Ports;
  readonly #folder: string;
  readonly #exited: Promise<void>;
  /** Process of the workerd itself. */
  readonly pid: number;
  /** Copies of the edge. */
  readonly count: number;

  private constructor(child: ChildProcess, pid: number, ports: Ports, folder: string, exited: Promise<void>) {
    this.#child = child;
    this.pid = pid;
    this.#ports = ports;
    this.#folder = folder;
    this.#exited = exited;
    this.count = [...ports.keys()].filter((name) => name.startsWith("edge-")).length;
  }

  static async start({ copies = 1, leaseMs = 2_000, env = {}, inspector }: Options = {}): Promise<Copies> {
    const folder = mkdtempSync(join(tmpdir(), "legate-copies-"));
    bundle(folder);
    mkdirSync(join(folder, "objects"));
    writeFileSync(join(folder, "config.capnp"), configOf(folder, copies, leaseMs));
    const serve = [binary(), "serve", "config.capnp", "--experimental", "--control-fd=1"];
    if (inspector !== undefined) serve.push(`--inspector-addr=${HOST}:${inspector}`);
    // Started by a shell that tells its process: it becomes the workerd.
    const child = spawn(nodeBinary(), [SUPERVISOR, "/bin/sh", "-c", 'echo "$$"; exec "$@"', "sh", ...serve], {
      cwd: folder,
      env: { ...quietEnv(folder), ...env },
      stdio: ["pipe", "pipe", "pipe"],
      detached: true,
    });
    const exited = new Promise<void>((done) => child.once("exit", () => done()));
    let said = "";
    const ports = new Map<string, number>();
    let pid = 0;
    const wanted = copies * 2 + 3;
    const ready = new Promise<void>((resolve, reject) => {
      const late = setTimeout(() => reject(new Error(`workerd did not listen in time:\n${said}`)), READY_WITHIN_MS);
      void exited.then(() => reject(new Error(`workerd ended:\n${said}`)));
      let rest = "";
      child.stdout?.on("data", (chunk: Buffer) => {
        const lines = (rest + String(chunk)).split("\n");
        rest = lines.pop() ?? "";
        for (const line of lines) {
          if (/^\d+$/.test(line)) pid = Number(line);
          if (!line.startsWith("{")) continue;
          const told = JSON.parse(line) as { event?: string; socket?: string; port?: number };
          if (told.event === "listen") ports.set(String(told.socket), Number(told.port));
        }
        if (ports.size < wanted) return;
        clearTimeout(late);
        resolve();
      });
      child.stderr?.on("data", (chunk: Buffer) => (said = (said + String(chunk)).slice(-4_000)));
    });
    try {
      await ready;
    } catch (failure) {
      child.kill("SIGTERM");
      await exited;
      rmSync(folder, { recursive: true, force: true });
      throw failure;
    }
    return new Copies(child, pid, ports, folder, exited);
  }

  port(name: string): number {
    const port = this.#ports.get(name);
    if (port === undefined) throw new Error(`nothing listens as ${name}`);
    return port;
  }

  url(copy = 0): string {
    return `http://${HOST}:${this.port(`edge-${copy}`)}`;
  }

  /** An order to one copy (`Control` in main.ts). */
  async order<T>(copy: number, order: { readonly do: string; readonly [name: string]: unknown }): Promise<T> {
    const url = `http://${HOST}:${this.port(`control-${copy}`)}/`;
    const answer = await fetch(url, { method: "POST", body: JSON.stringify(order) });
    if (!answer.ok) throw new Error(`${order.do}: ${answer.status} ${await answer.text()}`);
    return (await answer.json()) as T;
  }

  /** A copy ends without a last word: what it held is lost with it. */
  async kill(copy: number): Promise<void> {
    await this.order(copy, { do: "faults", faults: { isDead: true } });
  }

  /** Asks a user's object itself. */
  rpc<T>(user: string, method: string, ...args: unknown[]): Promise<T> {
    return this.order<T>(0, { do: "rpc", user, method, args });
  }

  /** CPU that the workerd has used, all its threads together: milliseconds. */
  cpuMs(): number {
    const nanoseconds = readdirSync(`/proc/${this.pid}/task`).reduce((sum, thread) => {
      const spent = readFileSync(`/proc/${this.pid}/task/${thread}/schedstat`, "utf8").split(" ")[0];
      return sum + Number(spent);
    }, 0);
    return nanoseconds / 1e6;
  }

  async end(): Promise<void> {
    this.#child.kill("SIGTERM");
    this.#child.stdin?.end();
    await this.#exited;
    rmSync(this.#folder, { recursive: true, force: true });
  }
}
