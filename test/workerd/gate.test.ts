// What passes the gate: what the agent is told, what it may call, what its call costs, and how its answer streams.
import { createExecutionContext, waitOnExecutionContext } from "cloudflare:test";
import { describe, expect, test } from "vitest";
import { verifyToken } from "../../core/token/verify.ts";
import { toEpochSeconds, type EpochMs } from "../../core/ids.ts";
import { serve } from "../../worker/serve.ts";
import {
  HOST,
  bearer,
  budgetOf,
  edge,
  edgeWith,
  end,
  identityOf,
  inventAgent,
  mint,
  narrow,
  open,
  secondsFromNow,
  send,
  watched,
  withCookie,
} from "../support/workerd/gate.ts";

describe("what the agent is told", () => {
  test("who calls, on whose behalf, through whom, and what is left, signed", async () => {
    const { gate, last } = watched({ cost: { most: 40 } });
    const { token, grant, person } = await open({ budget: 1_000 });
    const narrowed = await narrow(token, { act: "helper", scope: "plan", budget: 300 as never });
    const answer = await send(gate, "/agents/seen/one/two?three=4", bearer(narrowed));
    expect([answer.status, await answer.text()]).toEqual([200, "served"]);
    expect(answer.headers.get("legate-budget")).toBe("remaining=260");
    const identity = await identityOf(last().request);
    expect(identity).toMatchObject({
      subject: person.id,
      tier: "free",
      actors: [{ sub: `${person.id}/helper`, proven: false }],
      session: grant.session,
      scope: ["plan"],
      agents: null,
      remaining: 260,
      held: 40,
      level: "strict",
      slug: "seen",
      instance: "one",
      worker: "legate-agents",
      method: "GET",
      path: "/agents/seen/one/two?three=4",
    });
    expect(identity.node).toMatch(new RegExp(`^${grant.path}\\.[A-Za-z0-9_-]{12}$`));
    expect(identity.expires).toBeLessThanOrEqual(Date.now() + 2_000);
    expect(last().object).toBe(`${person.id}.one`);
    expect(new URL(last().request.url).pathname).toBe("/agents/seen/one/two");
  });

  test("a shared instance is one for all; the default has a name", async () => {
    const { gate, last } = watched({ instances: "shared" });
    await send(gate, "/agents/seen", bearer((await open()).token));
    expect(last().object).toBe("shared.default");
  });

  test("no proof of the caller's and nothing that a client claims about itself", async () => {
    const { gate, last } = watched();
    const { token, person } = await open();
    const claims = {
      "legate-identity": "forged.forged.forged",
      "legate-delegation": token,
      "legate-cost": "0",
      "x-partykit-props": "e30",
      "x-partykit-room": "victim",
      "x-agents-lifecycle-props": "e30",
      "x-cf-agents-subagent-url": "https://legate.test/sub/a/b",
      "x-auth-user": "root",
      "cf-access-jwt-assertion": "x",
      cookie: "__Host-legate=x; other=y",
      "proxy-authorization": "Basic x",
      "sec-websocket-protocol": "legate, ticket.x",
      "x-mine": "kept",
    };
    const path = "/agents/seen?_pk=victim&kept=%20a&%5Fpk=2&__agents_transport=capnweb";
    await send(gate, path, bearer(token, claims));
    const { request, object } = last();
    const names = [...request.headers.keys()].filter((name) => name in claims || name === "authorization");
    expect(names.sort()).toEqual(["legate-identity", "x-mine"]);
    expect(new URL(request.url).search).toBe("?kept=+a");
    const identity = await identityOf(request);
    expect([identity.subject, object]).toEqual([person.id, `${person.id}.default`]);
    expect(identity.path).toBe("/agents/seen?kept=+a");
  });

  test("a query without such members is the one the client wrote", async () => {
    const { gate, last } = watched();
    await send(gate, "/agents/seen?a=%20b&c=%2B", bearer((await open()).token));
    expect(new URL(last().request.url).search).toBe("?a=%20b&c=%2B");
  });

  test("the caller's trace if it is one, else a new one", async () => {
    const { gate, last } = watched();
    const { token } = await open();
    const trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    await send(gate, "/agents/seen", bearer(token, { traceparent: trace, tracestate: "a=b" }));
    expect(last().request.headers.get("traceparent")).toBe(trace);
    expect(last().request.headers.get("tracestate")).toBe("a=b");
    for (const bad of ["", "00-00000000000000000000000000000000-b7ad6b7169203331-01", `${trace}-x`, "ff-x"]) {
      await send(gate, "/agents/seen", bearer(token, { traceparent: bad, tracestate: "a=b" }));
      expect(last().request.headers.get("traceparent")).toMatch(/^00-[0-9a-f]{32}-[0-9a-f]{16}-00$/);
      expect(last().request.headers.get("tracestate")).toBeNull();
    }
  });

  test("a person in person, by cookie", async () => {
    const { gate, last } = watched();
    const { cookie, person } = await open();
    const answer = await send(gate, "/agents/seen", { method: "POST", body: "hello", ...withCookie(cookie) });
    expect(answer.status).toBe(200);
    expect(await identityOf(last().request)).toMatchObject({ subject: person.id, actors: [], method: "POST" });
    expect(await last().request.text()).toBe("hello");
  });
});

describe("Legate-Delegation", () => {
  const verify = async (request: Request) => {
    const text = request.headers.get("legate-delegation");
    if (text === null) return null;
    const verified = await verifyToken(text, edge.sessionKey.verifier, toEpochSeconds(edge.now()));
    if (!verified.ok) throw new Error(verified.denial.reason);
    return verified.value;
  };

  test("user -> helper -> the agent: proven by the gate, the meet of the chain, one node per entry", async () => {
    const { gate, last } = watched({ calls: ["other", "seen"] });
    const { token, person } = await open();
    const narrowed = await narrow(token, { act: "helper", agents: ["seen", "other", "third"], scope: "plan" });
    await send(gate, "/agents/seen", bearer(narrowed));
    const first = await verify(last().request);
    const { node } = await identityOf(last().request);
    expect(first).toMatchObject({
      subject: person.id,
      clientId: `${edge.issuer}/agents/seen`,
      grant: `${node}.~seen`,
      node: `${node}.~seen`,
      actors: [
        { sub: `${person.id}/helper`, proven: false },
        { sub: `${edge.issuer}/agents/seen`, proven: true },
      ],
      tier: "free",
    });
    expect([...(first?.scope ?? [])]).toEqual(["plan"]);
    expect([...(first?.agents ?? [])]).toEqual(["other", "seen"]);
    expect((first?.exp ?? 0) - toEpochSeconds(edge.now())).toBeLessThanOrEqual(300);
    await send(gate, "/agents/seen", bearer(narrowed));
    expect((await verify(last().request))?.node).toBe(first?.node);
  });

  test("with it the agent calls on, and the object knows the whole chain", async () => {
    const { gate, last } = watched({ calls: ["seen"] });
    const given = await open({ budget: 100 });
    await send(gate, "/agents/seen", bearer(given.token));
    const delegation = last().request.headers.get("legate-delegation") as string;
    const answer = await send(gate, "/agents/seen/inner", bearer(delegation));
    expect(answer.status).toBe(200);
    expect((await identityOf(last().request)).node).toBe(`${given.grant.path}.~seen`);
    await end(given);
    expect((await send(gate, "/agents/seen/inner", bearer(delegation))).status).toBe(401);
  });

  test("the next agent gets of its own `calls` what every link allows: an entry lists what is reached from it", async () => {
    const seen = new Map<string, Request>();
    const serveAs = (slug: string) => ({ serve: (request: Request) => (seen.set(slug, request), new Response("ok")) });
    const gateOf = (calls: string[]) =>
      edgeWith({
        first: { entry: { calls }, ...serveAs("first") },
        second: { entry: { calls: ["third"] }, ...serveAs("second") },
        third: serveAs("third"),
      });
    const { token, person } = await open();
    const delegationOf = (slug: string) => seen.get(slug)?.headers.get("legate-delegation") ?? "";
    const short = gateOf(["second"]);
    await send(short, "/agents/first", bearer(token));
    expect((await send(short, "/agents/second", bearer(delegationOf("first")))).status).toBe(200);
    expect(delegationOf("second")).toBe("");
    const early = await send(short, "/agents/third", bearer(delegationOf("first")));
    expect([early.status, (await early.json<{ code: string }>()).code]).toEqual([403, "agent_not_allowed"]);
    const gate = gateOf(["second", "third"]);
    await send(gate, "/agents/first", bearer(token));
    await send(gate, "/agents/second", bearer(delegationOf("first")));
    expect((await send(gate, "/agents/third", bearer(delegationOf("second")))).status).toBe(200);
    expect((await identityOf(seen.get("third") as Request)).actors.map(({ sub }) => sub)).toEqual([
      `${edge.issuer}/agents/first`,
      `${edge.issuer}/agents/second`,
    ]);
    const less = await narrow(token, { agents: ["first", "second"] });
    await send(gate, "/agents/first", bearer(less));
    await send(gate, "/agents/second", bearer(delegationOf("first")));
    expect(delegationOf("second")).toBe("");
    expect(person.id).toBe((await identityOf(seen.get("second") as Request)).subject);
  });

  test("never longer than the caller's token", async () => {
    const { gate, last } = watched({ calls: ["other"] });
    const exp = secondsFromNow(20);
    await send(gate, "/agents/seen", bearer(await narrow((await open()).token, { exp: exp as never })));
    expect((await verify(last().request))?.exp).toBe(exp);
  });

  test("none where the entry calls nobody, the chain reaches nobody, or it is as long as chains get", async () => {
    const calls = watched({ calls: ["other"] });
    const nobody = watched();
    const { token, grant, person } = await open();
    await send(nobody.gate, "/agents/seen", bearer(token));
    expect(await verify(nobody.last().request)).toBeNull();
    await send(calls.gate, "/agents/seen", bearer(await narrow(token, { agents: ["seen"] })));
    expect(await verify(calls.last().request)).toBeNull();
    const actors = Array.from({ length: 8 }, () => ({ sub: inventAgent(person.id), proven: true }));
    await send(calls.gate, "/agents/seen", bearer(await mint(grant, { actors: actors.slice(1) })));
    expect((await verify(calls.last().request))?.actors).toHaveLength(8);
    await send(calls.gate, "/agents/seen", bearer(await mint(grant, { actors })));
    expect(await verify(calls.last().request)).toBeNull();
  });
});

describe("what a call costs", () => {
  // what the agent says in Legate-Cost, and what is charged of the 100 held
  test.each([
    ["0", 0],
    ["40", 40],
    ["100", 100],
    [null, 100],
    ["101", 100],
    ["-1", 100],
    ["-0", 100],
    ["1.5", 100],
    ["1e1", 100],
    ["0x1", 100],
    ["NaN", 100],
    [" 5", 5],
    ["5, 5", 100],
    ["007", 100],
    ["9007199254740993", 100],
    ["", 100],
  ])("%j: %i", async (said, charged) => {
    const answer = () => new Response("x", said === null ? {} : { headers: { "legate-cost": said } });
    const { gate } = watched({ cost: { most: 100 } }, answer);
    const given = await open({ budget: 1_000 });
    const events: string[][] = [];
    const ctx = createExecutionContext();
    const watching = {
      ...gate,
      event: (kind: string, detail: readonly string[]) => void events.push([kind, ...detail]),
    };
    const seen = await serve(new Request(`${HOST}/agents/seen`, bearer(given.token)), watching, ctx);
    expect(seen.headers.get("legate-cost")).toBeNull();
    await seen.text();
    await waitOnExecutionContext(ctx);
    expect(await budgetOf(given)).toEqual({ settled: charged, held: 0 });
    const isHostile = said !== null && charged === 100 && said !== "100";
    expect(events.map(([kind]) => kind)).toEqual(isHostile ? ["cost_refused"] : []);
  });

  test("a call that was not forwarded costs nothing", async () => {
    const { gate, seen } = watched({ cost: { most: 100 } });
    const given = await open();
    const late = { ...gate, identityKeys: new Map() };
    expect((await send(late, "/agents/seen", bearer(given.token))).status).toBe(500);
    let now: number = edge.now();
    const slow = { ...gate, now: () => (now += 1_500) as EpochMs };
    const answer = await send(slow, "/agents/seen", bearer(given.token));
    expect([answer.status, (await answer.json<{ code: string }>()).code]).toEqual([503, "authority_unavailable"]);
    expect(seen).toEqual([]);
    expect(await budgetOf(given)).toEqual({ settled: 0, held: 0 });
  });

  test("a server error is charged like any call, and says nothing of itself", async () => {
    const stack = "Error: boom\n    at Planner.onRequest (/src/planner.ts:42)";
    const { gate } = watched(
      { cost: { most: 100 } },
      () => new Response(stack, { status: 502, headers: { "legate-cost": "7" } }),
    );
    const given = await open();
    const answer = await send(gate, "/agents/seen", bearer(given.token));
    expect(answer.status).toBe(502);
    expect(await answer.json()).toEqual({
      success: false,
      error: "The agent failed.",
      code: "agent_failed",
      agent: "seen",
    });
    expect(await budgetOf(given)).toEqual({ settled: 7, held: 0 });
  });
});
