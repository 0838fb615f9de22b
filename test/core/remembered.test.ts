import * as fc from "fast-check";
import { describe, expect, test } from "vitest";
import type { EpochSeconds, SessionId } from "../../core/ids.ts";
import { REMEMBERED_TOKENS_MAX, REMEMBERED_TOKENS_SESSION_MAX } from "../../core/limits.ts";
import { RememberedTokens } from "../../core/token/remembered.ts";
import type { VerifiedToken } from "../../core/token/verify.ts";

const at = (seconds: number) => seconds as EpochSeconds;
const token = (session: string, exp = 100) => ({ session: session as SessionId, exp: at(exp) }) as VerifiedToken;
/** A text with a signature of its own. */
const text = (name: string) => `head.${name}.${name.padStart(43, "-")}`;

describe("remembered tokens", () => {
  test("hits only when every byte is equal", () => {
    const memory = new RememberedTokens();
    const [known, value] = [text("a"), token("s")];
    memory.remember(known, value);
    expect(memory.lookup(known, at(1))).toBe(value);
    for (const other of [
      known.replace("head", "Head"),
      `x${known}`,
      known.slice(1),
      known.slice(0, -1),
      "",
      known.slice(-43),
    ]) {
      expect(memory.lookup(other, at(1)), other).toBeNull();
    }
  });

  test("holds to the last second of the token, and then forgets it", () => {
    const memory = new RememberedTokens();
    memory.remember(text("a"), token("s", 100));
    expect(memory.lookup(text("a"), at(99))).not.toBeNull();
    expect(memory.lookup(text("a"), at(100))).toBeNull();
    expect(memory.size).toBe(0);
  });

  test("the same signature under other bytes takes the place of the first", () => {
    const memory = new RememberedTokens();
    const signature = "-".repeat(43);
    const [first, second] = [token("s"), token("t")];
    memory.remember(`one.${signature}`, first);
    memory.remember(`two.${signature}`, second);
    expect([memory.lookup(`one.${signature}`, at(1)), memory.lookup(`two.${signature}`, at(1)), memory.size]).toEqual([
      null,
      second,
      1,
    ]);
  });

  test(`${REMEMBERED_TOKENS_MAX} in all; the least recently used goes first`, () => {
    const memory = new RememberedTokens();
    for (let i = 0; i < REMEMBERED_TOKENS_MAX; i++) memory.remember(text(`t${i}`), token(`s${i}`));
    expect(memory.lookup(text("t0"), at(1))).not.toBeNull(); // used: now the newest
    memory.remember(text("more"), token("more"));
    expect(memory.size).toBe(REMEMBERED_TOKENS_MAX);
    expect([
      memory.lookup(text("t0"), at(1)) === null,
      memory.lookup(text("t1"), at(1)) === null,
      memory.lookup(text("t2"), at(1)) === null,
    ]).toEqual([false, true, false]);
  });

  test(`${REMEMBERED_TOKENS_SESSION_MAX} a session; one session pushes out nobody but itself`, () => {
    const memory = new RememberedTokens();
    memory.remember(text("other"), token("other"));
    for (let i = 0; i < REMEMBERED_TOKENS_MAX * 2; i++) memory.remember(text(`t${i}`), token("greedy"));
    expect(memory.size).toBe(1 + REMEMBERED_TOKENS_SESSION_MAX);
    expect(memory.lookup(text("other"), at(1))).not.toBeNull();
    const kept = Array.from(
      { length: REMEMBERED_TOKENS_MAX * 2 },
      (_, i) => memory.lookup(text(`t${i}`), at(1)) !== null,
    );
    expect(kept.indexOf(true)).toBe(REMEMBERED_TOKENS_MAX * 2 - REMEMBERED_TOKENS_SESSION_MAX);
  });

  test("does what a plain list would do, whatever the order", () => {
    const names = fc.integer({ min: 0, max: 6 });
    const step = fc.record({
      act: fc.constantFrom("remember", "lookup"),
      name: names,
      now: fc.integer({ min: 0, max: 30 }),
    });
    fc.assert(
      fc.property(fc.array(step, { maxLength: 60 }), (steps) => {
        const memory = new RememberedTokens();
        const model = new Map<string, number>();
        for (const { act, name, now } of steps) {
          const [key, exp] = [text(`t${name}`), name * 5];
          if (act === "remember") {
            memory.remember(key, token(`s${name % 3}`, exp));
            model.set(key, exp);
          } else {
            const isKnown = model.has(key) && (model.get(key) as number) > now;
            if (!isKnown) model.delete(key);
            expect(memory.lookup(key, at(now)) !== null).toBe(isKnown);
          }
          expect(memory.size).toBe(model.size);
        }
      }),
    );
  });
});
