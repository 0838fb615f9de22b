/**
 * Everything that a simulated run is made of: people's agents and sessions, callers with real tokens, isolates with
 * leases, the object, and the calls that are under way. It knows the truth: which calls were served, when, from which
 * slice, and what they cost; checks.ts compares it with what the object and the model say.
 */
import type { Denial } from "../../core/denial.ts";
import {
  isAtOrBelow,
  makeUserId,
  type CallId,
  type EpochSeconds,
  type Micros,
  type NodePath,
  type Slug,
  type UserId,
} from "../../core/ids.ts";
import { err, type Result } from "../../core/result.ts";
import type { VerifiedToken } from "../../core/token/verify.ts";
import type { AgentView, GrantView } from "../../core/wire/answers.ts";
import type { By } from "../../core/wire/questions.ts";
import type { LegateConfig } from "../../core/config.ts";
import type { ObjectHost } from "./host.ts";
import { Isolate, UNREACHABLE, type Admitted, type Message } from "./isolate.ts";
import { Model, type ModelNode } from "./model.ts";
import { simulatedIdMac } from "./ids.ts";
import { chanceOf, type Chance } from "./random.ts";
import { settled, Timeline } from "./timeline.ts";
import { tokenOf, type Caller } from "./tokens.ts";
import { must, Violation } from "./violation.ts";
import { Witness } from "./witness.ts";

export const BY: By = { kind: "person", id: "simulation", reason: null };
export const ORIGIN = { ip: null, userAgent: null };
const SKEW_MS = 1_000; // hosts' clocks are assumed that close (docs/threats.md)
const SLACK_MS = 2_000; // of the envelope

/** What a message becomes on its way. */
export type Fate = "arrives" | "is lost" | "its answer is lost" | "arrives twice";

export interface Client {
  readonly caller: Caller;
  readonly path: NodePath;
  token: VerifiedToken;
}

export interface SimCall {
  readonly id: CallId;
  readonly isolate: Isolate;
  readonly client: Client;
  readonly slug: Slug;
  readonly cost: number;
  state: "asking" | "open" | "refused" | "ended" | "void";
  admitted: Admitted | null;
  /** What it cost in truth. */
  spent: number;
}

/** What differs from run to run, drawn from its seed. */
export interface Character {
  readonly tier: "free" | "admin";
  readonly userCap: number | null;
  readonly termMs: number;
  /** Clocks are stepped by more than hosts may differ. */
  readonly isWild: boolean;
  readonly start: number;
}

export const ENTRIES: readonly { readonly slug: Slug; readonly cost: number }[] = [
  { slug: "planner" as Slug, cost: 1 },
  { slug: "researcher" as Slug, cost: 7 },
  { slug: "researcher" as Slug, cost: 3 }, // as a newer deployment says, beside the other
  { slug: "catalog" as Slug, cost: 0 },
];

const WINDOWS = [
  { name: "burst", key: "* burst", window: { calls: 5, periodMs: 1_000, burst: 8 } },
  { name: "sustained", key: "* sustained", window: { calls: 60, periodMs: 60_000, burst: 30 } },
];

export class World {
  readonly host: ObjectHost;
  readonly chance: Chance;
  readonly character: Character;
  readonly timeline: Timeline;
  readonly user: UserId;
  readonly model: Model;
  readonly witness: Witness;
  readonly isolates: Isolate[] = [];
  readonly agents: AgentView[] = [];
  readonly clients: Client[] = [];
  readonly calls: SimCall[] = [];
  readonly history: string[] = [];
  /** Set where a check or a message failed beside the command that began it. */
  failure: unknown = null;
  #names = 0;

  #asked = 0;

  private constructor(host: ObjectHost, seed: number) {
    this.host = {
      ...host,
      ask: (method, args, now) => {
        this.#asked++;
        return host.ask(method, args, now);
      },
      alarm: (now) => {
        this.#asked++;
        return host.alarm(now);
      },
    };
    this.chance = chanceOf(seed);
    this.character = characterOf(this.chance);
    this.timeline = new Timeline(this.character.start);
    this.user = makeUserId(this.chance.bytes, simulatedIdMac);
    this.model = new Model(this.user, this.character.userCap, this.character.termMs);
    this.witness = new Witness(this.host, this.timeline, this.model, this.character.tier === "free");
  }

  static async begin(host: ObjectHost, seed: number): Promise<World> {
    const world = new World(host, seed);
    world.timeline.install(host.isHere);
    const { limits, timeline, user } = world;
    const { tier } = world.character;
    await host.begin({ user, seed: seed + 1, limits, trueNow: () => timeline.now });
    await world.ask("enrol", [{ username: "simulated", tier, createdAt: world.timeline.now }]);
    for (let i = 0; i < 3; i++) await world.addIsolate(world.chance.int(-400, 400));
    for (const cap of [world.chance.int(60, 400), world.chance.int(60, 400)]) await world.addAgent(cap);
    return world;
  }

  /** Of the deployment, in this run. */
  get limits(): Partial<LegateConfig["limits"]> {
    const { userCap, termMs } = this.character;
    return { userDayMicros: userCap as Micros | null, leaseMs: termMs, rates: { free: WINDOWS } };
  }

  get windows() {
    return this.character.tier === "free" ? WINDOWS.map(({ window }) => window) : [];
  }

  /** One question of a person's or an operator's, which arrives. Where the object threw, nobody knows what was done. */
  async ask<T>(method: string, args: readonly unknown[]): Promise<Result<T, Denial>> {
    try {
      const answer = (await this.host.ask(method, args, this.timeline.objectNow)) as Result<T, Denial>;
      if (this.model.isAsleep) await this.#wake();
      return answer;
    } catch (thrown) {
      this.say(`the object throws: ${String(thrown)}`);
      await this.afterThrow();
      return UNREACHABLE;
    }
  }

  /** Nobody knows how far the object came: marks and caps may have been made, and it may have woken. At the same moment it is asked again. */
  async afterThrow(): Promise<void> {
    await this.witness.noticeStops();
    await this.witness.noticeCaps();
    await this.#wake();
  }

  /** Whether an evicted object has looked at its slices yet depends on what it was asked: so it is asked, at this moment. */
  async #wake(): Promise<void> {
    const [client] = this.clients;
    if (client === undefined) return;
    const now = this.timeline.objectNow;
    await this.host.ask("leash", [client.token], now);
    this.model.look(now);
  }

  /** Whether anything has asked the object since this was asked last. */
  wasAsked(): boolean {
    const asked = this.#asked;
    this.#asked = 0;
    return asked > 0;
  }

  say(line: string): void {
    this.history.push(`${String(this.timeline.now - this.character.start).padStart(8)}  ${line}`);
  }

  name(prefix: string): string {
    return `${prefix}${this.#names++}`;
  }

  async addIsolate(skew: number): Promise<void> {
    const { timeline, limits } = this;
    this.isolates.push(await Isolate.start({ name: this.name("isolate-"), timeline, skew, limits }));
  }

  get liveIsolates(): readonly Isolate[] {
    return this.isolates.filter(({ isDead }) => !isDead);
  }

  async addAgent(cap: number): Promise<void> {
    const key = { alg: "ES256", jwk: { kty: "EC" } };
    const agent = await this.ask<AgentView>("registerAgent", [
      {
        name: "simulated",
        key,
        scope: ["plan", "research", "catalog:read"],
        cap,
        cookie: null,
        by: BY,
        idempotency: null,
      },
    ]);
    if (!agent.ok) throw new Error(JSON.stringify(agent));
    this.agents.push(agent.value);
    this.model.agents.set(agent.value.id, cap);
  }

  /** A grant that the object made, and who calls with it. */
  async addGrant(grant: GrantView, agent: string, reserved: number): Promise<Client> {
    this.addNode({
      path: grant.path,
      agent,
      cap: grant.cap,
      capMost: grant.cap,
      reserved,
      endsAt: grant.expires * 1_000,
    });
    return this.addClient({ grant, steps: [] });
  }

  addNode(node: ModelNode): void {
    this.model.nodes.set(node.path, node);
  }

  async addClient(caller: Caller): Promise<Client> {
    const token = await tokenOf(caller, this.seconds);
    const client = { caller, path: token.node, token };
    this.clients.push(client);
    return client;
  }

  get seconds(): EpochSeconds {
    return Math.floor(this.timeline.now / 1_000) as EpochSeconds;
  }

  /** The client's token, renewed where its window is over; null where its grant has ended with it. */
  async fresh(client: Client): Promise<VerifiedToken | null> {
    if (client.token.exp > this.seconds + 60) return client.token;
    if (client.caller.grant.expires <= this.seconds) return null;
    client.token = await tokenOf(client.caller, this.seconds);
    return client.token;
  }

  /** Sends a call through an isolate; its question, if one is asked, waits in the outbox. */
  async call(
    isolate: Isolate,
    client: Client,
    entry: (typeof ENTRIES)[number],
    level: "counted" | "strict",
  ): Promise<SimCall | null> {
    const token = await this.fresh(client);
    if (token === null) return null;
    const call: SimCall = {
      id: this.name("call-") as CallId,
      isolate,
      client,
      slug: entry.slug,
      cost: entry.cost,
      state: "asking",
      admitted: null,
      spent: 0,
    };
    this.calls.push(call);
    const ask = {
      token,
      callId: call.id,
      slug: entry.slug,
      instance: "default",
      requiredTier: "free" as const,
      level,
      kind: "http" as const,
      cost: entry.cost as Micros,
      askedAt: isolate.now,
    };
    isolate.admit(ask).then(
      (answer) => {
        if (!isolate.isDead) this.#answered(call, answer);
      },
      (thrown: unknown) => {
        this.failure ??= thrown;
      },
    );
    await settled();
    return call;
  }

  #answered(call: SimCall, answer: Result<Admitted, Denial>): void {
    if (!answer.ok) {
      call.state = "refused";
      return;
    }
    call.admitted = answer.value;
    call.state = "open";
    try {
      this.#judgeServed(call, answer.value);
    } catch (thrown) {
      this.failure ??= thrown;
    }
  }

  /** A call that an isolate lets through: from a slice that is the object's, in its time, and of nothing that was stopped. */
  #judgeServed(call: SimCall, { source, expires, held }: Admitted): void {
    const { isolate } = call;
    const { now } = this.timeline;
    if (isolate.now >= expires) {
      // As the gate does: no agent would take it any more.
      this.end(call, "void", true);
      return;
    }
    must(held === call.cost, "I2", () => `${call.id} was admitted at ${held} instead of ${call.cost}`);
    if (source.kind === "slice") {
      const slice = this.model.slices.find(({ id }) => id === source.slice.grant.id);
      must(
        slice !== undefined && slice.path === call.client.path,
        "I5",
        () => `${call.id} was admitted from no slice of its node`,
      );
      must(
        now <= slice.trueAt + slice.termMs + SLACK_MS,
        "I17",
        () => `${call.id} was admitted ${now - slice.trueAt} ms after its slice of ${slice.termMs} ms was granted`,
      );
      const taken = this.calls.filter(
        (each) =>
          each.admitted?.source.kind === "slice" &&
          each.admitted.source.slice.grant.id === slice.id &&
          each.state !== "void",
      );
      must(taken.length <= slice.calls, "I16", () => `${taken.length} calls from a slice for ${slice.calls}`);
      const units = taken.reduce((sum, { state, cost, spent }) => sum + (state === "open" ? cost : spent), 0);
      must(units <= slice.units, "I1", () => `${units} micros from a slice of ${slice.units}`);
    } else {
      const hold = this.model.holds.find(({ callId }) => callId === call.id);
      must(hold !== undefined, "I5", () => `${call.id} was admitted without a hold`);
    }
    // Asked calls are fenced by their envelopes' ends, and those by clocks: as far as hosts may differ, no further.
    if (this.character.isWild && source.kind === "hold") return;
    for (const stop of this.model.stops)
      must(
        !isAtOrBelow(call.client.path, stop.path) || now <= stop.fenceTrue + SKEW_MS,
        "I7",
        () => `${call.id} was served ${now - stop.fenceTrue} ms after the fence of ${stop.path}`,
      );
  }

  end(call: SimCall, cost: number | null | "void", failed: boolean): void {
    if (call.admitted === null) throw new Error("a call ends that was not admitted");
    const open = { user: this.user, callId: call.id, slug: call.slug, admitted: call.admitted };
    call.state = cost === "void" ? "void" : "ended";
    call.spent = cost === "void" ? 0 : (cost ?? call.cost);
    call.isolate.end(open, cost as Micros | null | "void", failed);
  }

  get messages(): Message[] {
    return this.liveIsolates.flatMap(({ outbox }) => outbox);
  }

  async deliver(message: Message, fate: Fate): Promise<void> {
    const { from } = message;
    from.outbox = from.outbox.filter((each) => each !== message);
    const answer = fate === "is lost" ? UNREACHABLE : await this.#run(message);
    if (fate === "arrives twice") await this.#run(message);
    message.answer(fate === "its answer is lost" ? UNREACHABLE : answer);
    await settled();
  }

  /** As `Edge.ask`: whatever goes wrong on the way is one denial. */
  async #run(message: Message): Promise<Result<unknown, Denial>> {
    try {
      return await message.run(this.witness.authority);
    } catch (thrown) {
      if (thrown instanceof Violation) throw thrown;
      await this.afterThrow();
      return err({ reason: "authority_unavailable" });
    }
  }

  async finish(): Promise<void> {
    for (const isolate of this.isolates) isolate.die();
    this.host.failAt?.(null);
    this.timeline.uninstall();
    await settled();
  }
}

function characterOf(chance: Chance): Character {
  const midnight = Date.UTC(2030, 5, 1 + chance.int(0, 20));
  return {
    tier: chance.next() < 0.35 ? "free" : "admin",
    userCap: chance.next() < 0.5 ? null : chance.int(100, 600),
    termMs: chance.pick([500, 2_000, 2_000, 5_000]),
    isWild: chance.next() < 0.35,
    // Some runs see midnight come.
    start: midnight + (chance.next() < 0.25 ? -chance.int(1_000, 60_000) : chance.int(0, 80_000_000)),
  };
}
