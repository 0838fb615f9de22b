/**
 * Everything of a deployment in one bundle, for plain workerd (test/support/copies): copies of the edge that can be made
 * to fail, the authority with its rows counted, agents that do as the query says, and what the edge is compared with.
 * Each service of the workerd takes from it what it is.
 */
import { DurableObject, WorkerEntrypoint } from "cloudflare:workers";
import edge, {
  Authority as RealAuthority,
  SessionAuthority as RealSessionAuthority,
} from "../../../../worker/index.ts";
import type { ConnectionId, Micros } from "../../../../core/ids.ts";
import type { AuthorityServiceRpc } from "../../../../core/wire/agents.ts";
import { lease } from "./config.ts";
import { asked, faults, withFaults } from "./faults.ts";
import { VirtualClock } from "./virtual.ts";

interface CopiesEnv extends Env {
  readonly LEASE_MS: string;
  readonly METER: DurableObjectNamespace<Meter>;
}

/** Rows that this isolate's objects wrote, as the platform bills them: an alarm that is set is one. */
const rows = { written: 0 };

let isCounting = false;

function countRows(ctx: DurableObjectState): void {
  const sql = Object.getPrototypeOf(ctx.storage.sql) as SqlStorage;
  const storage = Object.getPrototypeOf(ctx.storage) as DurableObjectStorage;
  if (isCounting) return;
  isCounting = true;
  const { exec } = sql;
  const { setAlarm } = storage;
  let last: { readonly rowsWritten: number } | null = null;
  // A cursor knows its rows when it has been read: by the next statement at the latest, for decisions are synchronous.
  sql.exec = function (this: SqlStorage, ...args: Parameters<SqlStorage["exec"]>) {
    rows.written += last?.rowsWritten ?? 0;
    const cursor = exec.apply(this, args);
    last = cursor;
    return cursor;
  } as SqlStorage["exec"];
  storage.setAlarm = function (this: DurableObjectStorage, ...args) {
    rows.written++;
    return setAlarm.apply(this, args);
  };
}

export class SessionAuthority extends RealSessionAuthority {
  constructor(ctx: DurableObjectState, env: CopiesEnv) {
    lease.milliseconds = Number(env.LEASE_MS);
    countRows(ctx);
    super(ctx, env);
  }

  /** Reads its tables, as no RPC does. */
  async query(text: string): Promise<Record<string, SqlStorageValue>[]> {
    return this.ctx.storage.sql.exec(text).toArray();
  }

  async alarmNow(): Promise<void> {
    await this.onAlarm();
  }
}

export class Authority extends RealAuthority {}

/** A copy of the edge, through its faults. */
export class Copy extends WorkerEntrypoint<CopiesEnv> {
  override async fetch(request: Request): Promise<Response> {
    lease.milliseconds = Number(this.env.LEASE_MS);
    if (faults.isDead) return new Response("dead", { status: 599 });
    const answer = await edge.fetch(request as Parameters<typeof edge.fetch>[0], withFaults(this.env), this.ctx);
    return faults.isDead ? new Response("dead", { status: 599 }) : answer;
  }
}

interface Order {
  readonly do: string;
  readonly [name: string]: unknown;
}

/** Seconds by which a copy's clock differs from the host's. */
let clockOffsetMs = 0;
const hostNow = Date.now;

/** What a test may ask of one copy, on a socket of its own. */
export class Control extends WorkerEntrypoint<CopiesEnv> {
  override async fetch(request: Request): Promise<Response> {
    lease.milliseconds = Number(this.env.LEASE_MS);
    const order: Order = await request.json();
    const answer = await this.#obey(order);
    return Response.json(answer ?? null);
  }

  async #obey(order: Order): Promise<unknown> {
    switch (order.do) {
      case "rpc": {
        const { user, method, args } = order as unknown as { user: string; method: string; args: unknown[] };
        const stub = this.env.AUTHORITY.getByName(user) as unknown as Record<string, (...a: unknown[]) => unknown>;
        return await stub[method]?.(...args);
      }
      case "faults":
        return Object.assign(faults, order["faults"]);
      case "asked":
        return asked.counts;
      case "rows":
        return rows.written;
      case "clock":
        clockOffsetMs = Number(order["offsetMs"]);
        Date.now = clockOffsetMs === 0 ? hostNow : () => hostNow() + clockOffsetMs;
        return Date.now();
      case "now":
        return Date.now();
      case "spaced":
        return this.#spaced(order as unknown as Spaced);
      case "served":
        return this.env.METER.getByName("x").served();
      default:
        throw new Error(`no such order: ${order.do}`);
    }
  }

  /** Evenly spaced calls of one token by a virtual clock; what they took of the object. */
  async #spaced({ user, token, callsPerSecond, calls, leaseMs }: Spaced) {
    const clock = new VirtualClock();
    const env = withFaults(this.env);
    lease.milliseconds = leaseMs;
    const sumOf = (counts: Record<string, number>) => Object.values(counts).reduce((sum, count) => sum + count, 0);
    const before = { hops: sumOf(asked.counts), rows: rows.written };
    let refused = 0;
    clock.start();
    try {
      const start = clock.now;
      for (let i = 0; i < calls; i++) {
        await clock.goTo(start + Math.round((i * 1_000) / callsPerSecond));
        const request = new Request("http://127.0.0.1/agents/meter/default", {
          headers: { authorization: `Bearer ${token}` },
        });
        const answer = await edge.fetch(request as Parameters<typeof edge.fetch>[0], env, this.ctx);
        await answer.body?.cancel();
        if (answer.status !== 200) refused++;
        await clock.rest();
      }
      // The last slices are told of; then the minute is over, and its calls become rows.
      await clock.goTo(clock.now + 15_000);
      const hops = sumOf(asked.counts) - before.hops;
      await clock.goTo(clock.now + 60_000);
      await (this.env.AUTHORITY.getByName(user) as unknown as { alarmNow(): Promise<void> }).alarmNow();
      return { calls, refused, hops, rows: rows.written - before.rows };
    } finally {
      clock.stop();
      lease.milliseconds = Number(this.env.LEASE_MS);
    }
  }
}

interface Spaced {
  readonly user: string;
  readonly token: string;
  readonly callsPerSecond: number;
  readonly calls: number;
  readonly leaseMs: number;
}

interface MeterEnv {
  readonly LEGATE: AuthorityServiceRpc;
  readonly BARE: { ping(question: object): Promise<object> };
}

/** Calls that were served and what they said they cost, by the `run` that the query names. */
const served: Record<string, { calls: number; cost: number; from: number }> = {};

const BODY = JSON.stringify({ answer: "42", of: "life, the universe, and everything", sources: ["deep thought"] });

/** An agent behind the gate: costs, waits and fails as the query says. */
export class Meter extends DurableObject<MeterEnv> {
  override async fetch(request: Request): Promise<Response> {
    const { pathname, searchParams } = new URL(request.url);
    if (pathname.endsWith("/messages")) return this.#messages(request, Number(searchParams.get("count")));
    const run = searchParams.get("run");
    if (run !== null) {
      const tally = (served[run] ??= { calls: 0, cost: 0, from: 0 });
      tally.calls++;
      const most = Number(searchParams.get("most") ?? 1);
      const cost = searchParams.has("cost") ? Number(searchParams.get("cost")) : Math.floor(Math.random() * (most + 1));
      const wait = Number(searchParams.get("wait") ?? 0);
      if (wait > 0) await new Promise((wake) => setTimeout(wake, wait));
      tally.cost += cost;
      return new Response(BODY, { headers: { "content-type": "application/json", "legate-cost": String(cost) } });
    }
    return new Response(BODY, { headers: { "content-type": "application/json" } });
  }

  async served() {
    return served;
  }

  /** What admitting one message takes, beside a bare call of the same service: microseconds each, by turns. */
  async #messages(request: Request, count: number): Promise<Response> {
    const { LEGATE, BARE } = this.env;
    const identity = request.headers.get("legate-identity") ?? "";
    const connection = crypto.randomUUID().replaceAll("-", "") as ConnectionId;
    const registered = await LEGATE.register({ connection, identity, object: this.ctx.id.name ?? "" });
    if (!registered.ok) return Response.json(registered, { status: 409 });
    const { handle } = registered.value;
    const question = { handle, cost: 1 as Micros, delegation: false };
    const [bare, admit] = [[] as number[], [] as number[]];
    for (let turn = 0; turn < 20; turn++) {
      const start = Date.now();
      for (let i = 0; i < count; i++) await BARE.ping(question);
      const between = Date.now();
      for (let i = 0; i < count; i++) {
        const admitted = await LEGATE.admit(question);
        if (!admitted.ok) return Response.json(admitted, { status: 409 });
      }
      bare.push(((between - start) * 1_000) / count);
      admit.push(((Date.now() - between) * 1_000) / count);
    }
    await LEGATE.disconnect({ handle, code: 1000 });
    return Response.json({ bare, admit });
  }
}

/** What a message's admission is compared with. */
export class Bare extends WorkerEntrypoint {
  async ping(question: object): Promise<object> {
    return { ok: true, value: question };
  }
}

let sameHeaders: Record<string, string> = {};

/** The same status, headers and body as the gate's, by the same hop to the same object; nothing is checked. */
export class Same extends WorkerEntrypoint<CopiesEnv> {
  override async fetch(request: Request): Promise<Response> {
    if (request.method === "PUT") {
      sameHeaders = await request.json();
      return new Response(null, { status: 204 });
    }
    const answer = await this.env.METER.getByName("shared.default").fetch(request);
    return new Response(answer.body, { status: answer.status, headers: sameHeaders });
  }
}

/** The same again, without a hop: what a Worker can answer by itself. */
export class SameAlone extends WorkerEntrypoint<CopiesEnv> {
  override async fetch(): Promise<Response> {
    return new Response(BODY, { headers: sameHeaders });
  }
}

/** A D1 that takes everything and has nothing. */
export class Database extends WorkerEntrypoint {
  override async fetch(request: Request): Promise<Response> {
    const asks: unknown = await request.json();
    const meta = { changes: 0, duration: 0, rows_read: 0, rows_written: 0, last_row_id: 0, changed_db: false };
    const nothing = { success: true, results: { columns: [], rows: [] }, meta };
    return Response.json(Array.isArray(asks) ? asks.map(() => nothing) : [nothing]);
  }
}

export default edge;
