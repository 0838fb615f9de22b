// Clearing, as pictures: `user(pro) -> planner[read] -> planner/helper?` is a chain from the user to the current actor;
// a `?` marks a link that no key vouches for, brackets hold scopes, braces the agents that may be called.
import { describe, expect, test } from "vitest";
import { checkConfig, type ActorsRule, type AgentEntry, type Tier } from "../../core/config.ts";
import type { EpochSeconds, NodePath, Slug } from "../../core/ids.ts";
import { gateActor, type ActorLink } from "../../core/token/chain.ts";
import { clearAccess } from "../../core/token/clear.ts";
import { verifyToken, type VerifiedToken } from "../../core/token/verify.ts";
import { narrowToken } from "../../core/token/mint.ts";
import { ALICE, BOBS_AGENT, claimsOf, ISSUER, KEYS, NOW, PLANNER, SEARCHER, SESSION } from "../support/deployment.ts";
import { seededRandom } from "../support/forge.ts";

const SUBS: Readonly<Record<string, string>> = {
  planner: PLANNER,
  searcher: SEARCHER,
  bobs: BOBS_AGENT,
  "~planner": gateActor(ISSUER, "planner" as Slug),
  "~catalog": gateActor(ISSUER, "catalog" as Slug),
};

/** Reads a picture. */
function draw(picture: string): VerifiedToken {
  const [person, ...links] = picture.split(" -> ") as [string, ...string[]];
  const [, tier = "free"] = /^user(?:\((\w+)\))?/.exec(person) ?? [];
  const bracketed = [...picture.matchAll(/\[([^\]]*)\]/g)].at(-1)?.[1];
  const braced = /\{([^}]*)\}/.exec(picture)?.[1];
  const words = (text: string) => text.split(/[ ,]+/).filter((word) => word !== "");
  const actors: ActorLink[] = [];
  let delegatedTo: VerifiedToken["delegatedTo"] = null;
  for (const link of links) {
    const name = link.replace(/[[{(].*$|\?.*$/, "").trim();
    if (link.startsWith("(")) delegatedTo = SEARCHER;
    else if (link.includes("?")) actors.push({ sub: `${actors.at(-1)?.sub ?? ALICE}/${name}`, proven: false });
    else actors.push({ sub: SUBS[name] as string, proven: true });
  }
  const root = SESSION as string as NodePath;
  return {
    subject: ALICE,
    tier: tier as Tier,
    clientId: actors.findLast(({ proven }) => proven)?.sub ?? ALICE,
    session: SESSION,
    grant: root,
    node: root,
    actors,
    scope: new Set(words(bracketed ?? "read")),
    agents: braced === undefined ? null : new Set(words(braced)),
    exp: (NOW + 300) as EpochSeconds,
    caveatExp: null,
    segments: [],
    delegatedTo,
  };
}

const checked = checkConfig({
  scopes: [{ name: "read", leastTier: "free", description: "Read." }],
  agents: [{ slug: "catalog", binding: "CATALOG", worker: "agents", name: "Catalog", description: "Sources." }],
});
if (!checked.ok) throw new Error(checked.denial.join("\n"));
const catalog = checked.value.agents.get("catalog") as AgentEntry;
const PLAIN = { requiredTier: "free", requiredScopes: ["read"] } as const;

/** An entry that takes everyone with the scope `read`, but for what is said. */
const entry = (changes: Partial<Omit<AgentEntry, "actors">> & { actors?: Partial<ActorsRule> } = {}): AgentEntry => ({
  ...catalog,
  ...PLAIN,
  ...changes,
  actors: { allow: "any", unproven: true, ...changes.actors },
});

const ANY = entry();
const OWN = entry({ actors: { allow: "own" } });
const PROVEN = entry({ actors: { unproven: false } });
const NAMED = entry({ actors: { allow: [SEARCHER, "~planner"] } });
const NOBODY = entry({ actors: { allow: [] } });
const PRO = entry({ requiredTier: "pro" });
const BOTH = entry({ requiredScopes: ["read", "write"] });

/** picture, entry's name, entry, outcome. */
const TABLE: readonly (readonly [picture: string, rule: string, entry: AgentEntry, outcome: string])[] = [
  // scope
  ["user -> planner[read]", "scope read", ANY, "clear"],
  ["user -> planner[read write]", "scope read", ANY, "clear"],
  ["user -> planner[write]", "scope read", ANY, "scope_missing"],
  ["user -> planner[]", "scope read", ANY, "scope_missing"],
  ["user[]", "scope read", ANY, "scope_missing"],
  ["user -> planner[read]", "scopes read and write", BOTH, "scope_missing"],
  ["user -> planner[write read]", "scopes read and write", BOTH, "clear"],
  ["user -> planner[]", "no scope", entry({ requiredScopes: [] }), "clear"],
  // tier
  ["user(free) -> planner[read]", "tier pro", PRO, "tier_too_low"],
  ["user(pro) -> planner[read]", "tier pro", PRO, "clear"],
  ["user(admin) -> planner[read]", "tier pro", PRO, "clear"],
  ["user(pro) -> planner[read]", "tier admin", entry({ requiredTier: "admin" }), "tier_too_low"],
  // agents
  ["user -> planner[read]{catalog, planner}", "any", ANY, "clear"],
  ["user -> planner[read]{planner}", "any", ANY, "agent_forbidden"],
  ["user -> planner[read]{}", "any", ANY, "agent_forbidden"],
  // actors: any
  ["user[read]", "any", ANY, "clear"],
  ["user -> bobs[read]", "any", ANY, "clear"],
  ["user -> planner -> helper?[read]", "any", ANY, "clear"],
  // actors: proven only
  ["user -> planner -> searcher[read]", "proven", PROVEN, "clear"],
  ["user -> planner -> helper?[read]", "proven", PROVEN, "actor_forbidden"],
  ["user -> planner -> helper? -> searcher[read]", "proven", PROVEN, "clear"],
  ["user -> helper?[read]", "proven", PROVEN, "actor_forbidden"],
  ["user[read]", "proven", PROVEN, "clear"],
  // actors: own
  ["user[read]", "own", OWN, "clear"],
  ["user -> planner[read]", "own", OWN, "clear"],
  ["user -> bobs[read]", "own", OWN, "actor_forbidden"],
  ["user -> bobs -> planner[read]", "own", OWN, "clear"],
  ["user -> planner -> bobs[read]", "own", OWN, "actor_forbidden"],
  ["user -> planner -> bobs -> helper?[read]", "own", OWN, "actor_forbidden"],
  ["user -> planner -> helper?[read]", "own", OWN, "clear"],
  ["user -> helper?[read]", "own", OWN, "clear"],
  ["user -> planner -> ~planner[read]", "own", OWN, "clear"],
  // actors: named
  ["user -> searcher[read]", "searcher, ~planner", NAMED, "clear"],
  ["user -> planner[read]", "searcher, ~planner", NAMED, "actor_forbidden"],
  ["user -> planner -> searcher[read]", "searcher, ~planner", NAMED, "clear"],
  ["user -> searcher -> planner[read]", "searcher, ~planner", NAMED, "actor_forbidden"],
  ["user -> planner -> ~planner[read]", "searcher, ~planner", NAMED, "clear"],
  ["user -> planner -> ~catalog[read]", "searcher, ~planner", NAMED, "actor_forbidden"],
  ["user -> searcher -> helper?[read]", "searcher, ~planner", NAMED, "clear"],
  ["user -> planner -> searcher?[read]", "searcher, ~planner", NAMED, "actor_forbidden"],
  ["user[read]", "searcher, ~planner", NAMED, "actor_forbidden"],
  ["user -> helper?[read]", "searcher, ~planner", NAMED, "actor_forbidden"],
  ["user -> searcher[read]", "nobody", NOBODY, "actor_forbidden"],
  ["user[read]", "nobody", NOBODY, "actor_forbidden"],
  // not for use, and not there
  ["user -> planner -> (searcher)[read]", "any", ANY, "delegation_not_redeemed"],
  ["user -> planner[read]", "disabled", entry({ enabled: false }), "agent_unavailable"],
];

describe("clearing", () => {
  test.each(TABLE)("%s at an entry for %s", (picture, _, at, outcome) => {
    const result = clearAccess(draw(picture), at, ISSUER);
    expect(result.ok ? "clear" : result.denial.reason).toBe(outcome);
  });

  test("what is missing is said, and no more", () => {
    const result = clearAccess(
      draw("user -> planner[read]"),
      entry({ requiredScopes: ["read", "write", "pay"] }),
      ISSUER,
    );
    expect(result).toEqual({
      ok: false,
      denial: { reason: "scope_missing", required: ["read", "write", "pay"], missing: ["write", "pay"] },
    });
  });

  test("an agent of another deployment with the same slug is not the gate's", () => {
    const foreign = {
      ...draw("user -> planner[read]"),
      actors: [{ sub: "https://other.example/agents/planner", proven: true }],
    };
    expect(clearAccess(foreign, NAMED, ISSUER)).toMatchObject({ ok: false, denial: { reason: "actor_forbidden" } });
    expect(clearAccess(foreign, OWN, ISSUER)).toMatchObject({ ok: false, denial: { reason: "actor_forbidden" } });
  });

  test("the pictures are real: a minted and narrowed token clears as its drawing does", async () => {
    const { mint, verifier } = KEYS.session;
    const token = await narrowToken(await mint(claimsOf()), { act: "helper", scope: "read" }, seededRandom("clear"));
    const verified = await verifyToken(token, verifier, NOW);
    expect(verified.ok && verified.value.actors).toEqual(draw("user -> planner -> helper?[read]").actors);
    expect(verified.ok && clearAccess(verified.value, PROVEN, ISSUER)).toMatchObject({
      denial: { reason: "actor_forbidden", actor: `${PLANNER}/helper` },
    });
    expect(verified.ok && clearAccess(verified.value, OWN, ISSUER)).toEqual({ ok: true, value: null });
  });
});
