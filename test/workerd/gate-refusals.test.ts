// The gate's refusals as a table: who knocks, at what, and what comes back, over HTTP and as an upgrade. Whatever is
// refused reaches no agent and leaves nothing held or charged.
import { describe, expect, test } from "vitest";
import {
  HOST,
  UPGRADE,
  bearer,
  budgetOf,
  closed,
  edge,
  edgeWith,
  end,
  enrol,
  inventAgent,
  mint,
  narrow,
  open,
  secondsFromNow,
  send,
  withCookie,
  type Opened,
} from "../support/workerd/gate.ts";
import type { Edge } from "../../worker/env.ts";
import { err } from "../../core/result.ts";

let reached = 0;
const serve = () => {
  reached++;
  return new Response("served");
};
const all = { transport: "websocket", cost: { most: 100 } } as const;
const gate = edgeWith({
  open: { entry: all, serve },
  pro: { entry: { ...all, requiredTier: "pro" }, serve },
  planned: { entry: { ...all, requiredScopes: ["plan"] }, serve },
  caller: { entry: all, serve },
  inner: { entry: { ...all, actors: { allow: ["~caller"] } }, serve },
  own: { entry: { ...all, actors: { allow: "own" } }, serve },
  proven: { entry: { ...all, actors: { unproven: false } }, serve },
  off: { entry: { ...all, enabled: false }, serve },
  unbound: { entry: all, serve: null },
  broken: {
    entry: all,
    serve: () => {
      throw new Error("at /secret/place.ts:1");
    },
  },
  plain: { entry: { transport: "http" }, serve },
});
const unreachable: Edge = { ...gate, ask: async () => err({ reason: "authority_unavailable" }) };

type Knock = (given: Opened) => Promise<{ path?: string; init?: RequestInit; at?: Edge }>;
type Outcome = readonly [status: number, code: string];
const BOTH = ["HTTP", "upgrade"] as const;

async function knock(how: (typeof BOTH)[number], given: Opened, row: Knock) {
  const { path = "/agents/open/default", init = {}, at = gate } = await row(given);
  const headers = new Headers(init.headers);
  if (how === "upgrade") headers.set("upgrade", "websocket");
  return send(at, path, { ...init, headers });
}

async function expectNothingDone(given: Opened, before: number) {
  expect(reached).toBe(before);
  expect(await budgetOf(given)).toEqual({ settled: 0, held: 0 });
}

/** Refused with the same status and code in both ways of calling. */
const REFUSED: readonly (readonly [string, Outcome, Knock])[] = [
  ["no credentials", [401, "credentials_missing"], async () => ({})],
  ["another scheme", [401, "invalid_token"], async () => ({ init: { headers: { authorization: "Basic YTpi" } } })],
  ["no token of ours", [401, "invalid_token"], async () => ({ init: bearer("a.b.c") })],
  [
    "a token with one character changed",
    [401, "invalid_token"],
    async ({ token }) => ({ init: bearer(`${token.slice(0, -1)}${token.endsWith("A") ? "B" : "A"}`) }),
  ],
  [
    "two tokens",
    [401, "invalid_token"],
    async ({ token }) => ({ init: { headers: { authorization: `Bearer ${token}, Bearer ${token}` } } }),
  ],
  [
    "a token in the query",
    [401, "credentials_missing"],
    async ({ token }) => ({ path: `/agents/open?token=${token}` }),
  ],
  ["a cookie as a Bearer", [401, "invalid_token"], async ({ cookie }) => ({ init: bearer(cookie) })],
  ["a token as a cookie", [401, "invalid_token"], async ({ token }) => ({ init: withCookie(token) })],
  [
    "two cookies",
    [401, "invalid_token"],
    async ({ cookie }) => ({
      init: { headers: { cookie: `__Host-legate=${cookie}; __Host-legate=x`, "sec-fetch-site": "same-origin" } },
    }),
  ],
  [
    "a bad Bearer beside a good cookie",
    [401, "invalid_token"],
    async ({ cookie }) => ({ init: withCookie(cookie, { authorization: "Bearer a.b.c" }) }),
  ],
  [
    "a delegation that is not redeemed",
    [401, "delegation_not_redeemed"],
    async ({ token, person }) => ({ init: bearer(await narrow(token, { for: inventAgent(person.id) })) }),
  ],
  [
    "a thief who appends to a named delegation",
    [401, "invalid_token"],
    async ({ token, person }) => {
      const named = await narrow(token, { for: inventAgent(person.id) });
      return { init: bearer(await narrow(named, { act: "thief" })) };
    },
  ],
  [
    "a grant that was never opened",
    [401, "invalid_token"],
    async ({ grant }) => ({ init: bearer(await mint({ ...grant, path: `${grant.path}.AAAAAAAAAAAA` as never })) }),
  ],
  [
    "a cookie without a word of its page",
    [403, "origin_not_allowed"],
    async ({ cookie }) => ({ init: { headers: { cookie: `__Host-legate=${cookie}` } } }),
  ],
  [
    "a cookie sent by a foreign page",
    [403, "origin_not_allowed"],
    async ({ cookie }) => ({
      init: withCookie(cookie, { origin: "https://evil.test", "sec-fetch-site": "cross-site" }),
    }),
  ],
  [
    "a cookie sent by a sandboxed page",
    [403, "origin_not_allowed"],
    async ({ cookie }) => ({ init: withCookie(cookie, { origin: "null" }) }),
  ],
  ["a tier too low", [403, "tier_required"], async ({ token }) => ({ path: "/agents/pro", init: bearer(token) })],
  [
    "a tier that only the token has",
    [403, "tier_required"],
    async ({ grant }) => ({ path: "/agents/pro", init: bearer(await mint(grant, { tier: "pro" })) }),
  ],
  [
    "a scope that was narrowed away",
    [403, "insufficient_scope"],
    async ({ token }) => ({ path: "/agents/planned", init: bearer(await narrow(token, { scope: "research" })) }),
  ],
  [
    "an agent that was narrowed away",
    [403, "agent_not_allowed"],
    async ({ token }) => ({ init: bearer(await narrow(token, { agents: ["pro"] })) }),
  ],
  [
    "an actor not named",
    [403, "actor_not_allowed"],
    async ({ token }) => ({ path: "/agents/inner", init: bearer(token) }),
  ],
  [
    "another user's agent where only own ones may",
    [403, "actor_not_allowed"],
    async ({ grant }) => {
      const foreign = inventAgent((await enrol()).id);
      return { path: "/agents/own", init: bearer(await mint(grant, { actors: [{ sub: foreign, proven: true }] })) };
    },
  ],
  [
    "an unproven actor where only proven ones may",
    [403, "actor_not_allowed"],
    async ({ token }) => ({ path: "/agents/proven", init: bearer(await narrow(token, { act: "helper" })) }),
  ],
  [
    "an unknown agent",
    [404, "not_found"],
    async ({ token }) => ({ path: "/agents/nobody/default", init: bearer(token) }),
  ],
  ["an unknown agent, anonymously", [404, "not_found"], async () => ({ path: "/agents/nobody/default" })],
  ["no agent", [404, "not_found"], async ({ token }) => ({ path: "/agents/", init: bearer(token) })],
  ["another case", [404, "not_found"], async ({ token }) => ({ path: "/agents/Open", init: bearer(token) })],
  ["an escaped slug", [404, "not_found"], async ({ token }) => ({ path: "/agents/op%65n", init: bearer(token) })],
  ["an empty instance", [404, "not_found"], async ({ token }) => ({ path: "/agents/open/", init: bearer(token) })],
  [
    "an instance with a dot",
    [404, "not_found"],
    async ({ token }) => ({ path: "/agents/open/a.b", init: bearer(token) }),
  ],
  ["a sub-agent", [404, "not_found"], async ({ token }) => ({ path: "/agents/open/a/sub/x/y", init: bearer(token) })],
  [
    "a sub-agent further down",
    [404, "not_found"],
    async ({ token }) => ({ path: "/agents/open/a/b//sub/x/y", init: bearer(token) }),
  ],
  [
    "a sub-agent in place of an instance",
    [404, "not_found"],
    async ({ token }) => ({ path: "/agents/open/sub/x/y", init: bearer(token) }),
  ],
  [
    "an agent that is switched off",
    [503, "agent_unavailable"],
    async ({ token }) => ({ path: "/agents/off", init: bearer(token) }),
  ],
  [
    "an agent without its binding",
    [503, "agent_unavailable"],
    async ({ token }) => ({ path: "/agents/unbound", init: bearer(token) }),
  ],
  [
    "an authority out of reach",
    [503, "authority_unavailable"],
    async ({ token }) => ({ at: unreachable, init: bearer(token) }),
  ],
];

describe.each(BOTH)("refused over %s", (how) => {
  test.each(REFUSED)("%s: %j", async (_, [status, code], row) => {
    const given = await open();
    const before = reached;
    const answer = await knock(how, given, row);
    const body = await answer.json<Record<string, unknown>>();
    expect([answer.status, body["code"]]).toEqual([status, code]);
    expect(body["success"]).toBe(false);
    expect(answer.webSocket).toBeNull();
    expect(answer.headers.get("x-content-type-options")).toBe("nosniff");
    await expectNothingDone(given, before);
  });
});

test.each(["HEAD", "PUT", "PATCH", "DELETE", "PROPFIND"])("%s is no way to call an agent", async (method) => {
  const { token } = await open();
  const answer = await send(gate, "/agents/open", { method, ...bearer(token) });
  expect(answer.status).toBe(405);
  expect(answer.headers.get("allow")).toBe("GET, POST");
});

test("the order of refusals: an unknown agent before its method, the method before the caller", async () => {
  expect((await send(gate, "/agents/nobody", { method: "DELETE" })).status).toBe(404);
  expect((await send(gate, "/agents/open", { method: "DELETE" })).status).toBe(405);
});

test("unknown, foreign and missing agents are told apart by nothing", async () => {
  const { token } = await open();
  const answers = await Promise.all(
    ["/agents/nobody", "/agents/nobody/other", "/agents/open/a.b"].map((path) => send(gate, path, bearer(token))),
  );
  const seen = await Promise.all(answers.map(async (a) => [a.status, Object.fromEntries(a.headers), await a.text()]));
  expect(seen[1]).toEqual(seen[0]);
  expect(seen[2]?.[2]).toEqual(seen[0]?.[2]);
});

describe("over: what a session that has ended is told", () => {
  // what is over, HTTP status and code, close code and word
  const OVER: readonly (readonly [string, Outcome, readonly [number, string], Knock])[] = [
    [
      "the token has expired",
      [401, "token_expired"],
      [4401, "token_expired"],
      async ({ grant }) => ({
        init: bearer(await mint(grant, { iat: secondsFromNow(-60), exp: secondsFromNow(-1) })),
      }),
    ],
    [
      "the session has ended",
      [401, "session_ended"],
      [4403, "session_ended"],
      async (given) => {
        await end(given);
        return { init: bearer(given.token) };
      },
    ],
    [
      "the session above a sub-agent's has ended",
      [401, "session_ended"],
      [4403, "session_ended"],
      async (given) => {
        await end(given);
        return { init: bearer(await narrow(given.token, { act: "helper" })) };
      },
    ],
    [
      "the user is disabled",
      [401, "session_ended"],
      [4403, "session_ended"],
      async ({ person, token }) => {
        await edge.ask(person.id, (authority) => authority.disable({ by: person.by, wait: false }));
        return { init: bearer(token) };
      },
    ],
    [
      "the budget does not cover the call",
      [402, "budget_exhausted"],
      [4402, "budget_exhausted"],
      async ({ token }) => ({ init: bearer(await narrow(token, { budget: 99 as never })) }),
    ],
  ];

  test.each(OVER)("%s, over HTTP: %j", async (_, [status, code], _close, row) => {
    const given = await open();
    const before = reached;
    const answer = await knock("HTTP", given, row);
    expect([answer.status, (await answer.json<{ code: string }>()).code]).toEqual([status, code]);
    if (status === 402) expect(answer.headers.get("retry-after")).toBeNull();
    expect(reached).toBe(before);
  });

  test.each(OVER)("%s, at a socket: accepted and closed", async (_, _outcome, [code, word], row) => {
    const before = reached;
    const answer = await knock("upgrade", await open(), async (given) => {
      const { init, ...rest } = await row(given);
      const headers = new Headers(init?.headers);
      headers.set("sec-websocket-protocol", "legate, chat");
      return { ...rest, init: { headers } };
    });
    expect(answer.status).toBe(101);
    expect(answer.headers.get("sec-websocket-protocol")).toBe("legate");
    const close = await closed(answer.webSocket as WebSocket);
    expect(close.code).toBe(code);
    expect(close.reason.startsWith(word)).toBe(true);
    expect(reached).toBe(before);
  });

  test("a foreign page learns nothing of it", async () => {
    const given = await open();
    const expired = await mint(given.grant, { iat: secondsFromNow(-60), exp: secondsFromNow(-1) });
    const answer = await send(gate, "/agents/open", bearer(expired, { ...UPGRADE, origin: "https://evil.test" }));
    expect(answer.status).toBe(403);
  });
});

test("a foreign page opens no socket, whatever token it has", async () => {
  const { token } = await open();
  const answer = await send(gate, "/agents/open", bearer(token, { ...UPGRADE, origin: "https://evil.test" }));
  expect(answer.status).toBe(403);
  expect(answer.webSocket).toBeNull();
});

test("an agent out of reach: 503, and all that was held is charged, for it may have served", async () => {
  for (const headers of [{}, UPGRADE]) {
    const given = await open();
    const answer = await send(gate, "/agents/broken", bearer(given.token, headers));
    expect(answer.status).toBe(503);
    expect(answer.headers.get("retry-after")).toBe("1");
    expect(await answer.text()).not.toContain("secret");
    expect(await budgetOf(given)).toEqual({ settled: 100, held: 0 });
  }
});

test("a transport that the entry does not offer, in words", async () => {
  const { token } = await open();
  const answer = await send(gate, "/agents/plain", bearer(token, UPGRADE));
  expect(answer.status).toBe(400);
  expect(await answer.json()).toEqual({
    success: false,
    code: "invalid_request",
    error: "The agent plain takes no WebSockets; call it over HTTP.",
  });
  const posted = await send(gate, "/agents/open", { method: "POST", ...bearer(token, UPGRADE) });
  expect(posted.status).toBe(400);
  const other = await send(gate, "/agents/open", bearer(token, { upgrade: "h2c" }));
  expect(other.status).toBe(400);
});

test("a 401 says how to be let in, a 403 which scope", async () => {
  const metadata = `resource_metadata="${edge.issuer}/.well-known/oauth-protected-resource/agents/planned"`;
  const anonymous = await send(gate, "/agents/planned");
  expect(anonymous.headers.get("www-authenticate")).toBe(`Bearer ${metadata}`);
  const invalid = await send(gate, "/agents/planned", bearer("a.b.c"));
  expect(invalid.headers.get("www-authenticate")).toBe(`Bearer error="invalid_token", ${metadata}`);
  const { token } = await open();
  const narrowed = await send(gate, "/agents/planned", bearer(await narrow(token, { scope: "" })));
  expect(narrowed.headers.get("www-authenticate")).toBe(`Bearer error="insufficient_scope", scope="plan", ${metadata}`);
});

test("a body over 1 MiB, with its length and without", async () => {
  const { token } = await open();
  const length = { "content-length": "1048577" };
  const told = await send(gate, "/agents/open", { method: "POST", body: "x", ...bearer(token, length) });
  expect(told.status).toBe(413);
  const eager = edgeWith({ open: { serve: async (request) => new Response(String((await request.bytes()).length)) } });
  const stream = (size: number) =>
    new ReadableStream({
      start(controller) {
        controller.enqueue(new Uint8Array(size));
        controller.close();
      },
    });
  const fits = await send(eager, "/agents/open", { method: "POST", body: stream(1_048_576), ...bearer(token) });
  expect([fits.status, await fits.text()]).toEqual([200, "1048576"]);
  const over = await send(eager, "/agents/open", { method: "POST", body: stream(1_048_577), ...bearer(token) });
  expect([over.status, (await over.json<{ code: string }>()).code]).toEqual([413, "body_too_large"]);
  const unmoved = edgeWith({
    open: {
      serve: async (request) =>
        request.text().then(
          () => new Response("all of it"),
          () => new Response("half"),
        ),
    },
  });
  const half = await send(unmoved, "/agents/open", { method: "POST", body: stream(1_048_577), ...bearer(token) });
  expect(half.status).toBe(413);
});

test("nothing but the gate answers under /agents", async () => {
  for (const path of ["/agents", "/agents?x", "//agents/open", "/agents%2Fopen"])
    expect((await send(gate, new URL(`${HOST}${path}`).href)).status).toBe(404);
});
