// What a stop does to credentials of clouds: kept ones go with the mark, and what an exchange in flight brings home is nobody's.
import { runDurableObjectAlarm } from "cloudflare:test";
import { afterEach, beforeAll, beforeEach, describe, expect, test, vi } from "vitest";
import type { Denial } from "../../core/denial.ts";
import type { Result } from "../../core/result.ts";
import type { VerifiedToken } from "../../core/token/verify.ts";
import { SessionAuthority } from "../../durable-objects/session-authority.ts";
import {
  authenticate,
  authorityOf,
  by,
  expectOk,
  newAgent,
  newPerson,
  openFor,
  reasonOf,
  tokenOf,
  type Person,
  type TestAgent,
  redeem,
} from "../support/workerd/authority.ts";
import {
  addTestRoles,
  ask,
  atRest,
  keyOf,
  later,
  scene,
  stsInPlace,
  TEST_SCOPE,
} from "../support/workerd/federation.ts";
import type { StsDouble } from "../support/sts-double.ts";

let sts: StsDouble;
beforeAll(addTestRoles);
beforeEach(() => {
  sts = stsInPlace();
});
afterEach(() => {
  vi.restoreAllMocks();
  vi.useRealTimers();
});

describe("a stop", () => {
  const end = (person: Person, path: string) =>
    person.authority.terminate({
      path: path as never,
      why: "terminated",
      by: { ...by, kind: "operator", reason: "test" },
      reach: { kind: "operator" },
      wait: true,
      idempotency: null,
    });

  test("drops what was kept, says until when the rest lives, and how to end it", async () => {
    const { person, grant, token } = await scene();
    const { expiresAt } = expectOk(await ask(person, token));
    const report = expectOk(await end(person, grant.session));
    const plane = report.planes.find(({ name }) => name === "credentials");
    expect(plane).toMatchObject({ dropped: 1, pending: 0, until: expiresAt });
    expect(plane?.denyPolicy).toContain(grant.path);
    expect(reasonOf(await ask(person, token))).toBe("ended:terminated");
    expect(await atRest(person)).not.toMatch(/"sealed":"/);
  });

  /** Fifty who ask for one key; the exchange goes on when all of them wait for it and `meanwhile` is done. */
  async function inFlight(person: Person, tokens: readonly VerifiedToken[], meanwhile: () => Promise<void>) {
    const arrived = vi.spyOn(SessionAuthority.prototype, "credentials");
    sts.meanwhile = async () => {
      await vi.waitFor(() => expect(arrived).toHaveBeenCalledTimes(50), { timeout: 8_000 });
      await meanwhile();
    };
    const asked = Array.from({ length: 50 }, (_, i) => ask(person, tokens[i % tokens.length] as VerifiedToken));
    const reasons = (await Promise.all(asked)).map(reasonOf);
    expect(sts.exchanges).toHaveLength(1);
    return reasons;
  }

  test("nobody gets what an exchange in flight brings home", async () => {
    const { person, grant, token } = await scene();
    const reasons = await inFlight(person, [token], async () => {
      expectOk(await end(authorityOf(person.id), grant.session));
    });
    expect(new Set(reasons)).toEqual(new Set(["ended:terminated"]));
    expect(await atRest(person)).not.toMatch(/"sealed":"/);
    expect(reasonOf(await ask(person, token))).toBe("ended:terminated");
  });

  test("of a link below, while all wait for one exchange: its holder gets nothing, the one above does", async () => {
    const { person, grant, token } = await scene();
    const child = await tokenOf(grant, { act: "reader" });
    const reasons = await inFlight(person, [token, child], async () => {
      expectOk(await end(authorityOf(person.id), child.node));
    });
    expect(reasons.slice(0, 2)).toEqual(["ok", "ended:terminated"]);
    expect(new Set(reasons.filter((_, i) => i % 2 === 0))).toEqual(new Set(["ok"]));
    expect(new Set(reasons.filter((_, i) => i % 2 === 1))).toEqual(new Set(["ended:terminated"]));
  });

  test("that is a lower tier, while all wait, counts as well", async () => {
    const person = await newPerson("admin");
    const agent = await newAgent(person, { scope: TEST_SCOPE });
    const token = await tokenOf(await openFor(person, agent));
    const asked = ["pro", "kept"] as const;
    sts.meanwhile = async () => {
      expectOk(await authorityOf(person.id).authority.setTier("free", by));
    };
    expect(reasonOf(await ask(person, token, asked[0]))).toBe("tier_too_low");
    sts.meanwhile = null;
    expect(reasonOf(await ask(person, token, asked[1]))).toBe("ok");
  });

  test("of a link below takes nothing from those above, and its holder gets nothing more", async () => {
    const { person, grant, token } = await scene();
    const child = await tokenOf(grant, { act: "reader" });
    const first = keyOf(await ask(person, child));
    const report = expectOk(await end(person, child.node));
    expect(report.planes).toMatchObject([{ name: "credentials", dropped: 0 }]);
    expect(report.planes[0]?.until).toBeGreaterThan(Date.now());
    expect(reasonOf(await ask(person, child))).toBe("ended:terminated");
    expect(keyOf(await ask(person, token))).toBe(first);
  });

  test("disabling the person counts", async () => {
    const { person, token } = await scene();
    keyOf(await ask(person, token));
    expectOk(await person.authority.disable({ by: { ...by, kind: "operator", reason: "test" }, wait: false }));
    expect(reasonOf(await ask(person, token))).toBe("user_disabled");
    expect(await atRest(person)).not.toMatch(/"sealed":"/);
  });

  type Way = (owner: Person, agent: TestAgent) => Promise<Result<unknown, Denial>>;
  test.each<[string, string, Way]>([
    ["stopping its agent", "agent_stopped", (owner, { id }) => owner.authority.stopAgent(id, by)],
    ["deleting its agent", "agent_deleted", (owner, { id }) => owner.authority.removeAgent(id, by)],
    [
      "a lock on its agent",
      "agent_stopped",
      (owner, { id }) => owner.authority.lock({ target: id, until: null, by, wait: true }),
    ],
  ])("by %s counts, for the owner and for others whom it acts for", async (_, why, stop) => {
    const owner = await newPerson("pro");
    const agent = await newAgent(owner, { scope: TEST_SCOPE });
    const own = await tokenOf(await openFor(owner, agent));
    const { person, grant, token } = await scene();
    expectOk(await authenticate(owner, agent, await agent.assertion(), person.id));
    const redeemed = expectOk(await redeem(person, agent, await tokenOf(grant, { for: agent.id })));
    const lent = await tokenOf(redeemed);
    const above = keyOf(await ask(person, token));
    const others = [keyOf(await ask(owner, own, "shared")), keyOf(await ask(person, lent, "shared"))];
    expect(new Set([above, ...others]).size).toBe(3);
    expectOk(await stop(owner, agent));
    expect(reasonOf(await ask(owner, own, "shared"))).toBe(`ended:${why}`);
    expect(reasonOf(await ask(person, lent, "shared"))).toBe(`ended:${why}`);
    expect(await atRest(owner)).not.toMatch(/"sealed":"/);
    const kept = (await atRest(person)).match(/"sealed":"/g);
    expect(kept, "the agent's is gone; that of the one above it is not").toHaveLength(1);
    expect(keyOf(await ask(person, token))).toBe(above);
    expect(sts.exchanges).toHaveLength(3);
  });

  test("by a lock on the person counts", async () => {
    const { person, token } = await scene();
    keyOf(await ask(person, token));
    expectOk(await person.authority.lock({ target: person.id, until: null, by, wait: true }));
    expect(reasonOf(await ask(person, token))).not.toBe("ok");
    expect(await atRest(person)).not.toMatch(/"sealed":"/);
  });

  test("by time: what ends with its session is neither served nor kept", async () => {
    const { person, token } = await scene(1_000);
    keyOf(await ask(person, token));
    later(1_001_000);
    await runDurableObjectAlarm(person.stub);
    expect(reasonOf(await ask(person, token))).not.toBe("ok");
    expect(await atRest(person)).not.toMatch(/"sealed":"/);
  });
});
