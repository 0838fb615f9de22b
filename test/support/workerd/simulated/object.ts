// The real SessionAuthority inside workerd, for simulated runs: over HTTP come the method and its arguments, with the
// time that it is; clock and timers of this isolate follow that time alone. Three methods more let a run read rows, empty
// the storage, and let the alarm come. Never deployed.
import type { LegateConfig } from "../../../../core/config.ts";
import { SessionAuthority } from "../../../../durable-objects/session-authority.ts";
import { config } from "../../../../legate.config.ts";

interface Question {
  readonly user: string;
  readonly method: string;
  readonly args: readonly unknown[];
  /** The object's clock, and the true time, which timers keep. */
  readonly now: number;
  readonly trueNow: number;
  readonly limits: Partial<LegateConfig["limits"]> | null;
  /** Read after the question was answered. */
  readonly rows: readonly string[];
}

interface Timer {
  readonly at: number;
  readonly fire: () => void;
}

let now = 0;
let trueNow = 0;
let timers: Timer[] = [];

Date.now = () => now;
globalThis.setTimeout = ((fire: () => void, ms = 0): Timer => {
  const timer = { at: trueNow + ms, fire };
  timers.push(timer);
  return timer;
}) as unknown as typeof setTimeout;
globalThis.clearTimeout = (timer: unknown) => {
  timers = timers.filter((each) => each !== timer);
};

function setTime(question: Question): void {
  ({ now, trueNow } = question);
  const due = timers.filter(({ at }) => at <= trueNow).sort((a, b) => a.at - b.at);
  timers = timers.filter(({ at }) => at > trueNow);
  for (const { fire } of due) fire();
}

export class SimulatedAuthority extends SessionAuthority {
  simulatedRows(queries: readonly string[]): Record<string, unknown>[][] {
    return queries.map((sql) => this.ctx.storage.sql.exec(sql).toArray());
  }

  simulatedEmpty(): void {
    const { sql } = this.ctx.storage;
    const tables = sql
      .exec("select name from sqlite_master where type = 'table' and name not like '\\_%' escape '\\'")
      .toArray();
    sql.exec("pragma defer_foreign_keys = on");
    for (const { name } of tables) sql.exec(`delete from "${String(name)}"`);
  }

  async simulatedAlarm(): Promise<void> {
    await this.onAlarm();
  }
}

/** Sets travel as lists with a name: verified tokens have them. */
const revive = (_: string, value: unknown): unknown =>
  typeof value === "object" && value !== null && "$set" in value ? new Set(value.$set as unknown[]) : value;

export default {
  async fetch(request: Request, env: { AUTHORITY: DurableObjectNamespace }): Promise<Response> {
    const question = JSON.parse(await request.text(), revive) as Question;
    if (question.limits !== null) Object.assign(config.limits, question.limits);
    setTime(question);
    const stub = env.AUTHORITY.getByName(question.user) as unknown as Record<
      string,
      (...args: unknown[]) => Promise<unknown>
    >;
    const said: Record<string, unknown> = {};
    try {
      said["answer"] = (await stub[question.method]?.(...question.args)) ?? null;
    } catch (thrown) {
      said["thrown"] = String(thrown);
    }
    said["rows"] = question.rows.length === 0 ? [] : await stub["simulatedRows"]?.(question.rows);
    return Response.json(said);
  },
};
