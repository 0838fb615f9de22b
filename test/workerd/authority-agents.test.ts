// Agents: assertions are used once, stop counts make racing starts dead on arrival, and a stop reaches other people's
// objects. Delegation: who may redeem, narrow and renew, and that nothing outlives or exceeds what it came from.
import { describe, expect, test } from "vitest";
import { env } from "cloudflare:workers";
import type { EpochSeconds, Micros, NodePath } from "../../core/ids.ts";
import {
  authenticate,
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
  type TestAgent,
  redeem,
} from "../support/workerd/authority.ts";
import type { GrantView } from "../../core/wire/answers.ts";

const seconds = (): number => Math.floor(now() / 1000);

test("50 racing uses of one assertion: one wins", async () => {
  const person = await newPerson();
  const agent = await newAgent(person);
  const assertion = await agent.assertion();
  const answers = await Promise.all(Array.from({ length: 50 }, () => authenticate(person, agent, assertion)));
  expect(answers.filter(({ ok }) => ok)).toHaveLength(1);
  expect(new Set(answers.filter(({ ok }) => !ok).map(reasonOf))).toEqual(new Set(["client_invalid:replayed"]));
});

test.each([
  ["another audience", { aud: "https://elsewhere.example" }],
  ["two audiences", { aud: [env.LEGATE_ISSUER, "https://elsewhere.example"] }],
  ["another issuer", { iss: "agt_someone" }],
  ["another subject", { sub: "agt_someone" }],
  ["a life of ten minutes", { exp: seconds() + 600 }],
  ["expired beyond the skew", { exp: seconds() - 40, iat: seconds() - 60 }],
  ["issued in the future", { iat: seconds() + 300, exp: seconds() + 340 }],
  ["no jti", { jti: undefined }],
  ["an empty jti", { jti: "" }],
  ["a jti of a kilobyte", { jti: "x".repeat(1_024) }],
])("an assertion with %s is refused", async (_, over) => {
  const person = await newPerson();
  const agent = await newAgent(person);
  expect(reasonOf(await authenticate(person, agent, await agent.assertion(over)))).toBe("client_invalid:assertion");
});

test("another agent's key does not speak for this one", async () => {
  const person = await newPerson();
  const [agent, other] = [await newAgent(person), await newAgent(person)];
  const forged = await other.assertion({ iss: agent.id, sub: agent.id });
  expect(reasonOf(await authenticate(person, agent, forged))).toBe("client_invalid:assertion");
  expect(reasonOf(await authenticate(person, agent, "not.a.jwt"))).toBe("client_invalid:assertion");
});

test("an agent without a cap opens no session; with one, asked ∩ registered ∩ tier", async () => {
  const person = await newPerson("pro");
  const bare = await newAgent(person, { cap: null });
  const opening = {
    kind: "agent",
    enrolment: null,
    scope: null,
    agents: null,
    budget: null,
    ttlSeconds: null,
    origin: { ip: null, userAgent: null },
    cookie: null,
    by,
    idempotency: null,
  } as const;
  expect(reasonOf(await person.authority.open({ ...opening, client: { id: bare.id, stopCount: 0 } }))).toBe(
    "agent_without_budget",
  );
  const agent = await newAgent(person, { scope: ["plan", "catalog:write"] });
  const client = { id: agent.id, stopCount: 0 };
  expectOk(await person.authority.setTier("free", by)); // what was registered above it counts no more
  expect(expectOk(await person.authority.open({ ...opening, client })).scope).toEqual(["plan"]);
  expect(reasonOf(await person.authority.open({ ...opening, client, scope: ["catalog:write"] }))).toBe("scope_invalid");
  expect(reasonOf(await person.authority.open({ ...opening, client, scope: ["operator"] }))).toBe("scope_invalid");
});

test("a session's cap is the least of what is asked, the agent's and the user's", async () => {
  const person = await newPerson();
  const agent = await newAgent(person, { cap: 700 });
  expect((await openFor(person, agent)).cap).toBe(700);
  expect((await openFor(person, agent, { budget: 300 as Micros })).cap).toBe(300);
  expect((await openFor(person, agent, { budget: 9_000 as Micros })).cap).toBe(700);
});

describe("delegation", () => {
  async function scene(): Promise<{
    alice: Person;
    bob: Person;
    planner: TestAgent;
    searcher: TestAgent;
    grant: GrantView;
  }> {
    const [alice, bob] = [await newPerson(), await newPerson()];
    const [planner, searcher] = [await newAgent(alice), await newAgent(bob)];
    return { alice, bob, planner, searcher, grant: await openFor(alice, planner, { ttlSeconds: 1_000 }) };
  }

  test("alice -> planner -> searcher[research]: the chain is proven, the rights are the meet", async () => {
    const { alice, searcher, planner, grant } = await scene();
    const token = await tokenOf(grant, { scope: "research", for: searcher.id });
    const redeemed = expectOk(await redeem(alice, searcher, token));
    expect(redeemed.actors).toEqual([planner, searcher].map(({ id }) => ({ sub: id, proven: true })));
    expect(redeemed.scope).toEqual(["research"]);
    expect(redeemed.expires).toBe(grant.expires);
    expectOk(await alice.authority.admit(question(await tokenOf(redeemed))));
  });

  test("only the agent that it is for redeems it, once narrowed it stays narrow, and it ends with its caveats", async () => {
    const { alice, bob, searcher, planner, grant } = await scene();
    const exp = (seconds() + 120) as EpochSeconds;
    const token = await tokenOf(grant, { scope: "research", exp, agents: ["catalog"], for: searcher.id });
    expect(reasonOf(await redeem(alice, planner, token))).toBe("grant_invalid:not_yours");
    expect(reasonOf(await redeem(bob, searcher, token))).toBe("token_invalid:unknown_node");
    expect(reasonOf(await redeem(alice, searcher, token, { scope: ["plan"] }))).toBe("scope_invalid");
    expect(reasonOf(await redeem(alice, searcher, token, { agents: ["planner"] }))).toBe("target_invalid");
    const redeemed = expectOk(await redeem(alice, searcher, token));
    expect(redeemed).toMatchObject({ expires: exp, agents: ["catalog"] });
  });

  test("a redeemed grant dies with its parent, and with the node that it hangs from", async () => {
    const { alice, searcher, grant } = await scene();
    const redeemed = expectOk(
      await redeem(alice, searcher, await tokenOf(grant, { for: searcher.id, n: "NNNNNNNNNNNN" })),
    );
    const below = await tokenOf(redeemed, { act: "helper" });
    expectOk(await alice.authority.admit(question(below)));
    const path = `${grant.path}.NNNNNNNNNNNN` as NodePath;
    expectOk(
      await alice.authority.revoke({
        path,
        why: "revoked",
        by,
        reach: { kind: "person", cookie: null },
        wait: false,
        idempotency: null,
      }),
    );
    expect(reasonOf(await alice.authority.admit(question(below)))).toBe("ended:revoked");
    expect(
      reasonOf(
        await alice.authority.renew({ token: await tokenOf(redeemed), client: { id: searcher.id, stopCount: 0 } }),
      ),
    ).toBe("ended:revoked");
  });

  test("renewing takes the grant's own client", async () => {
    const { alice, planner, searcher, grant } = await scene();
    expectOk(await alice.authority.renew({ token: await tokenOf(grant), client: { id: planner.id, stopCount: 0 } }));
    expect(
      reasonOf(await alice.authority.renew({ token: await tokenOf(grant), client: { id: searcher.id, stopCount: 0 } })),
    ).toBe("grant_invalid:not_yours");
    expect(
      reasonOf(
        await alice.authority.renew({
          token: await tokenOf(grant, { scope: "plan" }),
          client: { id: planner.id, stopCount: 0 },
        }),
      ),
    ).toBe("grant_invalid:not_yours");
  });

  test("a stop at the agent's owner ends what it redeemed at others, and a start that races it is dead on arrival", async () => {
    const { alice, bob, searcher, grant } = await scene();
    const before = expectOk(await authenticate(bob, searcher, await searcher.assertion(), alice.id));
    const redeemed = expectOk(await redeem(alice, searcher, await tokenOf(grant, { for: searcher.id })));
    const token = await tokenOf(redeemed);
    expectOk(await alice.authority.admit(question(token)));
    // Its call may still be served for a moment: Alice is asked again until that is over.
    expect(expectOk(await bob.authority.stopAgent(searcher.id, by)).pendingUsers).toBe(1);
    expect(reasonOf(await alice.authority.admit(question(token)))).toBe("ended:agent_stopped");
    expectOk(await alice.authority.admit(question(await tokenOf(grant))));
    const again = { client: { id: searcher.id, stopCount: before.stopCount } };
    expect(reasonOf(await redeem(alice, searcher, await tokenOf(grant, { for: searcher.id }), again))).toBe(
      "client_invalid:stopped",
    );
    const after = expectOk(await authenticate(bob, searcher, await searcher.assertion(), alice.id));
    expectOk(
      await redeem(alice, searcher, await tokenOf(grant, { for: searcher.id }), {
        client: { id: searcher.id, stopCount: after.stopCount },
      }),
    );
  });

  test("a removed agent is gone for good", async () => {
    const { bob, searcher } = await scene();
    const session = await openFor(bob, searcher);
    expectOk(await bob.authority.removeAgent(searcher.id, by));
    expect(reasonOf(await authenticate(bob, searcher, await searcher.assertion()))).toBe(
      "client_invalid:unknown_client",
    );
    expect(reasonOf(await bob.authority.admit(question(await tokenOf(session))))).toBe("ended:agent_deleted");
    expect(reasonOf(await bob.authority.agent(searcher.id))).toBe("not_found");
  });
});

test("an Idempotency-Key tells the same effect again, and refuses other arguments", async () => {
  const person = await newPerson();
  const idempotency = { scope: "person POST /sessions", key: "k1", digest: "d1" };
  const first = await open(person, { idempotency });
  expect((await open(person, { idempotency })).path).toBe(first.path);
  const other = await person.authority.open({
    kind: "api",
    enrolment: null,
    client: null,
    scope: null,
    agents: null,
    budget: null,
    ttlSeconds: null,
    origin: { ip: null, userAgent: null },
    cookie: null,
    by,
    idempotency: { ...idempotency, digest: "d2" },
  });
  expect(reasonOf(other)).toBe("idempotency_conflict");
});
