// What happens to hosts in a simulated run: time, clocks, evictions, deaths, alarms, failing storage; and what is compared.
import { guarded, pickOr } from "./acts.ts";
import { setObjectClock } from "./acts-people.ts";
import { checkLeashes, checkRetryAfter } from "./checks.ts";
import type { Chance } from "./random.ts";
import { ENTRIES, type World } from "./world.ts";

export async function wait(world: World, chance: Chance): Promise<void> {
  const ms = chance.next() < 0.6 ? chance.int(1, 400) : chance.int(400, 3_000);
  await world.timeline.advance(ms);
}

export async function waitLong(world: World, chance: Chance): Promise<void> {
  const ms = chance.pick([20_000, 61_000, 90_000, 605_000]);
  await world.timeline.advance(ms);
  world.say(`${ms / 1_000} seconds pass`);
}

export async function clock(world: World, chance: Chance): Promise<void> {
  const most = world.character.isWild ? 10_000 : 200;
  const step = chance.next() < 0.5 ? chance.pick([-most, most]) : chance.int(-most, most);
  const bound = world.character.isWild ? Infinity : 500;
  if (chance.next() < 0.5) {
    const to = world.timeline.objectSkew + step;
    if (Math.abs(to) > bound) return;
    setObjectClock(world, step);
    return;
  }
  const isolate = pickOr(chance, world.liveIsolates);
  if (isolate === null || Math.abs(isolate.skew + step) > bound) return;
  isolate.skew += step;
  world.say(`the clock of ${isolate.name} is set by ${step} ms`);
}

export async function evict(world: World): Promise<void> {
  await world.host.evict();
  world.model.evicted();
  world.say("the object is evicted");
}

export async function kill(world: World, chance: Chance): Promise<void> {
  const isolate = pickOr(chance, world.liveIsolates);
  if (isolate === null) return;
  isolate.die();
  world.say(`${isolate.name} dies`);
  await world.addIsolate(chance.int(-400, 400));
}

export async function alarm(world: World): Promise<void> {
  await guarded(world, async () => {
    await world.witness.alarm();
    return { ok: true, value: null };
  });
  world.say("the alarm comes");
}

/** One of the next statements of the object fails, wherever it stands. */
export async function fail(world: World, chance: Chance): Promise<void> {
  const statement = chance.int(1, 25);
  world.host.failAt?.(statement);
  if (world.host.failAt !== null) world.say(`the storage fails at the ${statement}. statement from here`);
}

export async function compare(world: World, chance: Chance): Promise<void> {
  world.host.failAt?.(null);
  await checkLeashes(
    world,
    world.clients.filter(() => chance.next() < 0.25),
  );
}

export async function retry(world: World, chance: Chance): Promise<void> {
  world.host.failAt?.(null);
  const client = pickOr(chance, world.clients);
  if (client !== null) await checkRetryAfter(world, client, chance.pick(ENTRIES));
}
