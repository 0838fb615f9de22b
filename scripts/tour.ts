// The tour: the product's main job, done for real against a running server, each step with what was sent and what came
// back. It stops at the first step that is not as it should be, with a sentence and a status that is not 0.
//
//   node scripts/tour.ts http://127.0.0.1:8787 [--state .legate/tour.json]
//
// LEGATE_BOOTSTRAP makes the tour's operator once; the state file (readable by its owner alone) remembers them.
import { join } from "node:path";
import { Legate, LegateError, type AgentSession } from "../sdk/client.ts";
import { ROOT } from "./lib/paths.mjs";
import { Sentence, bold, dim, green, main, say } from "./lib/term.mjs";
import { makeKey, type KeyPair } from "./tour/keys.ts";
import { findOperator } from "./tour/operator.ts";
import { Person, type Client } from "./tour/person.ts";
import { bad, chainText, good, note, recording, short, shortSecret, showToken, step } from "./tour/show.ts";
import { answerOn, closeOf, events } from "./tour/streams.ts";

const SCOPE = ["plan", "research", "catalog:read"] as const;
const SESSION_MICROS = 20_000;
const GOAL = "Why do tides rise and fall, and what do corals need?";
const QUESTION = "Which planet has a storm wider than the Earth?";

/** One agent of the tour: its registration and its key. */
interface Agent {
  readonly client: Client;
  readonly key: KeyPair;
}

/** Everything that later steps need of earlier ones. */
interface Walk {
  readonly issuer: string;
  readonly person: Person;
  readonly a: Agent;
  readonly b: Agent;
}

function expect(fact: boolean, what: string): void {
  if (!fact) {
    bad(what);
    throw new Sentence(`The tour stopped: it expected that ${what}.`);
  }
  good(what);
}

/** A call that must be refused, with that status and code. */
async function refused(call: Promise<Response>, status: number, code: string, what: string): Promise<void> {
  const response = await call;
  const error = await LegateError.fromResponse(response);
  expect(response.status === status && error.code === code, `${what}: ${status} ${code}`);
}

async function peopleAndAgents(issuer: string): Promise<Walk> {
  const run = Math.random().toString(36).slice(2, 8);
  step("A person signs up");
  const person = new Person(issuer);
  await person.signUp(`ada-${run}`, `tour ${crypto.randomUUID()}`);
  expect(person.id.startsWith("usr_"), "she has an id, and a cookie that scripts in a page can't read");

  step("She registers two agents, each with its own key; no secret leaves this machine");
  const register = async (name: string, kind: "ES256" | "Ed25519"): Promise<Agent> => {
    const key = await makeKey(kind);
    return { client: await person.registerAgent(name, key.publicJwk, SCOPE.join(" "), 1_000_000), key };
  };
  const a = await register("assistant", "ES256");
  const b = await register("analyst", "Ed25519");
  expect(a.client.client_id !== b.client.client_id, "the assistant signs with ES256, the analyst with Ed25519");
  return { issuer, person, a, b };
}

async function openAndDelegate({ issuer, a, b }: Walk): Promise<{ assistant: AgentSession; delegation: string }> {
  step("The assistant opens a session with a single signature");
  const assistant = await Legate.open({
    issuer,
    clientId: a.client.client_id,
    key: a.key.privateKey,
    scope: SCOPE,
    budget: SESSION_MICROS,
  });
  showToken("its token", await assistant.token());
  expect(assistant.id.startsWith("ses_"), `a session of hers, worth ${SESSION_MICROS} micros`);

  step("It narrows its token for the analyst, offline: nobody is asked");
  const expires = new Date(Date.now() + 20 * 60_000);
  const delegation = await assistant.delegate(b.client.client_id, { budget: 10_000, expires });
  showToken("the delegation", delegation);
  expect(delegation.length > 0, `it hands over ${shortSecret(delegation)}; only the analyst can redeem it`);
  return { assistant, delegation };
}

async function theftAndRedemption(walk: Walk, delegation: string): Promise<AgentSession> {
  const { issuer, a, b } = walk;
  step("A thief tries it: as a token, and with the key of another agent");
  const asToken = fetch(`${issuer}/agents/researcher/default/lookup?q=coral`, {
    headers: { authorization: `Bearer ${delegation}` },
  });
  await refused(asToken, 401, "delegation_not_redeemed", "used as it is, the gate refuses it");
  const stolen = Legate.redeem({ issuer, clientId: a.client.client_id, key: a.key.privateKey, delegation });
  const error = await stolen.then(
    () => null,
    (reason: unknown) => (reason instanceof LegateError ? reason : null),
  );
  expect(error?.code === "invalid_grant", "redeemed by another agent, it is refused: 400 invalid_grant");

  step("The analyst redeems it with its own key");
  const analyst = await Legate.redeem({ issuer, clientId: b.client.client_id, key: b.key.privateKey, delegation });
  showToken("its token", await analyst.token());
  expect(analyst.node.startsWith(analyst.id) && analyst.node !== analyst.id, "a grant below the assistant's session");
  return analyst;
}

interface Research {
  readonly chain?: Record<string, { sub: string; proven: boolean }[]>;
  readonly findings?: { fact: string; source: string }[];
}

async function callAgents({ person }: Walk, analyst: AgentSession): Promise<WebSocket> {
  step("It asks the planner, which asks the researcher, which asks the catalogue");
  const response = await analyst.fetch("/agents/planner/default/chat", {
    method: "POST",
    headers: { "content-type": "application/json", accept: "text/event-stream" },
    body: JSON.stringify({ goal: GOAL }),
  });
  if (!response.ok) throw await LegateError.fromResponse(response);
  const results: Research[] = [];
  let cost = 0;
  for await (const { event, data } of events(response)) {
    note(`event ${event}: ${short(data)}`);
    if (event === "result") results.push(data as Research);
    if (event === "done") cost = (data as { cost: number }).cost;
  }
  const chain = results[0]?.chain ?? {};
  for (const [agent, actors] of Object.entries(chain)) note(`the ${agent} saw ${chainText(person.id, actors)}`);
  expect(results.length === 2 && results.every(({ findings }) => findings?.length), "two steps, both with findings");
  expect(
    chain["catalog"]?.length === 4 && chain["catalog"].every(({ proven }) => proven),
    "four proven links at the end",
  );
  expect(cost === 300, `the plan cost ${cost} micros, as the planner said at its end`);

  step("It opens a WebSocket to the researcher, and asks there");
  const socket = await analyst.connect("/agents/researcher/default");
  note(`→ ${JSON.stringify({ question: QUESTION })}`);
  const reply = (await answerOn(socket, { question: QUESTION })) as Research;
  note(`← ${short(reply)}`);
  expect(reply.findings?.[0]?.fact.includes("Jupiter") ?? false, "the answer is Jupiter's Great Red Spot");
  return socket;
}

async function refusals(analyst: AgentSession): Promise<AgentSession> {
  step("What nobody granted is refused");
  await refused(
    analyst.fetch("/agents/catalog/default/sources"),
    403,
    "actor_not_allowed",
    "the catalogue takes calls from the researcher alone",
  );
  const reader = await analyst.spawn("reader", { scope: ["research"], budget: 40 });
  showToken("the analyst's sub-agent", await reader.token());
  await refused(
    reader.fetch("/agents/planner/default/history"),
    403,
    "insufficient_scope",
    "a sub-agent with the scope research can't plan",
  );
  await refused(
    reader.fetch("/agents/researcher/default/lookup?q=coral"),
    402,
    "budget_exhausted",
    "and 40 micros don't cover a call that may cost 200",
  );

  step("Everyone can look at their own leash");
  const leash = await analyst.leash();
  expect(leash["node"] === analyst.node, "the analyst sees its node, its chain, and what it may still spend");
  const grandchild = await analyst.spawn("summarizer", { scope: ["research", "catalog:read"] });
  const warm = await grandchild.fetch("/agents/researcher/default/lookup?q=salmon");
  expect(warm.ok, "and a sub-agent of its own may ask the researcher, unproven as it is");
  return grandchild;
}

async function stop(walk: Walk, operator: Person, sessions: readonly AgentSession[], socket: WebSocket): Promise<void> {
  const id = sessions[0]?.id ?? "";
  step("An operator looks at what runs");
  const list = await until(async () => {
    const page = (await operator.json("GET", `/admin/agents/sessions?active=true&user=${walk.person.id}`)) as Rows;
    return page.sessions.some((row) => row["id"] === id) ? page : null;
  });
  expect(list !== null, "the session is in the operator's list");

  step("And ends the session: once");
  const closed = closeOf(socket);
  const began = Date.now();
  const report = (await operator.json("DELETE", `/admin/agents/sessions/${id}`, { reason: "end of the tour" })) as {
    state: string;
  };
  const took = Date.now() - began;
  expect(report.state === "terminal", `it is over, and the answer came after the fence (${took} ms)`);
  const { code, reason } = await closed;
  expect(
    code === 4403 && Date.now() - began < took + 1_000,
    `the analyst's socket closed with ${code} ${short(reason)}`,
  );
  for (const [who, session] of [
    ["the assistant", sessions[0]],
    ["the analyst, which redeemed", sessions[1]],
    ["its sub-agent, a bearer", sessions[2]],
  ] as const) {
    if (session === undefined) throw new Error("a session is missing");
    await refused(session.fetch("/agents/researcher/default/lookup?q=tides"), 401, "session_ended", who);
  }

  step("What happened is in D1");
  const row = await until(async () => {
    const { session: row } = (await operator.json("GET", `/admin/agents/sessions/${id}`)) as { session: Row | null };
    return row !== null && row["endedAt"] !== null ? row : null;
  });
  expect(row?.["endReason"] === "terminated", `the session's row: ${short({ ...pick(row, "endReason", "endedBy") })}`);
  const { rows } = (await operator.json("GET", `/admin/agents/audit?session=${id}&limit=100`)) as Rows;
  const kinds = rows.map((entry) => String(entry["kind"])).reverse();
  note(kinds.join(" · "));
  expect(kinds.includes("session.ended"), `${rows.length} rows of the audit log tell the rest`);
}

type Row = Readonly<Record<string, unknown>>;
interface Rows {
  readonly sessions: readonly Row[];
  readonly rows: readonly Row[];
}

function pick(row: Row | null, ...names: string[]): Row {
  return Object.fromEntries(names.map((name) => [name, row?.[name]]));
}

/** D1 is told a moment later: asks again for two seconds. */
async function until<T>(ask: () => Promise<T | null>): Promise<T | null> {
  const deadline = Date.now() + 2_000;
  for (;;) {
    const answer = await ask();
    if (answer !== null || Date.now() > deadline) return answer;
    await new Promise((wake) => setTimeout(wake, 250));
  }
}

function readArguments(): { issuer: string; state: string } {
  const args = process.argv.slice(2);
  const at = args.indexOf("--state");
  const state = at === -1 ? join(ROOT, ".legate/tour.json") : args.splice(at, 2)[1];
  const issuer = args[0] ?? process.env["LEGATE_URL"];
  if (issuer === undefined || state === undefined)
    throw new Sentence("Usage: node scripts/tour.ts <url of a running server> [--state <file>]");
  return { issuer: new URL(issuer).origin, state };
}

async function endOfTheTour(
  walk: Walk,
  [assistant, analyst]: readonly [AgentSession, AgentSession],
  socket: WebSocket,
  state: string,
): Promise<void> {
  const grandchild = await refusals(analyst);
  step("The tour's operator signs in");
  const operator = await findOperator(walk.issuer, state, process.env["LEGATE_BOOTSTRAP"] ?? "");
  expect(operator.id !== walk.person.id, "somebody else than the person");
  await stop(walk, operator, [assistant, analyst, grandchild], socket);
}

async function walkTour(): Promise<void> {
  const { issuer, state } = readArguments();
  const began = Date.now();
  globalThis.fetch = recording(globalThis.fetch);
  say(`${bold("A tour of Legate")} ${dim(`at ${issuer}; ids and secrets are shortened`)}`);
  const walk = await peopleAndAgents(issuer);
  const { assistant, delegation } = await openAndDelegate(walk);
  const analyst = await theftAndRedemption(walk, delegation);
  const socket = await callAgents(walk, analyst);
  try {
    await endOfTheTour(walk, [assistant, analyst], socket, state);
  } finally {
    socket.close(); // an open one would keep this process
  }
  say();
  say(`${green("✓")} ${bold("As it should be.")} ${dim(`${((Date.now() - began) / 1000).toFixed(1)} s`)}`);
}

await main(async () => {
  try {
    await walkTour();
  } catch (error) {
    if (!(error instanceof LegateError)) throw error;
    throw new Sentence(`The tour stopped: ${error.message} (${error.status} ${error.code})`);
  }
});
