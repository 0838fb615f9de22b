/**
 * What a holder of a call was refused, in the audit log: the first at once, those like it in the next minute as one row
 * with their number, so that nobody fills the log by asking for too much again and again. An eviction forgets a number
 * that was not told yet; the first row stands.
 */
import type { EpochMs } from "../../core/ids.ts";
import { REFUSALS_FOLDED_MS } from "../../core/limits.ts";
import type { Alarms } from "./alarms.ts";
import type { Audit } from "./audit.ts";
import type { Context } from "./context.ts";

interface Folded {
  readonly hold: string;
  readonly fault: string;
  readonly until: number;
  /** Since the row that was written. */
  more: number;
}

export class Refusals {
  readonly #context: Context;
  readonly #audit: Audit;
  readonly #alarms: Alarms;
  readonly #folded = new Map<string, Folded>();

  constructor(context: Context, audit: Audit, alarms: Alarms) {
    this.#context = context;
    this.#audit = audit;
    this.#alarms = alarms;
  }

  /** @param hold whose it is, or the id of its call or connection */
  note(hold: string, fault: string): void {
    const now = this.#context.now();
    const name = `${hold} ${fault}`;
    const known = this.#folded.get(name);
    if (known !== undefined && now < known.until) {
      known.more++;
      return;
    }
    const until = (now + REFUSALS_FOLDED_MS) as EpochMs;
    const more = known?.more ?? 0;
    this.#context.commit(() => {
      this.#audit.append("hold.refused", null, { hold, fault, count: 1 + more }, now);
      this.#alarms.schedule("refusals", "", until);
    });
    this.#folded.set(name, { hold, fault, until, more: 0 });
  }

  /** Tells of what was folded into minutes that are over. The alarm's work. */
  tell(): void {
    const now = this.#context.now();
    const over = [...this.#folded].filter(([, { until }]) => until <= now);
    this.#context.commit(() => {
      for (const [, { hold, fault, more }] of over)
        if (more > 0) this.#audit.append("hold.refused", null, { hold, fault, count: more }, now);
      const ends = [...this.#folded.values()].map(({ until }) => until).filter((until) => until > now);
      if (ends.length > 0) this.#alarms.schedule("refusals", "", Math.min(...ends) as EpochMs);
    });
    for (const [name] of over) this.#folded.delete(name);
  }
}
