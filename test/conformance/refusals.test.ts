// The gate's refusals over real HTTP and as upgrades, and the operators' routes: who knocks, at what, and what comes back.
// A variant of the deployment has what the table needs: more entries, and an agents' Worker in which nothing works.
import { DatabaseSync } from "node:sqlite";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import type { LegateConfigInput } from "../../core/config.ts";
import { input } from "../../legate.config.ts";
import type { AgentSession } from "../../sdk/client.ts";
import { Deployment } from "../support/conformance/deployment.ts";
import { expectRefusal, knock, WAYS } from "../support/conformance/knock.ts";
import { Member, type RegisteredAgent } from "../support/conformance/people.ts";
import { Variant } from "../support/conformance/variant.ts";
import { Wire, type WireAnswer } from "../support/conformance/wire.ts";
import { TestSocket } from "../support/socket.ts";

const extra = {
  worker: "legate-agents",
  requiredTier: "free",
  cost: { most: 100 },
  description: "Of this table.",
} as const;
/** The example, and entries that no Worker is bound for: what refuses them must come before that. */
const variantInput: LegateConfigInput = {
  ...input,
  agents: [
    ...input.agents,
    { ...extra, slug: "elevated", binding: "ELEVATED", name: "Elevated", requiredTier: "admin" },
    { ...extra, slug: "inner", binding: "INNER", name: "Inner", actors: { allow: ["~planner"] } },
    { ...extra, slug: "proven", binding: "PROVEN", name: "Proven", actors: { unproven: false } },
    { ...extra, slug: "off", binding: "OFF", name: "Off", enabled: false },
    { ...extra, slug: "unbound", binding: "UNBOUND", name: "Unbound" },
  ],
};

let variant: Variant;
let wire: Wire;
let member: Member;
let agent: RegisteredAgent;
let session: AgentSession;
let ended: string;
/** What sign-in and sign-up said while D1 had no tables. */
let withoutTables: WireAnswer[];

beforeAll(async () => {
  variant = await Variant.start({ input: variantInput, agents: "test/support/conformance/broken-agents.ts" });
  wire = new Wire(variant.url, 4);
  const headers = { "content-type": "application/json" };
  const body = JSON.stringify({ username: "somebody", password: "a lantern over the harbour" });
  withoutTables = await wire.sendAll(
    ["/auth/login", "/auth/register"].map((path) => ({ method: "POST", path, headers, body })),
  );
  await variant.migrate();
  member = await Member.signUp(variant.url);
  agent = await member.registerAgent();
  session = await agent.open();
  const over = await agent.open();
  ended = await over.token();
  await over.end();
});
afterAll(async () => {
  wire.close();
  await variant.end();
});

const bearer = async (token: string | Promise<string>) => ({ authorization: `Bearer ${await token}` });
const narrowed = async (narrowing: Parameters<AgentSession["spawn"]>[1]) =>
  bearer(await (await session.spawn("helper", narrowing)).token());
const RESEARCHER = "/agents/researcher/default/lookup";

type Row = readonly [
  what: string,
  status: number,
  code: string,
  path: string,
  headers: () => Promise<Record<string, string>>,
];

const ROWS: readonly Row[] = [
  ["nobody", 401, "credentials_missing", RESEARCHER, async () => ({})],
  ["another scheme", 401, "invalid_token", RESEARCHER, async () => ({ authorization: "Basic YTpi" })],
  ["no token of ours", 401, "invalid_token", RESEARCHER, () => bearer("a.b.c")],
  ["a token in the query", 401, "credentials_missing", `${RESEARCHER}?access_token=x`, async () => ({})],
  [
    "a cookie as a Bearer",
    401,
    "invalid_token",
    RESEARCHER,
    () => bearer(/__Host-legate=([^;]+)/.exec(member.browser.cookie)?.[1] ?? ""),
  ],
  [
    "a delegation that is not redeemed",
    401,
    "delegation_not_redeemed",
    RESEARCHER,
    async () => bearer(session.delegate(agent.clientId)),
  ],
  ["a tier too low", 403, "tier_required", "/agents/elevated", () => bearer(session.token())],
  ["a scope that was narrowed away", 403, "insufficient_scope", RESEARCHER, () => narrowed({ scope: ["plan"] })],
  ["an agent that was narrowed away", 403, "agent_not_allowed", RESEARCHER, () => narrowed({ agents: ["planner"] })],
  [
    "a cookie from a foreign page",
    403,
    "origin_not_allowed",
    RESEARCHER,
    async () => ({ cookie: member.browser.cookie, origin: "https://evil.example" }),
  ],
  [
    "a cookie from no page at all",
    403,
    "origin_not_allowed",
    RESEARCHER,
    async () => ({ cookie: member.browser.cookie }),
  ],
  ["an unknown agent", 404, "not_found", "/agents/nobody/default", () => bearer(session.token())],
  ["an unknown agent, anonymously", 404, "not_found", "/agents/nobody/default", async () => ({})],
  ["a sub-agent", 404, "not_found", "/agents/researcher/default/sub/researcher/x", () => bearer(session.token())],
  ["an agent that is switched off", 503, "agent_unavailable", "/agents/off", () => bearer(session.token())],
  ["an agents' Worker in which nothing works", 503, "agent_unavailable", RESEARCHER, () => bearer(session.token())],
  ["an agent without its binding", 503, "agent_unavailable", "/agents/unbound", () => bearer(session.token())],
];

describe.each(WAYS)("refused over %s", (way) => {
  test.each(ROWS)("%s: %i %s", async (_, status, code, path, headers) => {
    expectRefusal(await knock(wire, way, { path, headers: await headers() }), status, code);
  });
});

test("unknown, foreign and missing things are told apart by nothing", async () => {
  const stranger = await Member.signUp(variant.url);
  const foreign = await (await stranger.registerAgent()).open();
  const own = await bearer(session.token());
  const answers = async (paths: readonly string[], headers: Record<string, string>) => {
    const all = await Promise.all(paths.map((path) => wire.send({ path, headers })));
    return new Set(all.map(({ status, text }) => `${status} ${text}`));
  };
  const missing = `${foreign.id.slice(0, -8)}aaaaaaaa`;
  expect([
    ...(await answers(
      [`/sessions/${foreign.id}`, `/sessions/${missing}`, "/sessions/x", `/sessions/${session.id}x`],
      own,
    )),
  ]).toEqual([expect.stringMatching(/^404 /)]);
  const cookie = { cookie: member.browser.cookie };
  expect(await answers([`/sessions/${foreign.id}`, `/oauth/clients/x`, `/sessions/${missing}`], cookie)).toHaveProperty(
    "size",
    2,
  ); // two shapes: RFC 6749's under /oauth/
  expect(await answers(["/agents/nobody", "/agents/session-authority", "/agents/x"], own)).toHaveProperty("size", 1);
});

test.each(["PUT", "PATCH", "DELETE", "PROPFIND"])(
  "%s is no way to call an agent, and no route has it unasked",
  async (method) => {
    const headers = await bearer(session.token());
    const atAgent = await wire.send({ method, path: RESEARCHER, headers });
    expectRefusal(atAgent, 405, "method_not_allowed");
    expect(atAgent.headers["allow"]).toBe("GET, POST");
    const atRoute = await wire.send({ method, path: "/sessions", headers });
    expect([atRoute.status, atRoute.headers["allow"]]).toEqual([405, "POST, GET"]);
  },
);

describe("what was real and is over", () => {
  test("over HTTP it is told why, as a socket it is accepted and closed: stock clients stop at that", async () => {
    expectRefusal(await wire.send({ path: RESEARCHER, headers: await bearer(ended) }), 401, "session_ended");
    const socket = await TestSocket.open(`${variant.url}/agents/researcher`, await bearer(ended));
    expect(await socket.closed()).toEqual({ code: 4403, reason: expect.stringMatching(/^session_ended ses_/) });
  });

  test("402 where the budget does not cover the call, 4402 for its socket", async () => {
    const poor = await agent.open({ budget: 150 });
    const refused = await wire.send({ path: RESEARCHER, headers: await bearer(poor.token()) });
    expectRefusal(refused, 402, "budget_exhausted");
    expect(JSON.parse(refused.text)).toMatchObject({ node: poor.node, remaining: 150, cost: 200 });
    const socket = await TestSocket.open(`${variant.url}/agents/researcher`, await bearer(poor.token()));
    expect(await socket.closed()).toEqual({ code: 4402, reason: expect.stringMatching(/^budget_exhausted ses_/) });
  });
});

test("D1 without its tables is a D1 that fails: 503 at sign-in, and nothing of how", () => {
  for (const answer of withoutTables) expectRefusal(answer, 503, "storage_unavailable");
});

describe("databases that are locked or gone", () => {
  let deployment: Deployment;
  let operator: Member;
  let person: Member;
  let running: AgentSession;
  let here: Wire;
  let object: string;

  beforeAll(async () => {
    deployment = await Deployment.start();
    here = new Wire(deployment.url, 2);
    operator = await Member.signUp(deployment.url, deployment.secrets["LEGATE_BOOTSTRAP"]);
    const others = deployment.objects("SessionAuthority");
    person = await Member.signUp(deployment.url);
    running = await (await person.registerAgent()).open();
    object = deployment.objects("SessionAuthority").find((name) => !others.includes(name)) ?? "";
  });
  afterAll(async () => {
    here.close();
    await deployment.end();
  });

  /** Runs it while another process holds the file for itself. */
  async function whileLocked(file: string, act: () => Promise<void>): Promise<void> {
    const database = new DatabaseSync(file, { timeout: 30_000 }); // the object itself may be writing just now
    try {
      database.exec("BEGIN IMMEDIATE");
      await act();
      database.exec("ROLLBACK");
    } finally {
      database.close(); // rolls back what is open
    }
  }

  test.each(WAYS)("an object that can't write: 503 over %s, and the call after it is served", async (way) => {
    const path = way === "upgrade" ? "/agents/researcher" : `${RESEARCHER}?q=coral`;
    const headers = await bearer(running.token());
    await whileLocked(join(deployment.objectsDir, `${object}.sqlite`), async () => {
      expectRefusal(await knock(here, way, { path, headers }), 503, "authority_unavailable");
    });
    expect((await knock(here, way, { path, headers })).status).toBe(way === "upgrade" ? 101 : 200);
  });

  test("an operator's stop of an object that can't write: 503, and nothing has ended", async () => {
    await whileLocked(join(deployment.objectsDir, `${object}.sqlite`), async () => {
      const answer = await operator.browser.send("DELETE", `/admin/agents/sessions/${running.id}`, {
        json: { reason: "x" },
      });
      expect([answer.status, answer.body["code"]]).toEqual([503, "authority_unavailable"]);
    });
    expect((await running.leash())["node"]).toBe(running.node);
  });

  test("a D1 whose tables are gone: 503 at sign-in and in lists, while calls and stops go on", async () => {
    const database = new DatabaseSync(deployment.database, { timeout: 30_000 });
    const credentials = { username: person.username, password: person.password };
    const signIn = () => person.browser.send("POST", "/auth/login", { json: credentials });
    const list = () => operator.browser.send("GET", "/admin/agents/sessions");
    database.exec("ALTER TABLE users RENAME TO users_away; ALTER TABLE agent_sessions RENAME TO agent_sessions_away");
    for (const answer of [await signIn(), await list()]) {
      expect([answer.status, answer.body["code"]]).toEqual([503, "storage_unavailable"]);
      expect(answer.text).not.toMatch(/sql|table|users|D1/i);
    }
    expect((await running.fetch(`${RESEARCHER}?q=coral`)).status).toBe(200);
    database.exec("ALTER TABLE users_away RENAME TO users; ALTER TABLE agent_sessions_away RENAME TO agent_sessions");
    database.close();
    expect((await signIn()).status).toBe(200);
    expect((await list()).status).toBe(200);
  });

  test("operators' routes: 200, 400, 403, 404, 409", async () => {
    const target = `/admin/agents/sessions/${running.id}`;
    const ask = async (who: Member, method: string, path: string, json?: object) => {
      const answer = await who.browser.send(method, path, json === undefined ? {} : { json });
      return [answer.status, answer.body["code"]];
    };
    const reason = { reason: "conformance" };
    expect(await ask(operator, "GET", target)).toEqual([200, undefined]);
    for (const path of [target, "/admin/agents/sessions", "/admin/agents/audit"])
      expect(await ask(person, "GET", path)).toEqual([403, "operator_required"]);
    expect(await ask(person, "DELETE", target, reason)).toEqual([403, "operator_required"]);
    expect(await ask(operator, "GET", "/admin/agents/sessions?cursor=forged")).toEqual([400, "invalid_request"]);
    expect(await ask(operator, "GET", "/admin/agents/sessions?sort=x")).toEqual([400, "invalid_request"]);
    for (const json of [{}, { reason: "" }, { reason: 7 }, { reason: "x", force: true }])
      expect(await ask(operator, "DELETE", target, json)).toEqual([400, "invalid_request"]);
    const invented = `ses_${"a".repeat(20)}_${"b".repeat(28)}`;
    for (const id of [invented, "x", `${running.id}x`]) {
      expect(await ask(operator, "GET", `/admin/agents/sessions/${id}`)).toEqual([404, "not_found"]);
      expect(await ask(operator, "DELETE", `/admin/agents/sessions/${id}`, reason)).toEqual([404, "not_found"]);
    }
    expect(await ask(operator, "POST", `/admin/users/usr_${"a".repeat(28)}/stop`, reason)).toEqual([404, "not_found"]);
    expect(await ask(operator, "DELETE", target, reason)).toEqual([200, undefined]);
    expect(await ask(operator, "DELETE", target, reason)).toEqual([409, "already_ended"]);
  });
});
