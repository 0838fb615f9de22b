/**
 * What must hold between commands, and at the end. The rows say the same as the model, the live object the same as its
 * rows, a freshly evicted object the same as the live one; nothing is spent over a cap; and when all is told and settled,
 * every call that was served is counted exactly once.
 */
import { isAtOrBelow, type EpochMs, type Micros, type NodePath } from "../../core/ids.ts";
import type { Denial } from "../../core/denial.ts";
import type { Result } from "../../core/result.ts";
import type { Admission, LeashView } from "../../core/wire/answers.ts";
import { used, type ModelLevel } from "./model.ts";
import { judgeRates } from "./rate-log.ts";
import { must } from "./violation.ts";
import { ORIGIN, type Client, type ENTRIES, type World } from "./world.ts";

/** After every command. */
export async function check(world: World): Promise<void> {
  if (world.failure !== null) throw world.failure as Error;
  if (!world.wasAsked()) return; // nothing can have changed
  await checkRows(world);
  checkCaps(world);
}

/** I2, I18: what rests in storage is what was answered. */
async function checkRows({ host, model }: World): Promise<void> {
  const open = await host.rows("select id, units from slices");
  const known = model.slices.filter(({ end }) => end === "open");
  must(
    open.length === known.length && open.every(({ id }) => known.some((slice) => slice.id === id)),
    "I18",
    () => `${open.length} slices are open in storage, ${known.length} by the model`,
  );
  const held = await host.rows(
    `select h.path as path, sum(h.amount + coalesce((select sum(enlarged) from charges c where c.hold_id = h.id), 0)) as held
       from holds h left join outcomes o on o.hold_id = h.id where o.hold_id is null group by h.path`,
  );
  const settled = await host.rows("select path, settled from nodes where settled <> 0");
  const folded = await host.rows("select id, settled from agents where settled <> 0");
  const rowsOf = (rows: typeof held, path: string, key: string): number =>
    rows.reduce((sum, row) => sum + (row["path"] === path ? Number(row[key]) : 0), 0);
  for (const path of model.nodes.keys()) {
    const sums = model.sums((item) => item.path === path);
    must(
      rowsOf(held, path, "held") === sums.held,
      "I2",
      () => `${rowsOf(held, path, "held")} are held at ${path}, ${sums.held} by the model`,
    );
  }
  const [all, byModel] = [
    settled.reduce((sum, row) => sum + Number(row["settled"]), 0) +
      folded.reduce((sum, row) => sum + Number(row["settled"]), 0),
    model.sums(() => true).settled,
  ];
  must(all === byModel, "I2", () => `${all} are settled in storage, ${byModel} by the model`);
  must(
    settled.every((row) => Number(row["settled"]) > 0) && held.every((row) => Number(row["held"]) >= 0),
    "I2",
    () => "an amount below 0",
  );
}

/** I1: no subtree has used more than its cap ever was. */
function checkCaps({ model }: World): void {
  for (const node of model.nodes.values()) {
    if (node.capMost === null) continue;
    const sum = used(model.sums((item) => isAtOrBelow(item.path, node.path)));
    must(sum <= node.capMost, "I1", () => `${sum} of a cap of ${String(node.capMost)} at ${node.path}`);
  }
  for (const [agent, cap] of model.agents) {
    if (model.loweredAgents.has(agent)) continue;
    const sum = used(model.sums((item) => item.agent === agent));
    must(sum <= cap, "I1", () => `${sum} of a cap of ${cap} at ${agent}`);
  }
  const { userCap, day } = model;
  if (userCap === null) return;
  const today = used(model.sums((item) => item.day === day));
  must(today <= userCap, "I1", () => `${today} of a cap of ${userCap} for the day`);
}

/** What `leash` must answer. */
function expectLeash(
  { model, timeline }: World,
  path: NodePath,
): { settled: number; held: number; remaining: number | null | "any" } {
  const levels = model.levels(path, 0, timeline.objectNow);
  const { settled, held, leased, lost } = levels.at(-1) as ModelLevel;
  const capped = levels.filter(({ cap }) => cap !== null);
  const isPlain = ![...model.nodes.values()].some(({ reserved }) => reserved > 0);
  const least =
    capped.length === 0 ? null : Math.max(0, Math.min(...capped.map(({ cap, committed }) => (cap ?? 0) - committed)));
  return { settled: settled + lost, held: held + leased, remaining: isPlain ? least : "any" };
}

async function leashOf(world: World, client: Client): Promise<Result<LeashView, Denial>> {
  const leash = await world.ask<LeashView>("leash", [client.token]);
  world.model.look(world.timeline.objectNow);
  return leash;
}

/** The live object's memory says what the model says. */
async function checkLeash(world: World, client: Client): Promise<Result<LeashView, Denial>> {
  const leash = await leashOf(world, client);
  const isLive = world.model.isLive(client.path, world.timeline.objectNow);
  must(leash.ok === isLive, "I17", () => `${client.path} ${isLive ? "lives" : "has ended"}: ${JSON.stringify(leash)}`);
  if (!leash.ok) return leash;
  const { settled, held, remaining } = leash.value.budget;
  const expected = expectLeash(world, client.path);
  must(
    settled === expected.settled &&
      held === expected.held &&
      (expected.remaining === "any" || remaining === expected.remaining),
    "I2",
    () =>
      `the leash of ${client.path} is ${JSON.stringify(leash.value.budget)}, and should be ${JSON.stringify(expected)}`,
  );
  return leash;
}

/** I18, I19: what the live object answers is what a freshly evicted one answers. */
export async function checkLeashes(world: World, asked: readonly Client[]): Promise<void> {
  const now = world.timeline.objectNow;
  const clients: Client[] = [];
  for (const client of asked) if ((await world.fresh(client)) !== null) clients.push(client);
  if (clients.length === 0) return; // an evicted object would wake at a later question, and count slices from there
  const live: Result<LeashView, Denial>[] = [];
  for (const client of clients) live.push(await checkLeash(world, client));
  const compare = async (): Promise<void> => {
    for (const [i, client] of clients.entries()) {
      const fresh = (await world.host.ask("leash", [client.token], now)) as Result<LeashView, Denial>;
      const [a, b] = [total(live[i] ?? fresh), total(fresh)];
      must(a === b, "I19", () => `the live object says ${a} of ${client.path}, a freshly evicted one ${b}`);
    }
  };
  if (world.host.ponder !== null) return world.host.ponder(compare);
  await world.host.evict();
  world.model.evicted();
  await compare();
  world.model.look(now);
}

/** Time begins again at an eviction: lost slices are leased again, and only the sum is the same. */
function total(leash: Result<LeashView, Denial>): string {
  if (!leash.ok) return leash.denial.reason;
  const { cap, settled, held, remaining } = leash.value.budget;
  return JSON.stringify({ cap, used: settled + held, remaining });
}

/** I16: a call exactly `retryAfter` later is admitted, a millisecond earlier it is not. */
export async function checkRetryAfter(world: World, client: Client, entry: (typeof ENTRIES)[number]): Promise<void> {
  const token = await world.fresh(client);
  if (token === null || world.host.ponder === null) return;
  const { timeline } = world;
  const before = timeline.objectSkew;
  const askAt = async (id: string, ms: number): Promise<Result<Admission, Denial>> => {
    timeline.objectSkew = before + ms;
    const question = {
      token,
      callId: id,
      slug: entry.slug,
      instance: "default",
      requiredTier: "free",
      level: "strict",
      kind: "http",
      cost: entry.cost as Micros,
      origin: ORIGIN,
      askedAt: timeline.objectNow as EpochMs,
      lease: null,
      reports: [],
    };
    return (await world.host.ask("admit", [question], timeline.objectNow)) as Result<Admission, Denial>;
  };
  try {
    await world.host.ponder(async () => {
      const first = await askAt("probe-0", 0);
      if (first.ok || first.denial.reason !== "rate_limited") return;
      const { retryAfterMs } = first.denial;
      const early = await askAt("probe-1", retryAfterMs - 1);
      must(!early.ok, "I16", () => `a call 1 ms before Retry-After (${retryAfterMs} ms) was admitted`);
      const due = await askAt("probe-2", retryAfterMs);
      must(
        due.ok || due.denial.reason === "ended",
        "I16",
        () => `a call at Retry-After (${retryAfterMs} ms) was refused: ${JSON.stringify(due)}`,
      );
    });
  } finally {
    timeline.objectSkew = before;
  }
}

/** The end: the network heals, what is under way ends, isolates tell all, and every minute passes. */
export async function drain(world: World): Promise<void> {
  world.host.failAt?.(null);
  for (let round = 0; round < 8; round++) {
    for (const call of world.calls) if (call.state === "open" && !call.isolate.isDead) world.end(call, null, false);
    for (const isolate of world.liveIsolates) isolate.reportOverdue();
    await world.timeline.advance(round < 4 ? 3_000 : 400);
    for (const message of world.messages) await world.deliver(message, "arrives");
    if (world.failure !== null) throw world.failure as Error;
  }
  await checkLeashes(
    world,
    world.clients.filter((_, i) => i % 3 === 0),
  );
  world.timeline.objectSkew = Math.max(world.timeline.objectSkew, 0);
  for (let i = 0; i < 3; i++) {
    await world.timeline.advance(700_000);
    await world.witness.alarm();
  }
  await check(world);
  checkCounted(world);
  judgeRates(world.witness.rateLog, world.windows, world.user);
}

/** Promise 5: a call that was served is counted exactly once, or within its slice. */
function checkCounted({ model, calls }: World): void {
  for (const slice of model.slices) {
    must(slice.end !== "open", "I2", () => `slice ${slice.id} is still open at the end`);
    const own = calls.filter(
      ({ admitted }) => admitted?.source.kind === "slice" && admitted.source.slice.grant.id === slice.id,
    );
    const served = own.filter(({ state }) => state !== "void");
    const spent = served.reduce((sum, call) => sum + chargedFor(model, call), 0);
    if (slice.report === null || slice.end === "lost") {
      must(spent <= slice.units, "I5", () => `${spent} were spent of lost slice ${slice.id} with ${slice.units}`);
      continue;
    }
    const later = slice.report.running.reduce(
      (sum, { callId }) => sum + (model.holds.find((hold) => hold.callId === callId)?.cost ?? 0),
      0,
    );
    must(
      spent === slice.settled + later,
      "I5",
      () => `slice ${slice.id} tells of ${slice.settled} and ${later} later, and its calls cost ${spent}`,
    );
    must(
      served.length === slice.report.calls,
      "I5",
      () => `slice ${slice.id} tells of ${slice.report?.calls} calls, and ${served.length} were served`,
    );
  }
  for (const hold of model.holds) must(hold.outcome !== null, "I3", () => `the hold of ${hold.callId} never ended`);
}

/** What a call should have been charged: its cost, or all that was held where its end never arrived. */
function chargedFor(model: World["model"], call: World["calls"][number]): number {
  const hold = model.holds.find(({ callId }) => callId === call.id);
  if (hold === undefined) return call.state === "open" ? call.cost : call.spent;
  if (hold.outcome === "expired") return hold.amount;
  return hold.cost;
}
