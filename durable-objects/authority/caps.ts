/**
 * Raising and lowering caps. A person may do both, a token only lower what lies at or below its own node. A cap may fall
 * below what is already committed: then nothing more is granted until that has sunk.
 */
import { eq } from "drizzle-orm";
import type { Denial } from "../../core/denial.ts";
import type { EpochMs, Micros, NodePath } from "../../core/ids.ts";
import { err, ok, type Result } from "../../core/result.ts";
import type { NodeView, RateView } from "../../core/wire/answers.ts";
import type { By, Idempotency, Reach } from "../../core/wire/questions.ts";
import * as t from "../../drizzle/authority/schema.ts";
import type { Audit } from "./audit.ts";
import type { BudgetBook } from "./budget-book.ts";
import type { Charging } from "./charging.ts";
import type { Context } from "./context.ts";
import { once, toldBefore } from "./idempotency.ts";
import type { Lines, LiveLine, NodeRow } from "./line.ts";
import { whoOf, type People } from "./people.ts";
import type { Rates } from "./rates.ts";
import type { Stopping } from "./stopping.ts";
import type { Views } from "./views.ts";

interface SetCap {
  readonly path: NodePath;
  readonly cap: Micros;
  readonly by: By;
  readonly reach: Reach;
  readonly idempotency: Idempotency | null;
}

export class Caps {
  readonly #context: Context;
  readonly #people: People;
  readonly #lines: Lines;
  readonly #book: BudgetBook;
  readonly #stopping: Stopping;
  readonly #views: Views;
  readonly #charging: Charging;
  readonly #rates: Rates;
  readonly #audit: Audit;

  constructor(parts: {
    context: Context;
    people: People;
    lines: Lines;
    book: BudgetBook;
    stopping: Stopping;
    views: Views;
    charging: Charging;
    rates: Rates;
    audit: Audit;
  }) {
    this.#context = parts.context;
    this.#people = parts.people;
    this.#lines = parts.lines;
    this.#book = parts.book;
    this.#stopping = parts.stopping;
    this.#views = parts.views;
    this.#charging = parts.charging;
    this.#rates = parts.rates;
    this.#audit = parts.audit;
  }

  /** The user's own day. */
  setDay(cap: Micros, by: By): Result<{ cap: Micros }, Denial> {
    return this.#context.decide(() => {
      if (this.#people.row() === undefined) return err({ reason: "not_found" });
      const before = this.#book.dayCap();
      this.#book.setDayCap(cap);
      this.#audit.append("user.day_cap_changed", null, { ...whoOf(by), cap, before }, this.#context.now());
      return ok({ cap });
    });
  }

  #charge(path: NodePath, live: LiveLine, now: EpochMs): Result<RateView | null, Denial> {
    return this.#rates.charge(this.#charging.line(path, "", live, now).charge, 1, now);
  }

  set({ path, cap, by, reach, idempotency }: SetCap): Result<NodeView, Denial> {
    return this.#context.decide(() => {
      const now = this.#context.now();
      const reached = this.#stopping.requireReach(reach, path);
      if (!reached.ok) return toldBefore(this.#context, idempotency, now, reached.denial);
      return once(this.#context, idempotency, now, () => {
        const live = this.#lines.requireLivePath(path, now);
        if (!live.ok) return live.denial.reason === "ended" ? live : err({ reason: "not_found" });
        const before = live.value.caps.get(path) ?? null;
        if (reach.kind === "node" && before !== null && cap > before) return err({ reason: "cookie_required" });
        if (cap !== before) {
          // Each change is a row of the log: a token makes them at the rate of its calls, in the same windows.
          const rate = reach.kind === "node" ? this.#charge(path, live.value, now) : ok(null);
          if (!rate.ok) return rate;
          this.#context.db.update(t.nodes).set({ cap }).where(eq(t.nodes.path, path)).run();
          this.#audit.append("cap.changed", live.value.session.id, { ...whoOf(by), node: path, cap, before }, now);
        }
        const row = this.#context.db.select().from(t.nodes).where(eq(t.nodes.path, path)).get() as NodeRow;
        return ok(this.#views.node(row));
      });
    });
  }
}
