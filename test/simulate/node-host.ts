/**
 * The real SessionAuthority in plain node: `cloudflare:workers` is a class with a constructor, storage is node:sqlite
 * behind the two methods of DurableObjectStorage that the object uses for rows, and nothing else of workerd is there. No
 * decision is replaced: what is tested is the code that is deployed.
 */
import { readFileSync } from "node:fs";
import { registerHooks, stripTypeScriptTypes } from "node:module";
import { DatabaseSync, type SQLInputValue, type StatementSync } from "node:sqlite";
import { fileURLToPath } from "node:url";
import type { LegateConfig } from "../../core/config.ts";
import type { ObjectHost, Row } from "./host.ts";
import { ID_KEY } from "./ids.ts";
import { chanceOf, type Chance } from "./random.ts";
import { ISSUER } from "./tokens.ts";

const FOLDER = new URL("../../", import.meta.url);
const PLATFORM = "legate-simulated:workers";
const CHANCE = "legate-simulated:crypto";

/** Only these modules are not what they are in workerd. */
const REPLACED: Readonly<Record<string, string>> = {
  [PLATFORM]: `
    export class DurableObject { constructor(ctx, env) { this.ctx = ctx; this.env = env; } }
    export class WorkerEntrypoint extends DurableObject {}
    export const env = {};`,
  // Ids of a run come from its seed, so that a failure replays to the letter.
  [CHANCE]: `
    export * from "node:crypto";
    export const randomBytes = (length) => globalThis.legateSimulatedBytes(length);`,
};

const ISOLATE = "?isolate=";
const resolved = new Map<string, { url: string; format?: string | null | undefined }>();
const stripped = new Map<string, string>();

/** drizzle's `is`, with its answers remembered by class: a fifth of a run's time otherwise. */
const REMEMBERED_KINDS = `
  export const entityKind = Symbol.for("drizzle:entityKind");
  export const hasOwnEntityKind = Symbol.for("drizzle:hasOwnEntityKind");
  const answers = new Map();
  export function is(value, type) {
    if (!value || typeof value !== "object") return false;
    const own = Object.getPrototypeOf(value)?.constructor;
    if (!own) return value instanceof type;
    let known = answers.get(own);
    if (known === undefined) answers.set(own, (known = new Map()));
    let answer = known.get(type);
    if (answer === undefined) {
      answer = value instanceof type;
      for (let cls = own; cls && !answer; cls = Object.getPrototypeOf(cls))
        answer = entityKind in cls && cls[entityKind] === type[entityKind];
      known.set(type, answer);
    }
    return answer;
  }`;

let areHooked = false;
function hook(): void {
  if (areHooked) return;
  areHooked = true;
  registerHooks({
    resolve(specifier, context, next) {
      if (context.parentURL?.includes(ISOLATE) === true) {
        // Isolates are module instances by the thousand: what they import is looked up once.
        const known = resolved.get(specifier) ?? next(specifier, context);
        resolved.set(specifier, known);
        return { ...known, shortCircuit: true };
      }
      if (specifier.includes(ISOLATE)) return { url: specifier, format: "module", shortCircuit: true };
      if (specifier === "cloudflare:workers") return { url: PLATFORM, shortCircuit: true };
      if (specifier === "node:crypto" && context.parentURL?.endsWith("/session-authority.ts") === true)
        return { url: CHANCE, shortCircuit: true };
      return next(specifier, context);
    },
    load(url, context, next) {
      const source = REPLACED[url];
      if (source !== undefined) return { format: "module", source, shortCircuit: true };
      if (url.includes(ISOLATE)) {
        const path = fileURLToPath(url.slice(0, url.indexOf("?")));
        const source = stripped.get(path) ?? stripTypeScriptTypes(readFileSync(path, "utf8"));
        stripped.set(path, source);
        return { format: "module", source, shortCircuit: true };
      }
      if (url.endsWith("/drizzle-orm/entity.js"))
        return { format: "module", source: REMEMBERED_KINDS, shortCircuit: true };
      if (!/\.sql$|\/migrations\/.*\.json$/.test(url)) return next(url, context);
      const text = readFileSync(fileURLToPath(url), "utf8");
      const value = url.endsWith(".json") ? text : JSON.stringify(text);
      return { format: "module", source: `export default ${value}`, shortCircuit: true };
    },
  });
}

interface Prepared {
  readonly statement: StatementSync;
  readonly answers: boolean;
}

/** Rows as objects, or as arrays where drizzle maps columns itself: names may repeat. */
class Cursor {
  readonly #statement: StatementSync;
  readonly #params: SQLInputValue[];

  constructor(statement: StatementSync, params: SQLInputValue[]) {
    this.#statement = statement;
    this.#params = params;
  }

  #all(asArrays: boolean): Row[] {
    this.#statement.setReturnArrays(asArrays);
    return this.#statement.all(...this.#params);
  }

  toArray(): Row[] {
    return this.#all(false);
  }

  next(): { value: Row | undefined; done: boolean } {
    const [value] = this.#all(false);
    return { value, done: value === undefined };
  }

  raw(): { toArray(): Row[] } {
    return { toArray: () => this.#all(true) };
  }
}

const NOTHING = {
  toArray: () => [],
  next: () => ({ value: undefined, done: true }),
  raw: () => ({ toArray: () => [] }),
};

/** The storage of one Durable Object: rows, transactions, and when its alarm is set for. */
class Storage {
  readonly #db = new DatabaseSync(":memory:");
  readonly #statements = new Map<string, Prepared>();
  #depth = 0;
  #left: number | null = null;

  readonly sql = {
    exec: (text: string, ...params: SQLInputValue[]): unknown => {
      this.#count();
      const { statement, answers } = this.#prepare(text);
      if (!answers) {
        statement.run(...params);
        return NOTHING;
      }
      return new Cursor(statement, params);
    },
  };

  #prepare(text: string): Prepared {
    const known = this.#statements.get(text);
    if (known !== undefined) return known;
    const statement = this.#db.prepare(text);
    const made = { statement, answers: statement.columns().length > 0 };
    this.#statements.set(text, made);
    return made;
  }

  transactionSync<T>(work: () => T): T {
    const name = `s${this.#depth++}`;
    this.#db.exec(`savepoint ${name}`);
    try {
      const value = work();
      this.#db.exec(`release ${name}`);
      return value;
    } catch (thrown) {
      this.#db.exec(`rollback to ${name}; release ${name}`);
      throw thrown;
    } finally {
      this.#depth--;
    }
  }

  /** What the alarm is set for; the run lets it come, late or in time. */
  #alarm: number | null = null;

  setAlarm(at: number): Promise<void> {
    this.#alarm = at;
    return Promise.resolve();
  }

  getAlarm(): Promise<number | null> {
    return Promise.resolve(this.#alarm);
  }

  deleteAlarm(): Promise<void> {
    this.#alarm = null;
    return Promise.resolve();
  }

  failAt(statement: number | null): void {
    this.#left = statement;
  }

  #count(): void {
    if (this.#left === null || --this.#left > 0) return;
    this.#left = null;
    throw new Error("simulated: the storage failed");
  }

  rows(text: string): readonly Row[] {
    return new Cursor(this.#prepare(text).statement, []).toArray();
  }

  clear(): void {
    this.#alarm = null;
    const tables = this.rows(
      "select name from sqlite_master where type = 'table' and name not like '\\_\\_%' escape '\\'",
    );
    this.#db.exec("pragma foreign_keys = off");
    for (const { name } of tables) this.#db.exec(`delete from "${String(name)}"`);
    this.#db.exec("pragma foreign_keys = on");
  }

  /** What is done in between leaves no trace. */
  async undone<T>(work: () => Promise<T>): Promise<T> {
    this.#db.exec("savepoint ponder");
    this.#depth++;
    try {
      return await work();
    } finally {
      this.#depth--;
      this.#db.exec("rollback to ponder; release ponder");
    }
  }
}

type Instance = Readonly<Record<string, (...args: unknown[]) => Promise<unknown>>>;
type AuthorityClass = new (ctx: unknown, env: unknown) => Instance;

export async function nodeHost(): Promise<ObjectHost> {
  hook();
  const { SessionAuthority } = (await import(new URL("durable-objects/session-authority.ts", FOLDER).href)) as {
    SessionAuthority: AuthorityClass;
  };
  const { config } = (await import(new URL("legate.config.ts", FOLDER).href)) as { config: LegateConfig };
  const storage = new Storage();
  let name = "";
  let chance: Chance = chanceOf(0);
  (globalThis as unknown as { legateSimulatedBytes: unknown }).legateSimulatedBytes = (length: number) =>
    chance.bytes(length);
  const env = {
    LEGATE_ISSUER: ISSUER,
    LEGATE_ID_KEY: ID_KEY,
    AUTHORITY: null,
    // D1 is never in reach: what is delivered there has tests of its own, and no decision waits for it.
    DB: {
      prepare: () => {
        throw new Error("simulated: no D1");
      },
    },
  };
  const make = async (): Promise<Instance> => {
    const waiting: Promise<unknown>[] = [];
    const ctx = {
      id: { name },
      storage,
      blockConcurrencyWhile: (work: () => Promise<unknown>) => void waiting.push(work()),
      waitUntil: () => undefined,
      getWebSockets: () => [],
      setWebSocketAutoResponse: () => undefined,
    };
    const instance = new SessionAuthority(ctx, env);
    await Promise.all(waiting);
    return instance;
  };
  let instance: Instance | null = null;
  const call = async (on: Instance, method: string, args: readonly unknown[]): Promise<unknown> =>
    structuredClone(await on[method]?.(...structuredClone(args)));
  return {
    isHere: true,
    async begin(setup) {
      name = setup.user;
      chance = chanceOf(setup.seed);
      Object.assign(config.limits, setup.limits);
      storage.failAt(null);
      instance ??= await make(); // the first one migrates
      storage.clear();
      instance = await make();
    },
    ask: async (method, args) => call((instance ??= await make()), method, args),
    async evict() {
      instance = null;
    },
    async alarm() {
      instance ??= await make();
      await instance["onAlarm"]?.();
    },
    rows: async (sql) => storage.rows(sql),
    failAt: (statement) => storage.failAt(statement),
    async ponder(questions) {
      const before = instance;
      try {
        return await storage.undone(async () => {
          instance = await make();
          return questions();
        });
      } finally {
        instance = before;
      }
    },
    async close() {
      storage.failAt(null);
    },
  };
}
