// Every mistake in a configuration has its sentence, which names the place; and all are told at once.
import { describe, expect, test } from "vitest";
import {
  audienceWithin,
  checkConfig,
  missingBindings,
  scopesOfTier,
  tierReaches,
  TIERS,
  type AgentEntryInput,
  type LegateConfigInput,
} from "../../core/config.ts";
import { PLANNER } from "../support/deployment.ts";

const agent = (changes: object = {}): AgentEntryInput => ({
  slug: "planner",
  binding: "PLANNER",
  worker: "agents",
  name: "Planner",
  description: "Plans.",
  ...changes,
});
const scope = (changes: object = {}) => ({
  name: "read",
  leastTier: "free" as const,
  description: "Read.",
  ...changes,
});
const config = (changes: object = {}): LegateConfigInput => ({ agents: [agent()], scopes: [scope()], ...changes });
const withAgent = (changes: object) => config({ agents: [agent(changes)] });
const mistakesOf = (input: LegateConfigInput): readonly string[] => {
  const checked = checkConfig(input);
  return checked.ok ? [] : checked.denial;
};

const MISTAKES: readonly (readonly [what: string, input: LegateConfigInput, sentence: RegExp])[] = [
  ["slug", withAgent({ slug: "Planner" }), /"Planner" is not a slug/],
  ["slug of 65", withAgent({ slug: "p".repeat(65), binding: "P".repeat(65) }), /is not a slug/],
  ["binding in lower case", withAgent({ binding: "planner" }), /bindings are UPPER_CASE/],
  ["binding and slug drift", withAgent({ slug: "plans" }), /bound as PLANNER, whose slug would be "planner"/],
  ["slug twice", config({ agents: [agent(), agent({ binding: "PLANNER_2" })] }), /"planner" stands twice/],
  [
    "binding twice",
    config({ agents: [agent(), agent({ slug: "planner-2" })] }),
    /uses the binding PLANNER, which another entry has/,
  ],
  ["worker", withAgent({ worker: "My Worker" }), /names the Worker "My Worker"/],
  ["name", withAgent({ name: "" }), /needs a name/],
  ["tier", withAgent({ requiredTier: "gold" }), /unknown requiredTier "gold"/],
  ["tier from a prototype", withAgent({ requiredTier: "constructor" }), /unknown requiredTier/],
  ["transport", withAgent({ transport: "pigeon" }), /unknown transport "pigeon"/],
  ["level", withAgent({ level: "lax" }), /unknown level "lax"/],
  ["instances", withAgent({ instances: "each" }), /unknown instances "each"/],
  ["cost negative", withAgent({ cost: { most: -1 } }), /whole micros/],
  ["cost a fraction", withAgent({ cost: { most: 0.5 } }), /whole micros/],
  ["cost beyond 2^53", withAgent({ cost: { most: 2 ** 53 } }), /whole micros/],
  ["estimate over the most", withAgent({ cost: { most: 1, estimate: 2 } }), /the estimate no more than the most/],
  ["scope unknown", withAgent({ requiredScopes: ["write"] }), /requires the scope "write", which scopes does not list/],
  ["callee unknown", withAgent({ calls: ["catalog"] }), /calls "catalog", which is no agent here/],
  ["actors rule", withAgent({ actors: { allow: "all" } }), /unknown actors rule "all"/],
  ["actor malformed", withAgent({ actors: { allow: ["planner"] } }), /neither a client .* nor an agent here/],
  ["actor unknown", withAgent({ actors: { allow: ["~catalog"] } }), /"~catalog", which is no agent here/],
  ["scope name", config({ scopes: [scope({ name: "Read" })] }), /"Read" is not a scope name/],
  ["scope twice", config({ scopes: [scope(), scope()] }), /"read" stands twice/],
  ["scope operator", config({ scopes: [scope({ name: "operator" })] }), /is Legate's own; remove it/],
  [
    "scope's tier",
    config({ scopes: [scope({ leastTier: "gold" })] }),
    /unknown leastTier "gold"; it is one of free, pro, admin/,
  ],
  ["scope's description", config({ scopes: [scope({ description: "" })] }), /needs a description/],
  ["origin with a path", config({ origins: ["https://app.example.com/"] }), /is not an origin/],
  ["origin *", config({ origins: ["*"] }), /is not an origin/],
  ["origin null", config({ origins: ["null"] }), /is not an origin/],
  [
    "audience twice",
    config({
      audiences: [
        { name: "a", client: PLANNER },
        { name: "a", client: PLANNER },
      ],
    }),
    /"a" stands twice/,
  ],
  ["audience's client", config({ audiences: [{ name: "a", client: "~planner" }] }), /needs a registered client/],
  ...[
    "",
    "Billing",
    "-billing",
    "1billing",
    "billing api",
    "a".repeat(129),
    "http://api.example.com",
    "https://",
    "https://API.example.com",
    "https://user@api.example.com",
    "https://api.example.com/#top",
    "https://api.example.com/a b",
    `https://api.example.com/${"a".repeat(256)}`,
  ].map(
    (name) =>
      [
        `audience ${JSON.stringify(name.slice(0, 40))}`,
        config({ audiences: [{ name, client: PLANNER }] }),
        /is neither an https URI nor a plain name/,
      ] as const,
  ),
  ["day's cap", config({ limits: { userDayMicros: -1 } }), /userDayMicros must be a whole number/],
  ["session too short", config({ limits: { sessionSeconds: 59 } }), /sessionSeconds must lie between/],
  ["session too long", config({ limits: { sessionSeconds: 86_401 } }), /sessionSeconds must lie between/],
  ["messages empty", config({ limits: { messageBytes: 0 } }), /messageBytes must lie between/],
  ["messages too large", config({ limits: { messageBytes: 1_048_577 } }), /messageBytes must lie between/],
];

describe("mistakes", () => {
  test("there are none in the plain one", () => expect(mistakesOf(config())).toEqual([]));
  test.each(MISTAKES)("%s", (_, input, sentence) => {
    const mistakes = mistakesOf(input);
    expect(mistakes.filter((mistake) => sentence.test(mistake))).toHaveLength(1);
    for (const mistake of mistakes) expect(mistake).toMatch(/^[a-z].*\.$/);
  });
  test("all at once", () => {
    const everything = config({
      agents: [agent({ name: "", level: "lax" })],
      scopes: [scope({ description: "" })],
      origins: ["*"],
    });
    expect(mistakesOf(everything)).toHaveLength(4);
  });
  test("edges that are none", () => {
    for (const limits of [
      { sessionSeconds: 60 },
      { sessionSeconds: 86_400 },
      { messageBytes: 1 },
      { messageBytes: 1_048_576 },
      { userDayMicros: 0 },
      { userDayMicros: null },
    ]) {
      expect(mistakesOf(config({ limits }))).toEqual([]);
    }
    expect(mistakesOf(config({ origins: ["https://app.example.com", "http://localhost:5173"] }))).toEqual([]);
  });
});

describe("what is not said", () => {
  const checked = checkConfig(config());
  test("is strict", () => {
    const entry = checked.ok ? checked.value.agents.get("planner") : undefined;
    expect(entry).toMatchObject({
      requiredTier: "admin",
      transport: "websocket",
      instances: "user",
      level: "counted",
      calls: [],
      requiredScopes: [],
      subAgents: false,
      enabled: true,
      cost: { most: 0, estimate: 0 },
    });
  });
  test("an estimate that is not given is the most", () => {
    const result = checkConfig(withAgent({ cost: { most: 7 } }));
    expect(result.ok && result.value.agents.get("planner")?.cost).toEqual({ most: 7, estimate: 7 });
  });
});

test("tiers: each reaches itself and all below", () => {
  expect(TIERS.map((tier) => TIERS.filter((required) => tierReaches(tier, required)).length)).toEqual([1, 2, 3]);
});
test("scopes of a tier", () => {
  const result = checkConfig(
    config({
      scopes: [scope(), scope({ name: "write", leastTier: "pro" }), scope({ name: "wipe", leastTier: "admin" })],
    }),
  );
  expect(result.ok && TIERS.map((tier) => scopesOfTier(result.value, tier).join(" "))).toEqual([
    "read",
    "read write",
    "read write wipe",
  ]);
});
test("bindings that a Worker lacks are found", () => {
  const result = checkConfig(config({ agents: [agent(), agent({ slug: "catalog", binding: "CATALOG" })] }));
  expect(result.ok && missingBindings(result.value, (name) => name === "PLANNER").map(({ slug }) => slug)).toEqual([
    "catalog",
  ]);
});

const withAudience = (name: string) => {
  const checked = checkConfig(config({ audiences: [{ name, client: PLANNER }] }));
  if (!checked.ok) throw new Error(checked.denial.join("\n"));
  return checked.value;
};

describe("an audience of the deployment itself", () => {
  test.each([
    "https://legate.example",
    "https://legate.example/",
    "https://legate.example/agents/planner",
    "https://legate.example?a",
  ])("%s is found", (name) => expect(audienceWithin(withAudience(name), "https://Legate.example")).toBe(name));

  test.each([
    "billing",
    "legate.example",
    "https://legate.example.com",
    "https://legate.example:8443",
    "https://api.example/https://legate.example",
  ])("%s is another's", (name) => expect(audienceWithin(withAudience(name), "https://legate.example")).toBeNull());
});
