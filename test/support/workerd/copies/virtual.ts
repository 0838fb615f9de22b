/**
 * One isolate's clock and timers, run by hand: an hour of evenly spaced calls in seconds. The edge, the object and its
 * SQLite are the real ones and share the isolate, so they share this clock; only the way between them takes no time.
 */
import { asked } from "./faults.ts";

interface Timer {
  readonly at: number;
  readonly run: () => void;
}

const real = { now: Date.now, setTimeout: globalThis.setTimeout, clearTimeout: globalThis.clearTimeout };

/** Lets everything that is under way come to rest: answers of objects, and what follows from them. */
async function settle(): Promise<void> {
  do await new Promise<void>((wake) => void real.setTimeout(wake, 0));
  while (asked.open > 0);
}

export class VirtualClock {
  #now = real.now();
  #next = 1;
  readonly #timers = new Map<number, Timer>();

  start(): void {
    Date.now = () => this.#now;
    const set = (run: () => void, ms = 0): number => {
      this.#timers.set(this.#next, { at: this.#now + ms, run });
      return this.#next++;
    };
    globalThis.setTimeout = set as unknown as typeof setTimeout;
    globalThis.clearTimeout = ((id: number) => void this.#timers.delete(id)) as unknown as typeof clearTimeout;
  }

  stop(): void {
    Date.now = real.now;
    globalThis.setTimeout = real.setTimeout;
    globalThis.clearTimeout = real.clearTimeout;
  }

  get now(): number {
    return this.#now;
  }

  /** Goes on to a moment, and fires what is due on the way, in order. */
  async goTo(at: number): Promise<void> {
    for (;;) {
      let first: [number, Timer] | null = null;
      for (const entry of this.#timers) if (first === null || entry[1].at < first[1].at) first = entry;
      if (first === null || first[1].at > at) break;
      this.#timers.delete(first[0]);
      this.#now = Math.max(this.#now, first[1].at);
      first[1].run();
      await settle();
    }
    this.#now = at;
    if (asked.open > 0) await settle();
  }

  rest(): Promise<void> {
    return asked.open > 0 ? settle() : Promise.resolve();
  }
}
