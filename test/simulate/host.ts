// One user's object, as a simulated run sees it: the real SessionAuthority, wherever it runs (node-host.ts,
// workerd-host.ts).
import type { LegateConfig } from "../../core/config.ts";
import type { UserId } from "../../core/ids.ts";

export type Row = Readonly<Record<string, unknown>>;

export interface ObjectHost {
  /** The object runs in this process: its clock and timers are this process's. */
  readonly isHere: boolean;
  /** Empty storage, a new object; nothing of an earlier run is left. */
  begin(setup: {
    readonly user: UserId;
    readonly seed: number;
    readonly limits: Partial<LegateConfig["limits"]>;
    /** Timers hold true durations, whatever clocks are set to. */
    readonly trueNow: () => number;
  }): Promise<void>;
  /** One question by RPC; rejects where the object threw. */
  ask(method: string, args: readonly unknown[], now: number): Promise<unknown>;
  /** Memory is gone, storage is kept. */
  evict(): Promise<void>;
  /** Everything that is due, as if the platform's alarm had come. */
  alarm(now: number): Promise<void>;
  rows(sql: string): Promise<readonly Row[]>;
  /** Makes the n-th statement from now throw; null where that can't be made here. */
  readonly failAt: ((statement: number | null) => void) | null;
  /** Runs questions on a freshly evicted object, and forgets that they were asked; null where that can't be made here. */
  readonly ponder: (<T>(questions: () => Promise<T>) => Promise<T>) | null;
  close(): Promise<void>;
}
