// What people and operators do in a simulated run: open, delegate, narrow, set caps, stop.
import { encodeBase64url } from "../../core/base64url.ts";
import { isAtOrBelow, type AgentId, type Micros } from "../../core/ids.ts";
import type { GrantView, NodeView, StopReport } from "../../core/wire/answers.ts";
import { isUnanswered, NODES_MAX, pickOr, short, told } from "./acts.ts";
import type { Chance } from "./random.ts";
import { must } from "./violation.ts";
import { BY, ENTRIES, ORIGIN, type World } from "./world.ts";

const ACTORS_MOST = 8;

export async function open(world: World, chance: Chance): Promise<void> {
  if (world.model.nodes.size >= NODES_MAX) return;
  const agent = chance.pick(world.agents);
  const budget = chance.next() < 0.6 ? chance.int(10, 150) : null;
  const ttlSeconds = chance.next() < 0.15 ? chance.int(60, 120) : null;
  const client = { id: agent.id, stopCount: null };
  const question = {
    kind: "api",
    enrolment: null,
    client,
    scope: null,
    agents: null,
    budget,
    ttlSeconds,
    origin: ORIGIN,
    cookie: null,
    by: BY,
    idempotency: null,
  };
  const grant = await world.ask<GrantView>("open", [question]);
  if (!grant.ok) {
    must(isUnanswered(grant), "a session opens", () => JSON.stringify(grant.denial));
    return;
  }
  await world.addGrant(grant.value, agent.id, 0);
  world.say(`a session ${short(grant.value.path)} opens with a cap of ${String(grant.value.cap)}`);
}

/** A grant made by asking: narrowed online, with a reservation sometimes. */
export async function delegate(world: World, chance: Chance): Promise<void> {
  const client = pickOr(
    chance,
    world.clients.filter(({ caller }) => caller.steps.length === 0),
  );
  if (client === null || world.model.nodes.size >= NODES_MAX) return;
  const token = await world.fresh(client);
  if (token === null) return;
  const reserve = chance.next() < 0.5 ? (chance.int(5, 60) as Micros) : null;
  const budget = (chance.next() < 0.5 ? chance.int(reserve ?? 10, 120) : null) as Micros | null;
  const now = world.timeline.objectNow;
  const id = client.caller.grant.clientId as AgentId;
  const question = {
    token,
    client: { id, stopCount: 0 },
    how: "narrow",
    scope: null,
    agents: null,
    budget,
    ttlSeconds: null,
    audience: null,
    reserve,
    by: BY,
  };
  const grant = await world.ask<GrantView>("delegate", [question]);
  if (reserve !== null && (grant.ok || grant.denial.reason.startsWith("budget_"))) world.model.look(now); // else no sums were asked for
  const isLive = world.model.isLive(client.path, now);
  world.say(
    `${short(client.path)} delegates with a cap of ${String(budget)} and ${String(reserve)} reserved: ${grant.ok ? short(grant.value.path) : grant.denial.reason}`,
  );
  if (!grant.ok) {
    must(
      isUnanswered(grant) || !isLive || reserve !== null || grant.denial.reason === "grant_invalid",
      "a grant opens",
      () => JSON.stringify(grant),
    );
    return;
  }
  must(isLive, "I7", () => `${client.path} has ended, and delegated`);
  if (reserve !== null) {
    for (const { id, cap, after, committed } of world.model.levels(client.path, reserve, now))
      must(
        cap === null || after <= cap || after === committed,
        "I1",
        () => `${reserve} were reserved over the cap of ${id}`,
      );
  }
  await world.addGrant(grant.value, world.model.nodes.get(client.path)?.agent ?? "", reserve ?? 0);
}

/** A block appended offline: nobody is asked. */
export async function narrow(world: World, chance: Chance): Promise<void> {
  const client = pickOr(
    chance,
    world.clients.filter(({ caller, token }) => token.actors.length < ACTORS_MOST && caller.steps.length < 8),
  );
  if (client === null || world.model.nodes.size >= NODES_MAX || (await world.fresh(client)) === null) return;
  const budget = chance.next() < 0.5 ? (chance.int(5, 80) as Micros) : null;
  const step = { n: encodeBase64url(chance.bytes(9)), act: "sub", budget };
  const { grant, steps } = client.caller;
  const agent = world.model.nodes.get(client.path)?.agent ?? "";
  const narrowed = await world.addClient({ grant, steps: [...steps, step] });
  world.addNode({ path: narrowed.path, agent, cap: budget, capMost: budget, reserved: 0, endsAt: Infinity });
  world.say(`${short(client.path)} narrows to ${short(narrowed.path)} with a cap of ${String(budget)}`);
}

/** Caps go up and down, below what is committed, too. */
export async function cap(world: World, chance: Chance): Promise<void> {
  if (chance.next() < 0.3) {
    const agent = chance.pick(world.agents);
    const to = chance.int(0, 500);
    const set = await world.ask("setAgentCap", [{ id: agent.id, cap: to, cookie: null, by: BY }]);
    must(set.ok || isUnanswered(set), "an agent's cap is set", () => JSON.stringify(set));
    if (!set.ok) return;
    world.model.capAgent(agent.id, to);
    world.say(`the cap of an agent is set to ${to}`);
    return;
  }
  const node = pickOr(chance, [...world.model.nodes.values()]);
  if (node === null) return;
  const to = chance.int(0, 160);
  const set = await world.ask<NodeView>("setCap", [
    { path: node.path, cap: to as Micros, by: BY, reach: { kind: "operator" }, idempotency: null },
  ]);
  world.say(`the cap of ${short(node.path)} is set to ${to}: ${told(set)}`);
  if (!set.ok) return; // it has ended, or the object has not heard of it yet
  world.model.capNode(node, to);
}

export async function terminate(world: World, chance: Chance): Promise<void> {
  const node = pickOr(chance, [...world.model.nodes.values()]);
  if (node === null) return;
  const path = node.path;
  const question = { path, why: "terminated", by: BY, reach: { kind: "operator" }, wait: false, idempotency: null };
  if (world.character.isWild && chance.next() < 0.5) setObjectClock(world, chance.pick([-10_000, 10_000, 3_000]));
  const report = await world.ask<StopReport>("terminate", [question]);
  if (report.ok) world.witness.stopped(path, report.value.fence.at);
  const fence = report.ok ? `fenced in ${report.value.fence.at - world.timeline.objectNow} ms` : report.denial.reason;
  world.say(`${short(path)} is terminated: ${fence}`);
  // Whoever still holds a slice of it calls on, and is let through until the fence alone.
  const below = world.clients.filter((client) => isAtOrBelow(client.path, path));
  for (let i = 0; i < 3 && below.length > 0; i++) {
    for (const isolate of world.liveIsolates) {
      // The caller that was there last, at its entry: if anyone has a slice, it has.
      const last = world.calls.findLast((each) => each.isolate === isolate && below.includes(each.client));
      const entry = ENTRIES.find(({ slug }) => slug === last?.slug) ?? chance.pick(ENTRIES);
      const made = await world.call(isolate, last?.client ?? chance.pick(below), entry, "counted");
      if (made !== null) world.say(`${made.id} of it at ${entry.slug} through ${isolate.name}: ${made.state}`);
    }
    await world.timeline.advance(chance.int(100, 1_500));
  }
}

export function setObjectClock(world: World, step: number): void {
  world.timeline.objectSkew += step;
  world.say(`the object's clock is set by ${step} ms`);
}
