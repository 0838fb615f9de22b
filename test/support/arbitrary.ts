// What a holder may say, for fast-check.
import * as fc from "fast-check";
import type { EpochSeconds, Micros } from "../../core/ids.ts";
import type { Narrowing } from "../../core/token/mint.ts";
import { NOW, SEARCHER } from "./deployment.ts";

export const names = fc.uniqueArray(fc.constantFrom("read", "write", "search", "pay", "aws:deploy"), { maxLength: 5 });
const optional = <T>(arbitrary: fc.Arbitrary<T>) => fc.option(arbitrary, { nil: undefined });
export const narrowing: fc.Arbitrary<Narrowing> = fc
  .record({
    scope: optional(names.map((list) => list.join(" "))),
    agents: optional(fc.uniqueArray(fc.constantFrom("planner", "catalog", "researcher", "other"), { maxLength: 4 })),
    exp: optional(fc.integer({ min: NOW - 10, max: NOW + 400 }).map((exp) => exp as EpochSeconds)),
    budget: optional(fc.nat().map((budget) => budget as Micros)),
    link: fc.constantFrom({}, {}, {}, { act: "helper" }, { for: SEARCHER }),
  })
  .map(({ link, ...members }) => {
    const said = Object.entries(members).filter(([, value]) => value !== undefined);
    return { ...Object.fromEntries(said), ...link };
  });
