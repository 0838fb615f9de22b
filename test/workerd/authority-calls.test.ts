// The object's decisions about calls: what lives, what may be spent, and that each hold ends once. Every scenario runs
// again with the object evicted between its steps, and nothing may change.
import { evictDurableObject } from "cloudflare:test";
import { describe, expect, test } from "vitest";
import type { CallId, Micros, NodePath } from "../../core/ids.ts";
import { LIVE_CHILDREN_MAX } from "../../core/limits.ts";
import {
  by,
  expectOk,
  newAgent,
  newPerson,
  now,
  open,
  openFor,
  question,
  reasonOf,
  tokenOf,
  type Person,
} from "../support/workerd/authority.ts";

const micros = (value: number): Micros => value as Micros;

describe.each([{ evicted: false }, { evicted: true }])("evicted between steps: $evicted", ({ evicted }) => {
  const step = async (person: Person): Promise<void> => {
    if (evicted) await evictDurableObject(person.stub);
  };

  test("user -> agent[cap 100]: ten calls of 10, the eleventh finds the budget spent", async () => {
    const person = await newPerson();
    const agent = await newAgent(person, { cap: 100 });
    const token = await tokenOf(await openFor(person, agent));
    for (let i = 0; i < 10; i++) {
      const asked = question(token, { cost: micros(10) });
      const admitted = expectOk(await person.authority.admit(asked));
      expect(admitted.remaining).toBe(100 - 10 * (i + 1));
      await step(person);
      expectOk(
        await person.authority.settle({ hold: admitted.hold, callId: asked.callId, cost: micros(10), failed: false }),
      );
      await step(person);
    }
    expect(reasonOf(await person.authority.admit(question(token)))).toBe("budget_exhausted");
    // Another session of the same agent draws on the same cap.
    const other = await tokenOf(await openFor(person, agent));
    expect(reasonOf(await person.authority.admit(question(other)))).toBe("budget_exhausted");
    // A cap may be raised: then there is room for one call more.
    expectOk(await person.authority.setAgentCap({ id: agent.id, cap: micros(110), cookie: null, by }));
    await step(person);
    expect(reasonOf(await person.authority.admit(question(other, { cost: micros(11) })))).toBe("budget_exhausted");
    expectOk(await person.authority.admit(question(other)));
  });

  test("open holds stand in the way, and give it back: 429 while held, room after settling for less", async () => {
    const person = await newPerson();
    const token = await tokenOf(await openFor(person, await newAgent(person, { cap: 100 })));
    const asked = question(token, { cost: micros(80) });
    const { hold } = expectOk(await person.authority.admit(asked));
    await step(person);
    expect(reasonOf(await person.authority.admit(question(token, { cost: micros(30) })))).toBe("budget_held");
    expectOk(await person.authority.settle({ hold, callId: asked.callId, cost: micros(5), failed: false }));
    await step(person);
    const leash = expectOk(await person.authority.leash(token));
    expect(leash.budget).toMatchObject({ cap: 100, settled: 5, held: 0, remaining: 95 });
  });

  test("a hold ends once", async () => {
    const person = await newPerson();
    const token = await tokenOf(await openFor(person, await newAgent(person)));
    const asked = question(token);
    const { hold } = expectOk(await person.authority.admit(asked));
    const { callId } = asked;
    await step(person);
    expect(reasonOf(await person.authority.settle({ hold, callId, cost: micros(11), failed: false }))).toBe(
      "hold_mismatch:too_much",
    );
    expect(
      reasonOf(await person.authority.settle({ hold, callId: "another" as CallId, cost: micros(1), failed: false })),
    ).toBe("hold_mismatch:unknown");
    expect(expectOk(await person.authority.settle({ hold, callId, cost: micros(7), failed: false }))).toEqual({
      cost: 7,
      repeated: false,
    });
    await step(person);
    expect(expectOk(await person.authority.settle({ hold, callId, cost: micros(7), failed: false }))).toEqual({
      cost: 7,
      repeated: true,
    });
    expect(reasonOf(await person.authority.settle({ hold, callId, cost: micros(8), failed: false }))).toBe(
      "hold_mismatch:settled",
    );
    expect(reasonOf(await person.authority.void({ hold, callId }))).toBe("hold_mismatch:settled");
    expect(expectOk(await person.authority.leash(token)).budget.settled).toBe(7);
  });

  test("the same question asked twice is one hold", async () => {
    const person = await newPerson();
    const token = await tokenOf(await openFor(person, await newAgent(person)));
    const asked = question(token);
    const first = expectOk(await person.authority.admit(asked));
    await step(person);
    expect(expectOk(await person.authority.admit(asked)).hold).toBe(first.hold);
    expect(expectOk(await person.authority.leash(token)).budget.held).toBe(10);
  });

  test("session -> child[budget 20] -> grandchild: the child's cap binds below it, and the session's above", async () => {
    const person = await newPerson();
    const grant = await openFor(person, await newAgent(person, { cap: 1_000 }), { budget: micros(50) });
    const child = { act: "helper", n: "AAAAAAAAAAAA", budget: micros(20) } as const;
    const grandchild = await tokenOf(grant, child, { act: "deeper", n: "BBBBBBBBBBBB" });
    expectOk(await person.authority.admit(question(grandchild, { cost: micros(15) })));
    await step(person);
    const denied = await person.authority.admit(question(grandchild, { cost: micros(6) }));
    expect(denied).toMatchObject({ ok: false, denial: { reason: "budget_held", node: `${grant.path}.AAAAAAAAAAAA` } });
    expect(reasonOf(await person.authority.admit(question(await tokenOf(grant, child), { cost: micros(21) })))).toBe(
      "budget_exhausted",
    );
    expectOk(await person.authority.admit(question(await tokenOf(grant), { cost: micros(35) })));
    expect(await person.authority.admit(question(await tokenOf(grant), { cost: micros(1) }))).toMatchObject({
      denial: { reason: "budget_held", node: grant.path },
    });
  });

  test("a path stands for one content for ever", async () => {
    const person = await newPerson();
    const grant = await openFor(person, await newAgent(person));
    expectOk(
      await person.authority.admit(
        question(await tokenOf(grant, { act: "one", n: "AAAAAAAAAAAA", budget: micros(20) })),
      ),
    );
    await step(person);
    expect(
      reasonOf(
        await person.authority.admit(
          question(await tokenOf(grant, { act: "one", n: "AAAAAAAAAAAA", budget: micros(2_000) })),
        ),
      ),
    ).toBe("token_invalid:node_conflict");
    // Another end is the same node: a parent that renewed narrows again with the same n.
    const exp = Math.floor(Date.now() / 1000) + 600;
    expectOk(
      await person.authority.admit(
        question(await tokenOf(grant, { act: "one", n: "AAAAAAAAAAAA", budget: micros(20), exp: exp as never })),
      ),
    );
  });

  test("after a stop nothing below is admitted, and it stays so", async () => {
    const person = await newPerson();
    const grant = await openFor(person, await newAgent(person));
    const child = await tokenOf(grant, { act: "helper" });
    expectOk(await person.authority.admit(question(child)));
    const end = {
      path: grant.path,
      why: "terminated",
      by: { kind: "operator", id: "op", reason: "test" },
      reach: { kind: "operator" },
      wait: false,
      idempotency: null,
    } as const;
    const report = expectOk(await person.authority.terminate(end));
    expect(report).toMatchObject({ why: "terminated", session: grant.session, calls: { running: 1 } });
    expect(report.fence.at).toBeLessThanOrEqual(now() + 3_000);
    await step(person);
    for (const token of [child, await tokenOf(grant)])
      expect(reasonOf(await person.authority.admit(question(token)))).toBe("ended:terminated");
    expect(reasonOf(await person.authority.terminate(end))).toBe("already_ended");
    const view = expectOk(await person.authority.list()).find(({ id }) => id === grant.session);
    expect(view).toMatchObject({ endReason: "terminated", endedBy: "op" });
  });
});

test("a terminate that waits answers after the fence: when the open call's envelope must have ended", async () => {
  const person = await newPerson();
  const grant = await openFor(person, await newAgent(person));
  expectOk(await person.authority.admit(question(await tokenOf(grant))));
  const report = expectOk(
    await person.authority.terminate({
      path: grant.path,
      why: "terminated",
      by,
      reach: { kind: "operator" },
      wait: true,
      idempotency: null,
    }),
  );
  expect(report.fence.passed).toBe(true);
  expect(report.state).toBe("terminal");
});

test("a token without anything recorded, or of another user's object, is refused", async () => {
  const [one, other] = [await newPerson(), await newPerson()];
  const token = await tokenOf(await open(one));
  expect(reasonOf(await other.authority.admit(question(token)))).toBe("token_invalid:unknown_node");
});

test("the tier that the object holds now decides", async () => {
  const person = await newPerson("pro");
  const token = await tokenOf(await open(person));
  expectOk(await person.authority.admit(question(token, { requiredTier: "pro" })));
  expectOk(await person.authority.setTier("free", by));
  expect(reasonOf(await person.authority.admit(question(token, { requiredTier: "pro" })))).toBe("tier_too_low");
});

test("live children of one parent are bounded, and a refused one leaves no row", async () => {
  const person = await newPerson();
  const grant = await openFor(person, await newAgent(person));
  for (let i = 0; i < LIVE_CHILDREN_MAX; i++)
    expectOk(await person.authority.admit(question(await tokenOf(grant, { act: "child" }), { cost: micros(0) })));
  const denied = await person.authority.admit(question(await tokenOf(grant, { act: "child" })));
  expect(denied).toMatchObject({ denial: { reason: "delegation_limit", node: grant.path, limit: LIVE_CHILDREN_MAX } });
  expect(expectOk(await person.authority.inspect(grant.path, { kind: "person", cookie: null })).tree).toHaveLength(
    LIVE_CHILDREN_MAX + 1,
  );
});

test("100 racing calls of 10 on a cap of 500: exactly 50", async () => {
  const person = await newPerson();
  const token = await tokenOf(await openFor(person, await newAgent(person, { cap: 500 })));
  const answers = await Promise.all(Array.from({ length: 100 }, () => person.authority.admit(question(token))));
  expect(answers.filter(({ ok }) => ok)).toHaveLength(50);
  expect(new Set(answers.filter(({ ok }) => !ok).map(reasonOf))).toEqual(new Set(["budget_held"]));
});

test("a disabled person's sessions are over, and no new one opens until enabled", async () => {
  const person = await newPerson();
  const agent = await newAgent(person);
  const token = await tokenOf(await openFor(person, agent));
  expect(expectOk(await person.authority.disable({ by, wait: false })).sessions).toBe(1);
  expect(reasonOf(await person.authority.admit(question(token)))).toBe("user_disabled");
  expect(reasonOf(await person.authority.person())).toBe("ok");
  expectOk(await person.authority.enable({ by }));
  expect(reasonOf(await person.authority.admit(question(token)))).toBe("ended:user_disabled");
});

test("who may end what: a token its own node and below, nothing beside or above", async () => {
  const person = await newPerson();
  const grant = await openFor(person, await newAgent(person));
  const left = await tokenOf(grant, { act: "left", n: "LLLLLLLLLLLL" });
  const right = await tokenOf(grant, { act: "right", n: "RRRRRRRRRRRR" });
  for (const token of [left, right]) expectOk(await person.authority.admit(question(token)));
  const end = (path: string) =>
    person.authority.revoke({
      path: path as NodePath,
      why: "revoked",
      by,
      reach: { kind: "node", token: left },
      wait: false,
      idempotency: null,
    });
  for (const path of [grant.path, right.node, `${grant.path}.LLLLLLLLLLLLx`])
    expect(reasonOf(await end(path))).toBe("not_found");
  expectOk(await end(left.node));
  expect(reasonOf(await person.authority.admit(question(left)))).toBe("ended:revoked");
  expectOk(await person.authority.admit(question(right)));
});
