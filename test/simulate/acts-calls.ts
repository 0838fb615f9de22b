// What callers, agents and isolates do in a simulated run: calls and their ends, honest and otherwise, and what is told of them.
import type { Micros } from "../../core/ids.ts";
import { fateOf, guarded, pickOr, short, told } from "./acts.ts";
import type { Chance } from "./random.ts";
import { settled } from "./timeline.ts";
import { ENTRIES, type SimCall, type World } from "./world.ts";

async function begin(world: World, chance: Chance, level: "counted" | "strict", times: number): Promise<void> {
  const isolate = pickOr(chance, world.liveIsolates);
  const client = pickOr(chance, world.clients);
  if (isolate === null || client === null) return;
  const entry = chance.pick(ENTRIES);
  for (let i = 0; i < times; i++) {
    const before = isolate.outbox.length;
    const made = await world.call(isolate, client, entry, level);
    if (made === null) return;
    let told = "";
    if (isolate.outbox.length > before && chance.next() < 0.8) {
      const message = isolate.outbox.at(-1);
      const fate = fateOf(chance);
      told = `, its question ${fate}`;
      if (message !== undefined) await world.deliver(message, fate);
    }
    world.say(
      `${made.id} of ${short(client.path)} at ${entry.slug} (${level}, ${entry.cost}) through ${isolate.name}${told}: ${made.state}${made.admitted === null ? "" : ` from a ${made.admitted.source.kind}`}`,
    );
    if (made.state !== "open") continue;
    const drawn = chance.next();
    if (drawn < 0.08) {
      world.end(made, "void", true); // the gate could not forward it
      world.say(`${made.id} is not forwarded`);
    } else if (drawn < 0.55) end(world, chance, made);
  }
}

function end(world: World, chance: Chance, made: SimCall): void {
  const cost = chance.next() < 0.35 ? null : chance.int(0, made.cost);
  world.end(made, cost, chance.next() < 0.1);
  world.say(`${made.id} ends at ${String(cost ?? "all that was held")}`);
}

export async function call(world: World, chance: Chance): Promise<void> {
  await begin(world, chance, "counted", chance.int(1, 2));
}

export async function burst(world: World, chance: Chance): Promise<void> {
  await begin(world, chance, "counted", chance.int(4, 9));
}

/** One caller that goes on for longer than a slice lives: first at once, then drop by drop, whatever its host's clock does. */
export async function drip(world: World, chance: Chance): Promise<void> {
  const isolate = pickOr(chance, world.liveIsolates);
  const client = pickOr(chance, world.clients);
  if (isolate === null || client === null) return;
  const entry = chance.pick(ENTRIES);
  const { termMs, isWild } = world.character;
  for (let i = 0; i < 18; i++) {
    if (i > 6) await world.timeline.advance(Math.floor(termMs / 3));
    if (isWild && i > 6 && chance.next() < 0.1) isolate.skew += chance.pick([-10_000, -3_000, 10_000]);
    const made = await world.call(isolate, client, entry, "counted");
    if (made === null) return;
    for (const message of isolate.outbox) await world.deliver(message, "arrives");
    world.say(
      `${made.id} of ${short(client.path)} at ${entry.slug} (${entry.cost}) through ${isolate.name}: ${made.state}`,
    );
    if (made.state === "open") world.end(made, 0, false);
  }
}

export async function strict(world: World, chance: Chance): Promise<void> {
  await begin(world, chance, "strict", 1);
}

export async function finish(world: World, chance: Chance): Promise<void> {
  const open = world.calls.filter(({ state, isolate }) => state === "open" && !isolate.isDead);
  for (const made of open) if (chance.next() < 0.6) end(world, chance, made);
  await settled();
}

export async function deliver(world: World, chance: Chance): Promise<void> {
  for (const message of world.messages) {
    if (chance.next() < 0.3) continue;
    const fate = fateOf(chance);
    world.say(`a message of ${message.from.name} ${fate}`);
    await world.deliver(message, fate);
  }
}

/** An agent adds to the cost of a call that has a hold of its own. */
export async function charge(world: World, chance: Chance): Promise<void> {
  const made = pickOr(
    chance,
    world.calls.filter(({ admitted }) => admitted?.source.kind === "hold"),
  );
  if (made?.admitted?.source.kind !== "hold") return;
  const { hold } = made.admitted.source;
  const question = { hold, callId: made.id, id: `charge-${chance.int(0, 3)}`, micros: chance.int(0, 12) as Micros };
  const result = await guarded(world, () => world.witness.charge(question));
  world.say(`${made.id} is charged ${question.micros} (${question.id}): ${told(result)}`);
}

/** Ends that nobody should send: twice, otherwise, too much, of another call. */
export async function hostile(world: World, chance: Chance): Promise<void> {
  const made = pickOr(
    chance,
    world.calls.filter(({ admitted }) => admitted !== null),
  );
  if (made === null || made.admitted === null) return;
  const { source } = made.admitted;
  const other = chance.pick(world.calls);
  const hold = source.kind === "hold" ? source.hold : null;
  const callId = chance.next() < 0.2 ? other.id : made.id;
  const known = world.model.holds.find((each) => each.callId === callId);
  if (hold !== null && chance.next() < 0.3) {
    if (known?.outcome === null && made.state === "open" && callId === made.id) made.state = "void";
    const result = await guarded(world, () => world.witness.void({ hold, callId }));
    world.say(`someone voids ${callId}: ${told(result)}`);
    return;
  }
  const cost = (chance.next() < 0.3 ? null : chance.int(0, made.cost * 2 + 2)) as Micros | null;
  const question = { hold, callId, cost, failed: false };
  const result = await guarded(world, () => world.witness.settle(question));
  world.say(`someone settles ${callId} at ${String(cost)}: ${told(result)}`);
}

export async function again(world: World, chance: Chance): Promise<void> {
  const reports = world.witness.told.filter(() => chance.next() < 0.3);
  if (reports.length === 0) return;
  const result = await guarded(world, () => world.witness.report(reports));
  world.say(`${reports.length} old reports arrive again: ${told(result)}`);
}

/** A report that counts wrong: more than its slice had. */
export async function lie(world: World, chance: Chance): Promise<void> {
  const slice = pickOr(
    chance,
    world.model.slices.filter(({ end }) => end === "open"),
  );
  if (slice === null || world.timeline.now < slice.trueAt + slice.termMs + 3_000) return; // whoever has it may still tell
  const report = {
    id: slice.id as never,
    settled: (slice.units + 1) as Micros,
    calls: slice.calls,
    tallies: [],
    running: [],
  };
  await guarded(world, () => world.witness.report([report]));
  world.say("an isolate reports more than its slice had");
}

export async function overdue(world: World, chance: Chance): Promise<void> {
  const isolate = pickOr(chance, world.liveIsolates);
  isolate?.reportOverdue();
  await settled();
}
