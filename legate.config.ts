/**
 * What this deployment is. Every entry of `agents` names a Durable Object binding of the edge Worker (wrangler.jsonc);
 * `npm start`, the deploy and a test refuse a configuration with mistakes in it, all of them at once.
 */
import { checkConfig, type LegateConfigInput } from "./core/config.ts";

export const input: LegateConfigInput = {
  scopes: [
    { name: "plan", leastTier: "free", description: "Ask the planner for plans, and read its history." },
    { name: "research", leastTier: "free", description: "Let the researcher look things up." },
    { name: "catalog:read", leastTier: "free", description: "Read the catalogue of sources." },
    { name: "catalog:write", leastTier: "pro", description: "Change the catalogue of sources." },
  ],
  agents: [
    {
      slug: "planner",
      binding: "PLANNER",
      worker: "legate-agents",
      name: "Planner",
      description: "Plans a piece of research and asks the researcher for each step.",
      requiredTier: "free",
      requiredScopes: ["plan"],
      transport: "sse",
      cost: { most: 1_000, estimate: 500 },
      // The researcher reads the catalogue on behalf of whoever asked the planner: that is reached from here, too.
      calls: ["researcher", "catalog"],
    },
    {
      slug: "researcher",
      binding: "RESEARCHER",
      worker: "legate-agents",
      name: "Researcher",
      description: "Answers questions from the sources that the catalogue lists.",
      requiredTier: "free",
      requiredScopes: ["research"],
      transport: "websocket",
      cost: { most: 200, estimate: 100 },
      calls: ["catalog"],
    },
    {
      slug: "catalog",
      binding: "CATALOG",
      worker: "legate-agents",
      name: "Catalogue",
      description: "The sources that the researcher may use. Only agents behind the gate read it.",
      requiredTier: "free",
      requiredScopes: ["catalog:read"],
      actors: { allow: ["~researcher"], unproven: false },
      transport: "http",
      instances: "shared",
      cost: { most: 10 },
    },
  ],
  origins: [],
  audiences: [],
  limits: {
    userDayMicros: 50_000_000,
    rates: {
      free: [
        { name: "burst", calls: 20, seconds: 1 },
        { name: "sustained", calls: 600, seconds: 60 },
      ],
      pro: [{ name: "burst", calls: 500, seconds: 1 }],
    },
  },
};

const checked = checkConfig(input);
if (!checked.ok) throw new Error(`legate.config.ts has mistakes:\n- ${checked.denial.join("\n- ")}`);

export const config = checked.value;
