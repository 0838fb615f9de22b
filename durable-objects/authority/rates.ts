/**
 * Rate windows at every level of the tree: the user, the agent, and each node of a path. What was decided (pure:
 * core/budget/throttle.ts) is written with the grant; TATs rest in the rows of their levels, so that an evicted object
 * refills nothing.
 */
import { eq } from "drizzle-orm";
import { ratesOf, type Tier } from "../../core/config.ts";
import type { Rate } from "../../core/budget/rates.ts";
import { mostThrottled, refund, throttle, type Bucket } from "../../core/budget/throttle.ts";
import type { Denial } from "../../core/denial.ts";
import { lineOf, type EpochMs, type NodePath } from "../../core/ids.ts";
import { err, ok, type Result } from "../../core/result.ts";
import type { RateView } from "../../core/wire/answers.ts";
import * as t from "../../drizzle/authority/schema.ts";
import type { Context } from "./context.ts";

type Tats = Readonly<Record<string, number>>;

/** What is asked for at once: a path's buckets and the share of the rates that its budget leaves. */
export interface Charge {
  readonly path: NodePath;
  readonly agent: string | null;
  readonly rates: readonly Rate[];
  readonly share: number;
}

export class Rates {
  readonly #context: Context;
  /** By level; what is not here is read from its row. */
  readonly #tats = new Map<string, Tats>();
  /** The TATs that each charge of this life of the object left, in the order of its buckets. */
  readonly #left = new WeakMap<Charge, readonly number[]>();
  /** The latest time seen: a clock that goes back gives nothing back. */
  #latest = 0;

  constructor(context: Context) {
    this.#context = context;
  }

  of(slug: string, tier: Tier): readonly Rate[] {
    return ratesOf(this.#context.config, this.#context.config.agents.get(slug), tier);
  }

  /** How many of `wanted` calls the windows leave room for. Call inside a decision. */
  most(charge: Charge, wanted: number, now: EpochMs): number {
    return mostThrottled(this.#buckets(charge), wanted, charge.share, now);
  }

  /** Charges `calls` at every level, or none. Call inside a decision. */
  charge(charge: Charge, calls: number, now: EpochMs): Result<RateView | null, Denial> {
    this.#latest = Math.max(this.#latest, now);
    const buckets = this.#buckets(charge);
    if (buckets.length === 0) return ok(null);
    const passed = throttle(buckets, calls, charge.share, now);
    if (!passed.ok) {
      const { retryAfterMs, bucket } = passed.denial;
      const window = nameOf(charge, bucket);
      return err({ reason: "rate_limited", retryAfterMs, limit: bucket.window.calls, window });
    }
    this.#write(charge, buckets, passed.value.tats);
    this.#left.set(charge, passed.value.tats);
    const { strictest } = passed.value;
    if (strictest === null) return ok(null);
    const { bucket, remaining, resetMs } = strictest;
    const { calls: limit, periodMs } = bucket.window;
    return ok({ name: nameOf(charge, bucket), calls: limit, seconds: periodMs / 1_000, remaining, resetMs });
  }

  /** The strictest window as it stands, charging nothing; null where none limits. */
  look(charge: Charge, now: EpochMs): RateView | null {
    let strictest: RateView | null = null;
    for (const bucket of this.#buckets(charge)) {
      const { calls, periodMs } = bucket.window;
      const remaining = mostThrottled([bucket], Infinity, charge.share, now);
      if (strictest !== null && strictest.remaining <= remaining) continue;
      const resetMs = Math.max(0, Math.ceil(bucket.tat - now));
      strictest = { name: nameOf(charge, bucket), calls, seconds: periodMs / 1_000, remaining, resetMs };
    }
    return strictest;
  }

  /** Calls that were granted and never made. Call inside a decision. */
  giveBack(charge: Charge, calls: number, now: EpochMs): void {
    const buckets = this.#buckets(charge);
    const left = this.#left.get(charge);
    if (calls === 0 || buckets.length === 0 || left === undefined) return;
    this.#latest = Math.max(this.#latest, now);
    const latest = this.#latest as EpochMs;
    this.#write(
      charge,
      buckets,
      buckets.map((bucket, i) => refund(bucket, calls, charge.share, left[i] ?? 0, latest)),
    );
  }

  /** Levels that memory holds: no more than there are rows. */
  remembered(): Iterable<string> {
    return this.#tats.keys();
  }

  /** After a fold: the level is gone. */
  forget(path: string): void {
    this.#tats.delete(path);
  }

  #buckets({ path, agent, rates }: Charge): Bucket[] {
    if (rates.length === 0) return [];
    return this.#levels(path, agent).flatMap((level) => {
      const tats = this.#read(level);
      return rates.map(({ key, window }) => ({ level, window, tat: tats[key] ?? 0 }));
    });
  }

  #levels(path: NodePath, agent: string | null): string[] {
    return [this.#context.user, ...(agent === null ? [] : [agent]), ...lineOf(path)];
  }

  #read(level: string): Tats {
    const known = this.#tats.get(level);
    if (known !== undefined) return known;
    const table = this.#tableOf(level);
    const key = table === t.nodes ? t.nodes.path : table === t.agents ? t.agents.id : t.user.id;
    return this.#context.db.select({ tats: table.tats }).from(table).where(eq(key, level)).get()?.tats ?? {};
  }

  #tableOf(level: string): typeof t.nodes | typeof t.agents | typeof t.user {
    return level.startsWith("ses_") ? t.nodes : level.startsWith("agt_") ? t.agents : t.user;
  }

  /** One row a level, whatever the number of windows. */
  #write({ path, agent, rates }: Charge, buckets: readonly Bucket[], tats: readonly number[]): void {
    for (const level of this.#levels(path, agent)) {
      const merged: Record<string, number> = { ...this.#read(level) };
      buckets.forEach((bucket, i) => {
        const rate = rates.find(({ window }) => window === bucket.window);
        if (bucket.level === level && rate !== undefined) merged[rate.key] = tats[i] as number;
      });
      const table = this.#tableOf(level);
      const key = table === t.nodes ? t.nodes.path : table === t.agents ? t.agents.id : t.user.id;
      this.#context.db.update(table).set({ tats: merged }).where(eq(key, level)).run();
      this.#context.afterCommit(() => this.#tats.set(level, merged));
    }
  }
}

function nameOf({ rates }: Charge, bucket: Bucket): string {
  return rates.find(({ window }) => window === bucket.window)?.name ?? "";
}
