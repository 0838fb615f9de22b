/**
 * The real SessionAuthority in workerd, with its storage and its RPC, in a harness of its own
 * (test/support/workerd/simulated). Clock and timers of that isolate are the run's; evictions are the platform's.
 */
import { fileURLToPath } from "node:url";
import type { ObjectHost, Row } from "./host.ts";
import { ID_KEY } from "./ids.ts";
import { ISSUER } from "./tokens.ts";

const CONFIG = fileURLToPath(new URL("../support/workerd/simulated/wrangler.jsonc", import.meta.url));

const withSets = (_: string, value: unknown): unknown => (value instanceof Set ? { $set: [...value] } : value);

export async function workerdHost(): Promise<ObjectHost> {
  const { createTestHarness } = await import("wrangler");
  const harness = createTestHarness({
    workers: [{ configPath: CONFIG, vars: { LEGATE_ISSUER: ISSUER, LEGATE_ID_KEY: ID_KEY } }],
  });
  const { url } = await harness.listen();
  let user = "";
  let now = 0;
  let clock: () => number = () => now;
  /** Rows that are asked for again and again come with every answer: half of the way is saved. */
  const seen = new Map<string, readonly Row[] | null>();
  const send = async (method: string, args: readonly unknown[], limits: unknown = null): Promise<unknown> => {
    const rows = [...seen.keys()];
    const body = JSON.stringify({ user, method, args, now, trueNow: clock(), limits, rows }, withSets);
    const response = await fetch(url, { method: "POST", body });
    const said = (await response.json()) as { answer?: unknown; thrown?: string; rows: (readonly Row[])[] };
    rows.forEach((sql, i) => seen.set(sql, said.rows[i] ?? null));
    if (said.thrown !== undefined) throw new Error(said.thrown);
    return said.answer;
  };
  const evict = async (): Promise<void> => {
    try {
      await harness.getWorker().evictDurableObject("AUTHORITY", { name: user });
    } catch (failure) {
      if (!String(failure).includes("not currently running")) throw failure;
    }
  };
  const ask = (method: string, args: readonly unknown[], at: number): Promise<unknown> => {
    now = at;
    return send(method, args);
  };
  return {
    isHere: false,
    async begin(setup) {
      ({ user } = setup);
      clock = setup.trueNow;
      now = clock();
      await send("simulatedEmpty", [], setup.limits);
      await evict();
    },
    ask,
    evict,
    async alarm(at) {
      await ask("simulatedAlarm", [], at);
    },
    async rows(sql) {
      if (!sql.includes(" due ") && !seen.has(sql)) seen.set(sql, null);
      const known = seen.get(sql);
      if (known !== null && known !== undefined) return known;
      const [rows] = (await send("simulatedRows", [[sql]])) as (readonly Row[])[];
      return rows ?? [];
    },
    failAt: null,
    ponder: null,
    close: () => harness.close(),
  };
}
