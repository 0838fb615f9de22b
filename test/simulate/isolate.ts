/**
 * An edge isolate: a module instance of worker/admit.ts of its own, with the leases in it, and worker/settle.ts. Both are
 * the deployed code; what is made here is their surroundings: a clock, and a way to the object on which every question is
 * a message that the run delivers, repeats, or loses. A dead isolate is one whose promises never settle.
 */
import type { LegateConfig } from "../../core/config.ts";
import type { Denial } from "../../core/denial.ts";
import type { CallId, EpochMs, HoldId, LeaseId, Micros, UserId } from "../../core/ids.ts";
import { err, type Result } from "../../core/result.ts";
import type { AdmitQuestion } from "../../core/wire/questions.ts";
import type { AuthorityRpc } from "../../core/wire/rpc.ts";
import type { Timeline } from "./timeline.ts";

/** What worker/admit.ts answers; declared again, for its types live in the Workers' world. */
export interface Admitted {
  readonly source:
    | { readonly kind: "hold"; readonly hold: HoldId }
    | { readonly kind: "slice"; readonly slice: { readonly grant: { readonly id: LeaseId } } };
  readonly held: Micros;
  readonly remaining: Micros | null;
  readonly expires: EpochMs;
}

export type Ask = Omit<AdmitQuestion, "lease" | "reports" | "origin">;

interface AdmitModule {
  admit(
    call: { request: Request; edge: unknown; ctx: unknown },
    ask: Ask,
  ): Result<Admitted, Denial> | Promise<Result<Admitted, Denial>>;
  reportOverdue(edge: unknown, ctx: unknown, now: EpochMs): void;
}

interface SettleModule {
  settle(open: unknown, cost: Micros | null, failed: boolean): void;
  voidHold(open: unknown): void;
}

/** A question on its way to the object. */
export interface Message {
  readonly from: Isolate;
  readonly run: (authority: AuthorityRpc) => Promise<Result<unknown, Denial>>;
  readonly answer: (result: Result<unknown, Denial>) => void;
}

const ADMIT = new URL("../../worker/admit.ts", import.meta.url).href;
const SETTLE = new URL("../../worker/settle.ts", import.meta.url).href;

/** Where an isolate runs. */
interface Host {
  readonly name: string;
  readonly timeline: Timeline;
  readonly skew: number;
  readonly limits: Partial<LegateConfig["limits"]>;
}

/** Of a call, only where it came from is read. */
const REQUEST = new Request("https://simulated.example/");

/** Module instances are made, never reused: a new isolate starts with nothing. */
let made = 0;

export class Isolate {
  readonly name: string;
  /** What its host's clock is off by. */
  skew: number;
  isDead = false;
  /** In the order in which they were sent. */
  outbox: Message[] = [];
  readonly #timeline: Timeline;
  readonly #admit: AdmitModule;
  readonly #settle: SettleModule;
  readonly #edge: unknown;
  readonly #ctx: unknown;

  private constructor({ name, timeline, skew, limits }: Host, admit: AdmitModule, settle: SettleModule) {
    this.name = name;
    this.skew = skew;
    this.#timeline = timeline;
    this.#admit = admit;
    this.#settle = settle;
    this.#edge = {
      config: { limits },
      now: () => this.now,
      ask: (_: UserId, run: Message["run"]) =>
        new Promise((answer) => {
          if (!this.isDead) this.outbox.push({ from: this, run, answer });
        }),
      event: () => undefined,
    };
    this.#ctx = { waitUntil: (work: Promise<unknown>) => void work };
  }

  static async start(host: Host): Promise<Isolate> {
    const admit = (await import(`${ADMIT}?isolate=${made++}`)) as AdmitModule;
    return new Isolate(host, admit, (await import(SETTLE)) as SettleModule);
  }

  get now(): EpochMs {
    return (this.#timeline.now + this.skew) as EpochMs;
  }

  async admit(ask: Ask): Promise<Result<Admitted, Denial>> {
    return this.#admit.admit({ request: REQUEST, edge: this.#edge, ctx: this.#ctx }, ask);
  }

  /** The end of an admitted call: what the agent said, or that nothing was forwarded. */
  end(
    call: { user: UserId; callId: CallId; slug: string; admitted: Admitted },
    cost: Micros | null | "void",
    failed: boolean,
  ): void {
    const open = { ...call, edge: this.#edge, ctx: this.#ctx };
    if (cost === "void") this.#settle.voidHold(open);
    else this.#settle.settle(open, cost, failed);
  }

  /** Another request comes by, of anyone. */
  reportOverdue(): void {
    this.#admit.reportOverdue(this.#edge, this.#ctx, this.now);
  }

  die(): void {
    this.isDead = true;
    this.outbox = [];
  }
}

export const UNREACHABLE: Result<never, Denial> = err({ reason: "authority_unavailable" });
