// A running server on a state folder of its own, and what a test may look at beside its answers: which objects exist,
// and the database files. Nothing of it outlives `end`.
import { mkdtempSync, readdirSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { LegateConfigInput } from "../../../core/config.ts";
import { startServer } from "../../../scripts/lib/serve.mjs";
import { writeConfigs } from "./other-config.ts";

/** A process that was killed keeps its port for a moment, and a client's connection may have borrowed the number. */
const PORT_FREE_WITHIN_MS = 90_000;

type Server = Awaited<ReturnType<typeof startServer>>;

interface Options {
  /** What it is, in the place of legate.config.ts. */
  readonly input?: LegateConfigInput;
  /** Is given what the server prints. */
  readonly log?: (text: string) => void;
}

type Start = Omit<NonNullable<Parameters<typeof startServer>[0]>, "port">;

export class Deployment {
  readonly stateDir: string;
  readonly #start: Start;
  #server: Server;

  private constructor(stateDir: string, start: Start, server: Server) {
    this.stateDir = stateDir;
    this.#start = start;
    this.#server = server;
  }

  static async start({ input, log = () => {} }: Options = {}): Promise<Deployment> {
    const stateDir = mkdtempSync(join(tmpdir(), "legate-conformance-"));
    const written = input === undefined ? null : writeConfigs(stateDir, input);
    const configs = written === null ? {} : { configs: [written.edge, written.agents] };
    const start: Start = { stateDir, log, ...configs };
    return new Deployment(stateDir, start, await startServer(start));
  }

  get url(): string {
    return this.#server.url;
  }

  /** wrangler's configurations, where they are not the repository's own; the edge's first. */
  get configs(): readonly string[] | undefined {
    return this.#start.configs;
  }

  get secrets(): Readonly<Record<string, string>> {
    return this.#server.secrets;
  }

  /** SIGKILL to every process of the server at once: nobody gets a last word. */
  kill9(): Promise<void> {
    return this.#server.kill9();
  }

  /** Starts anew on the same state and the same port: the issuer's name has the port in it. */
  async restart(): Promise<void> {
    const start = { ...this.#start, port: Number(new URL(this.url).port) };
    const until = Date.now() + PORT_FREE_WITHIN_MS;
    for (;;) {
      try {
        this.#server = await startServer(start);
        return;
      } catch (failure) {
        if (Date.now() > until || !String(failure).includes("is in use")) throw failure;
        await new Promise((resolve) => setTimeout(resolve, 200));
      }
    }
  }

  /** Stops the server and keeps its state. */
  stop(): Promise<void> {
    return this.#server.stop();
  }

  async end(): Promise<void> {
    await this.stop();
    rmSync(this.stateDir, { recursive: true, force: true });
  }

  /** Where the objects' databases lie: one folder a class, one file an object. */
  get objectsDir(): string {
    return join(this.stateDir, "state/v3/do");
  }

  /** The objects that exist, `<Worker>-<Class>/<id>`, those of some classes alone where they are named. */
  objects(...classes: string[]): string[] {
    const names = readdirSync(this.objectsDir, { recursive: true }).map(String);
    return names
      .filter((name) => /^[^/]+\/[0-9a-f]{64}\.sqlite$/.test(name))
      .filter((name) => classes.length === 0 || classes.some((wanted) => name.split("/", 1)[0]?.endsWith(`-${wanted}`)))
      .map((name) => name.slice(0, -".sqlite".length))
      .toSorted();
  }

  /** D1's database file. */
  get database(): string {
    const folder = join(this.stateDir, "state/v3/d1/miniflare-D1DatabaseObject");
    const file = readdirSync(folder).find((name) => /^[0-9a-f]{64}\.sqlite$/.test(name));
    if (file === undefined) throw new Error("there is no D1 database");
    return join(folder, file);
  }
}
