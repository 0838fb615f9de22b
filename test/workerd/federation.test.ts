// Cloud credentials in the object: one exchange for all, failures shared, kept or not as the role says, gone with a stop.
import { evictDurableObject, runDurableObjectAlarm, runInDurableObject } from "cloudflare:test";
import { afterEach, beforeAll, beforeEach, describe, expect, test, vi, onTestFinished } from "vitest";
import type { Scope } from "../../core/config.ts";
import type { EpochSeconds } from "../../core/ids.ts";
import { config } from "../../legate.config.ts";
import {
  addRoles,
  addTestRoles,
  ask,
  atRest,
  awsRole,
  keyOf,
  later,
  scene,
  stsInPlace,
} from "../support/workerd/federation.ts";
import type { StsDouble } from "../support/sts-double.ts";
import { by, expectOk, newAgent, newPerson, openFor, reasonOf, tokenOf } from "../support/workerd/authority.ts";

let sts: StsDouble;
beforeAll(addTestRoles);
beforeEach(() => {
  sts = stsInPlace();
});
afterEach(() => {
  vi.restoreAllMocks();
  vi.useRealTimers();
});

describe("an exchange", () => {
  test("says who asks, for whom, and until when", async () => {
    const { person, agent, grant, token } = await scene();
    const answer = expectOk(await ask(person, token));
    const { form = {}, claims = null, kid } = sts.exchanges[0] ?? {};
    expect(kid).toBe("oidc-1");
    expect(claims).toMatchObject({
      sub: `${person.id}:aws:kept`,
      aud: "sts.amazonaws.com",
      "https://aws.amazon.com/source_identity": person.id,
      "https://aws.amazon.com/tags": {
        principal_tags: {
          "legate-root-agent": [agent.id],
          "legate-agent": [agent.id],
          "legate-session": [grant.session],
          "legate-grant": [grant.path],
        },
      },
    });
    expect((claims?.exp ?? 0) - (claims?.iat ?? 0)).toBe(300);
    expect(form["RoleSessionName"]).toBe(grant.session);
    expect(form["Policy"]).toContain(new Date(grant.expires * 1000).toISOString().slice(0, 19));
    expect(answer.expiresAt).toBeLessThanOrEqual(grant.expires * 1000);
    expect(answer.secrets).toMatchObject({ provider: "aws", sessionToken: "double-session-1-planted" });
  });

  test("is one for a thousand that ask at once, and for bearer links below", { timeout: 30_000 }, async () => {
    const { person, grant, token } = await scene();
    const child = await tokenOf(grant, { act: "reader" });
    sts.delayMs = 100;
    const answers = await Promise.all(
      Array.from({ length: 1_000 }, (_, i) => ask(person, i % 2 === 0 ? token : child)),
    );
    expect(new Set(answers.map(keyOf)).size).toBe(1);
    expect(sts.exchanges).toHaveLength(1);
  });

  test("is another one for another role, grant or end", async () => {
    const { person, agent, grant, token } = await scene();
    const caveat = await tokenOf(grant, { exp: (grant.expires - 1_000) as EpochSeconds });
    const second = await tokenOf(await openFor(person, agent));
    const keys = [
      keyOf(await ask(person, token)),
      keyOf(await ask(person, token, "loose")),
      keyOf(await ask(person, caveat)),
      keyOf(await ask(person, second)),
      keyOf(await ask(person, token)),
    ];
    expect(new Set(keys).size).toBe(4);
    expect(sts.exchanges).toHaveLength(4);
  });
});

describe("who may not ask makes no exchange", () => {
  test.each<[string, string, string]>([
    ["another alias", "other", "scope_missing"],
    ["a tier too low", "pro", "tier_too_low"],
  ])("%s", async (_, alias, reason) => {
    const { person, token } = await scene();
    expect(reasonOf(await ask(person, token, alias))).toBe(reason);
    expect(sts.exchanges).toHaveLength(0);
  });

  test("a scope above the tier that the person has now, though the token has it", async () => {
    onTestFinished(addRoles(awsRole("fallen")));
    const person = await newPerson("pro");
    const token = await tokenOf(await openFor(person, await newAgent(person, { scope: ["aws:fallen"] })));
    const scopes = config.scopes as Map<string, Scope>;
    scopes.set("aws:fallen", { ...(scopes.get("aws:fallen") as Scope), leastTier: "pro" });
    await ask(person, token, "fallen").then(expectOk);
    expectOk(await person.authority.setTier("free", by));
    expect(reasonOf(await ask(person, token, "fallen"))).toBe("scope_missing");
    expect(sts.exchanges).toHaveLength(1);
  });

  test("a link without a key, where the role wants one; a scope that was narrowed away", async () => {
    const { person, grant } = await scene();
    expect(reasonOf(await ask(person, await tokenOf(grant, { act: "reader" }), "narrow"))).toBe("actor_forbidden");
    expect(reasonOf(await ask(person, await tokenOf(grant, { scope: "aws:loose" })))).toBe("scope_missing");
    expect(sts.exchanges).toHaveLength(0);
  });

  test("a node with less than 900 s left, unless the policy has room for its end", async () => {
    const { person, token } = await scene(800);
    expect(reasonOf(await ask(person, token, "short"))).toBe("credential_too_short");
    expect(sts.exchanges).toHaveLength(0);
    const { expiresAt } = expectOk(await ask(person, token));
    expect(sts.exchanges[0]?.form["DurationSeconds"]).toBe("900");
    expect(expiresAt).toBeLessThanOrEqual(Date.now() + 800_000);
    const brief = await scene(100);
    expect(reasonOf(await ask(brief.person, brief.token))).toBe("credential_too_short");
  });
});

describe("failures", () => {
  test.each<[string, number, string, number]>([
    ["InvalidIdentityToken", 400, "permanent", 2],
    ["ExpiredTokenException", 400, "permanent", 2],
    ["IDPCommunicationError", 400, "retry", 1],
    ["IDPRejectedClaim", 403, "permanent", 1],
    ["AccessDenied", 403, "permanent", 1],
    ["MalformedPolicyDocument", 400, "permanent", 1],
    ["PackedPolicyTooLarge", 400, "permanent", 1],
    ["ValidationError", 400, "permanent", 1],
    ["RegionDisabledException", 403, "permanent", 1],
    ["Throttling", 400, "retry", 1],
    ["ThrottlingException", 400, "retry", 1],
    ["InternalFailure", 500, "retry", 1],
    ["ServiceUnavailable", 503, "retry", 1],
  ])("%s: shared, told by its code, not asked again at once", async (code, status, kind, tries) => {
    const { person, token } = await scene();
    for (let i = 0; i < tries; i++) sts.faults.push({ code, status });
    const answers = await Promise.all(Array.from({ length: 20 }, () => ask(person, token)));
    for (const answer of answers)
      expect(answer).toMatchObject({ ok: false, denial: { reason: "exchange_failed", kind, code } });
    expect(sts.exchanges).toHaveLength(tries);
    await ask(person, token);
    expect(sts.exchanges).toHaveLength(tries);
    expect(JSON.stringify(answers)).not.toContain("planted");
    later(6_000);
    keyOf(await ask(person, token));
    expect(sts.exchanges).toHaveLength(tries + 1);
  });

  test("a token refused once is minted anew, and then it works", async () => {
    const { person, token } = await scene();
    sts.faults.push({ code: "InvalidIdentityToken", status: 400 });
    keyOf(await ask(person, token));
    const [first, second] = sts.exchanges.map(({ claims }) => claims?.jti);
    expect(first).not.toBe(second);
  });

  test.each<[string, Parameters<StsDouble["faults"]["push"]>[0], string]>([
    ["a page", { raw: "<html>Sign in</html>", status: 200 }, "answer_unreadable"],
    ["a page of an error", { raw: "<html>Bad gateway</html>", status: 502 }, "http_502"],
    ["a redirect", { raw: "", status: 302, headers: { location: "http://127.0.0.1:9/" } }, "redirect"],
    ["33 MB", { endless: 33_000_000 }, "answer_too_long"],
    ["a connection that drops", { drop: true }, "connection"],
    ["what is over already", { expiresInSeconds: -60 }, "answer_absurd"],
    ["what ends in a moment", { expiresInSeconds: 30 }, "answer_absurd"],
    ["what lives for ever", { expiresInSeconds: 900_000 }, "answer_absurd"],
  ])("%s is refused with one request", async (_, fault, code) => {
    const { person, token } = await scene();
    sts.faults.push(fault);
    expect(await ask(person, token)).toMatchObject({ denial: { reason: "exchange_failed", code } });
    expect(sts.exchanges).toHaveLength(1);
  });

  test("half a body ends at the deadline, for all who wait", { timeout: 20_000 }, async () => {
    const { person, token } = await scene();
    sts.faults.push({ half: true });
    const began = Date.now();
    const answers = await Promise.all(Array.from({ length: 10 }, () => ask(person, token)));
    for (const answer of answers) expect(answer).toMatchObject({ denial: { kind: "retry", code: "timeout" } });
    expect(Date.now() - began).toBeLessThan(12_000);
    expect(sts.exchanges).toHaveLength(1);
  });

  test("are remembered over an eviction, and the pause grows on", async () => {
    const { person, token } = await scene();
    let pause = 0;
    for (let round = 1; round <= 3; round++) {
      sts.faults.push({ code: "ServiceUnavailable", status: 503 });
      const first = await ask(person, token);
      expect(first).toMatchObject({ denial: { reason: "exchange_failed", code: "ServiceUnavailable" } });
      const { retryAfterMs = 0 } = first.ok ? {} : (first.denial as { retryAfterMs?: number });
      expect(retryAfterMs).toBeGreaterThan(pause);
      pause = retryAfterMs;
      await evictDurableObject(person.stub);
      expect(await ask(person, token)).toMatchObject({ denial: { reason: "exchange_failed", kind: "retry" } });
      expect(sts.exchanges).toHaveLength(round);
      later(pause + 1);
    }
    keyOf(await ask(person, token));
  });

  test("of a clock that went back keep nobody waiting longer than the longest pause", async () => {
    const { person, token } = await scene();
    sts.faults.push({ code: "AccessDenied", status: 403 });
    const now = Date.now();
    later(600_000);
    expect(reasonOf(await ask(person, token))).toBe("exchange_failed");
    vi.useFakeTimers({ toFake: ["Date"], now });
    keyOf(await ask(person, token));
  });

  test("no more than ten exchanges a minute for one user and role, evicted between them or not", async () => {
    const { person, agent } = await scene();
    const asked = async (alias = "kept") =>
      reasonOf(await ask(person, await tokenOf(await openFor(person, agent)), alias));
    const reasons: string[] = [];
    for (let i = 0; i < 12; i++) {
      if (i % 5 === 4) await evictDurableObject(person.stub);
      reasons.push(await asked());
    }
    expect(reasons).toEqual([...Array.from({ length: 10 }, () => "ok"), "rate_limited", "rate_limited"]);
    expect(await asked("loose")).toBe("ok");
    const now = Date.now();
    later(-30_000);
    expect(await asked(), "a clock that went back refills nothing").toBe("rate_limited");
    vi.useFakeTimers({ toFake: ["Date"], now: now + 60_000 });
    expect(await asked()).toBe("ok");
  });
});

describe("kept", () => {
  test("encrypted: over an eviction, with nothing readable at rest", async () => {
    const { person, token } = await scene();
    const first = keyOf(await ask(person, token));
    await evictDurableObject(person.stub);
    expect(keyOf(await ask(person, token))).toBe(first);
    expect(sts.exchanges).toHaveLength(1);
    expect(await atRest(person)).not.toMatch(/planted|ASIADOUBLE/);
  });

  test("not at all: another exchange after an eviction, and nothing of it in any table", async () => {
    const { person, token } = await scene();
    keyOf(await ask(person, token, "loose"));
    const rows = await atRest(person);
    expect(rows).toContain("aws:loose");
    expect(rows).not.toMatch(/planted|ASIADOUBLE|"sealed":"/);
    await evictDurableObject(person.stub);
    keyOf(await ask(person, token, "loose"));
    expect(sts.exchanges).toHaveLength(2);
  });

  test("a row that was moved or changed is a miss, never an error", async () => {
    const { person, token } = await scene();
    keyOf(await ask(person, token));
    await runInDurableObject(person.stub, (_, { storage }) => {
      storage.sql.exec("update credentials set sealed = 'AAAA' || substr(sealed, 5)");
    });
    await evictDurableObject(person.stub);
    keyOf(await ask(person, token));
    expect(sts.exchanges).toHaveLength(2);
  });

  test("served, then refreshed beside the answer, and never in its last minute", async () => {
    const { person, token } = await scene(86_400);
    const first = keyOf(await ask(person, token));
    later(2_900_000);
    expect(keyOf(await ask(person, token))).toBe(first);
    await vi.waitFor(() => expect(sts.exchanges).toHaveLength(2));
    await vi.waitFor(async () => expect(keyOf(await ask(person, token))).not.toBe(first));
    later(3_560_000);
    const third = keyOf(await ask(person, token));
    expect(third).not.toBe(first);
  });

  test("a refresh that fails leaves the old one serving", async () => {
    const { person, token } = await scene(86_400);
    const first = keyOf(await ask(person, token));
    later(2_900_000);
    sts.faults.push({ code: "ServiceUnavailable", status: 503 });
    for (let i = 0; i < 5; i++) expect(keyOf(await ask(person, token))).toBe(first);
    expect(sts.exchanges).toHaveLength(2);
  });
});

describe("what is written down", () => {
  test("a row for each exchange, good or bad, and for what was dropped; no secret in any", async () => {
    const { person, grant, token } = await scene();
    sts.faults.push({ code: "Throttling", status: 400 });
    await ask(person, token);
    later(3_000);
    for (let i = 0; i < 4; i++) keyOf(await ask(person, token));
    expectOk(await person.authority.stopUser({ by, wait: false }));
    later(70_000);
    await runDurableObjectAlarm(person.stub);
    const kinds = await runInDurableObject(person.stub, (_, { storage }) =>
      storage.sql.exec("select kind, body from audit where kind like 'credential.%' order by seq").toArray(),
    );
    expect(kinds.map(({ kind }) => kind)).toEqual([
      "credential.failed",
      "credential.exchanged",
      "credential.dropped",
      "credential.served",
    ]);
    expect(JSON.parse(kinds[0]?.["body"] as string)).toMatchObject({
      code: "Throttling",
      node: grant.path,
      role: "aws:kept",
    });
    expect(JSON.parse(kinds[2]?.["body"] as string)).toMatchObject({ dropped: 1 });
    expect(JSON.parse(kinds[3]?.["body"] as string)).toMatchObject({ role: "aws:kept", answers: 4 });
    expect(JSON.stringify(kinds)).not.toMatch(/planted|ASIADOUBLE/);
  });
});
