// I16, from outside: what was charged to the rate windows, and whether it was ever more than they pass.
import { lineOf, type NodePath } from "../../core/ids.ts";
import type { Window } from "../../core/budget/throttle.ts";
import { must } from "./violation.ts";

/** Calls that the object charged to the rate windows at one moment of its clock, which for rates only moves forward. */
export interface RateEntry {
  readonly at: number;
  readonly path: NodePath;
  readonly agent: string;
  /** Less those that a report gave back. */
  calls: number;
  readonly slice: string | null;
}

/** Admitted in any stretch of time, at any level: no more than the burst and what the time refills (I16). */
export function judgeRates(log: readonly RateEntry[], windows: readonly Window[], user: string): void {
  const byLevel = new Map<string, RateEntry[]>();
  for (const entry of log)
    for (const level of [user, entry.agent, ...lineOf(entry.path)])
      byLevel.set(level, [...(byLevel.get(level) ?? []), entry]);
  for (const [level, entries] of byLevel)
    for (const window of windows)
      for (let i = 0; i < entries.length; i++) {
        const from = (entries[i] as RateEntry).at;
        let calls = 0;
        for (const entry of entries.slice(i)) {
          calls += entry.calls;
          const most = window.burst + ((entry.at - from) * window.calls) / window.periodMs;
          must(
            calls <= most + 1e-6,
            "I16",
            () =>
              `${calls} calls at ${level} in ${entry.at - from} ms, of ${most} (${window.calls} in ${window.periodMs} ms, ${window.burst} at once)`,
          );
        }
      }
}
