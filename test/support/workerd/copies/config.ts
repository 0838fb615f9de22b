/**
 * The deployment that budgets are tested and measured on: entries of every level, whose calls cost one micro at most
 * (`wide`: ten), no rate windows for free callers, and a lease that the test chooses when it starts. It stands in the
 * place of legate.config.ts (`alias` in wrangler.jsonc beside it).
 */
import { checkConfig, type AgentEntryInput, type LegateConfig } from "../../../../core/config.ts";

const entry = (slug: string, over: Partial<AgentEntryInput>): AgentEntryInput => ({
  slug,
  binding: slug.toUpperCase(),
  worker: "legate-agents",
  name: slug,
  description: "",
  requiredTier: "free",
  transport: "http",
  cost: { most: 1 },
  ...over,
});

/** One for each isolate, set before anything of its is asked for. */
export const lease = { milliseconds: 2_000 };

const checked = checkConfig({
  scopes: [{ name: "work", leastTier: "free", description: "Everything there is." }],
  agents: [
    entry("meter", {}),
    entry("wide", { cost: { most: 10 } }),
    entry("strict", { level: "strict" }),
    entry("talk", { transport: "websocket" }),
  ],
  limits: {
    userDayMicros: null,
    // So wide that nobody meets it: what is measured carries the headers and the work of a window.
    rates: { pro: [{ name: "burst", calls: 1_000_000, seconds: 1 }] },
  },
});
if (!checked.ok) throw new Error(checked.denial.join("\n"));

export const config: LegateConfig = {
  ...checked.value,
  limits: {
    ...checked.value.limits,
    get leaseMs() {
      return lease.milliseconds;
    },
  },
};
