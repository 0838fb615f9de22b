/**
 * Time of a simulated run: one true time that only moves forward, and a clock a host, which may be set. Timers hold true
 * durations, as workerd's do (platform.md, 2026-11). Installed over `Date.now` and `setTimeout` while a run lasts:
 * `Date.now` is the object's clock, for the edge is given its own.
 */

interface Timer {
  readonly at: number;
  readonly order: number;
  readonly fire: () => void;
}

/** Timers of the code under test; a harness has timers of its own, which stay what they are. */
const OURS = /\/(?:worker|durable-objects)\/[\w/-]+\.ts/;

/** Lets everything run that waits for nothing outside: microtasks are drained before an immediate. */
export function settled(): Promise<void> {
  return new Promise((resolve) => setImmediate(resolve));
}

export class Timeline {
  /** Milliseconds; what a perfect clock would show. */
  now: number;
  /** What the object's clock is off by. */
  objectSkew = 0;
  #timers: Timer[] = [];
  #order = 0;
  readonly #real = { setTimeout: globalThis.setTimeout, clearTimeout: globalThis.clearTimeout, now: Date.now };

  constructor(now: number) {
    this.now = now;
  }

  get objectNow(): number {
    return this.now + this.objectSkew;
  }

  /** @param withClock where the object runs in this process, whose clock is the object's then */
  install(withClock: boolean): void {
    const start = (fire: () => void, ms = 0, ...rest: unknown[]): unknown => {
      if (!OURS.test(new Error().stack ?? "")) return this.#real.setTimeout(fire, ms, ...rest);
      const timer = { at: this.now + ms, order: this.#order++, fire };
      this.#timers.push(timer);
      return timer;
    };
    const clear = (timer: unknown): void => {
      this.#real.clearTimeout(timer as ReturnType<typeof setTimeout>);
      this.#timers = this.#timers.filter((each) => each !== timer);
    };
    globalThis.setTimeout = start as unknown as typeof setTimeout;
    globalThis.clearTimeout = clear;
    if (withClock) Date.now = () => this.objectNow;
  }

  uninstall(): void {
    globalThis.setTimeout = this.#real.setTimeout;
    globalThis.clearTimeout = this.#real.clearTimeout;
    Date.now = this.#real.now;
  }

  /** Moves time on, firing what comes due in its order. */
  async advance(ms: number): Promise<void> {
    const end = this.now + ms;
    for (;;) {
      let first: Timer | undefined;
      for (const timer of this.#timers)
        if (
          timer.at <= end &&
          (first === undefined || timer.at < first.at || (timer.at === first.at && timer.order < first.order))
        )
          first = timer;
      if (first === undefined) break;
      const due = first;
      this.#timers = this.#timers.filter((each) => each !== due);
      this.now = Math.max(this.now, due.at);
      due.fire();
      await settled();
    }
    this.now = end;
  }
}
