// The edge with the real authority behind it and agents that a test writes itself: what a hostile or broken agent does
// can't be had from a well-behaved one. Users, sessions and tokens are made the way the ways in make them.
import { createExecutionContext, waitOnExecutionContext } from "cloudflare:test";
import { env } from "cloudflare:workers";
import { checkConfig, type AgentEntryInput, type Tier } from "../../../core/config.ts";
import {
  makeOwnedId,
  makeUserId,
  toEpochSeconds,
  type AgentId,
  type EpochMs,
  type EpochSeconds,
  type Micros,
  type UserId,
} from "../../../core/ids.ts";
import { nestActors, type ActorLink } from "../../../core/token/chain.ts";
import { narrowToken, type Narrowing } from "../../../core/token/mint.ts";
import { openIdentity, type Identity } from "../../../core/wire/identity.ts";
import type { GrantView } from "../../../core/wire/answers.ts";
import type { By } from "../../../core/wire/questions.ts";
import { input } from "../../../legate.config.ts";
import { edgeOf, type Edge } from "../../../worker/env.ts";
import { serve } from "../../../worker/serve.ts";

export const HOST = "https://legate.test";
export const edge = await edgeOf(env);

export type Behaviour = (request: Request, object: string) => Response | Promise<Response>;
const WORKER = "legate-agents";

/** An agent of the test: an open entry, changed where the test says so, and what it does when it is called. */
export interface TestAgent {
  readonly entry?: Partial<AgentEntryInput>;
  readonly serve?: Behaviour | null;
}

/** The edge with these agents in place of the configured ones; everything else is real. */
export function edgeWith(agents: Readonly<Record<string, TestAgent>>, origins: readonly string[] = []): Edge {
  const checked = checkConfig({
    ...input,
    origins,
    agents: Object.entries(agents).map(([slug, { entry }]) => ({
      slug,
      binding: slug.toUpperCase().replaceAll("-", "_"),
      worker: WORKER,
      name: slug,
      description: "",
      requiredTier: "free",
      transport: "http",
      cost: { most: 0 },
      level: "strict", // what a call did is seen in the object at once; slices have tests of their own
      ...entry,
    })),
  });
  if (!checked.ok) throw new Error(checked.denial.join("\n"));
  return {
    ...edge,
    config: checked.value,
    agent: ({ slug }, object) => {
      const behaviour = agents[slug]?.serve;
      if (behaviour === null) return null;
      return {
        fetch: async (to, init) => (behaviour ?? (() => new Response("served")))(new Request(to, init), object),
      };
    },
  };
}

/** Sends one request through an edge and waits until everything behind the answer is done too. */
export async function send(to: Edge, path: string, init: RequestInit = {}): Promise<Response> {
  const ctx = createExecutionContext();
  const answer = await serve(new Request(new URL(path, HOST), init), to, ctx);
  if (answer.body === null || answer.headers.get("content-type")?.startsWith("application/json") === true)
    await waitOnExecutionContext(ctx);
  return answer;
}

export interface Person {
  readonly id: UserId;
  readonly by: By;
}

let count = 0;

export async function enrol(tier: Tier = "free"): Promise<Person> {
  const id = makeUserId(edge.random, edge.idMac);
  const by: By = { kind: "person", id, reason: null };
  const username = `gate-${++count}`;
  const told = await edge.ask(id, (authority) => authority.enrol({ username, tier, createdAt: edge.now() }));
  if (!told.ok) throw new Error(told.denial.reason);
  return { id, by };
}

export interface Opened {
  readonly person: Person;
  readonly grant: GrantView;
  /** Bearer token of the grant. */
  readonly token: string;
  /** The same grant as a cookie's token. */
  readonly cookie: string;
}

interface Opening {
  readonly tier?: Tier;
  readonly person?: Person;
  readonly scope?: readonly string[] | null;
  readonly agents?: readonly string[] | null;
  readonly budget?: number | null;
}

/** Opens a session of a person, in the object itself. */
export async function open({ tier, person, scope, agents, budget }: Opening = {}): Promise<Opened> {
  const who = person ?? (await enrol(tier));
  const told = await edge.ask(who.id, (authority) =>
    authority.open({
      kind: "api",
      enrolment: null,
      client: null,
      scope: scope ?? null,
      agents: agents ?? null,
      budget: (budget ?? null) as Micros | null,
      ttlSeconds: null,
      origin: { ip: null, userAgent: null },
      cookie: null,
      by: who.by,
      idempotency: null,
    }),
  );
  if (!told.ok) throw new Error(told.denial.reason);
  const grant = told.value;
  return { person: who, grant, token: await mint(grant), cookie: await mint(grant, {}, edge.cookieKey) };
}

interface Changes {
  readonly actors?: readonly ActorLink[];
  readonly exp?: number;
  readonly iat?: number;
  readonly tier?: Tier;
}

/** A token of a grant, as the edge would mint it, or changed as only the holder of the key could. */
export function mint(grant: GrantView, changes: Changes = {}, key = edge.sessionKey): Promise<string> {
  const now = toEpochSeconds(edge.now());
  const actors = changes.actors ?? grant.actors;
  const act = nestActors(actors);
  return key.mint({
    sub: grant.subject,
    iat: (changes.iat ?? now) as EpochSeconds,
    exp: (changes.exp ?? Math.min(now + 600, grant.expires)) as EpochSeconds,
    jti: "test",
    gid: grant.path,
    scope: grant.scope.join(" "),
    client_id: actors.at(-1)?.sub ?? grant.subject,
    tier: changes.tier ?? grant.tier,
    ...(act === undefined ? {} : { act }),
    ...(grant.agents === null ? {} : { agents: grant.agents }),
  });
}

export const narrow = (token: string, narrowing: Narrowing): Promise<string> =>
  narrowToken(token, narrowing, edge.random);

export const inventAgent = (owner: UserId): AgentId => makeOwnedId("agt", owner, edge.random, edge.idMac);

export const bearer = (token: string, more: Record<string, string> = {}): RequestInit => ({
  headers: { authorization: `Bearer ${token}`, ...more },
});

export const withCookie = (cookie: string, more: Record<string, string> = {}): RequestInit => ({
  headers: { cookie: `__Host-legate=${cookie}`, "sec-fetch-site": "same-origin", ...more },
});

export const UPGRADE = { upgrade: "websocket" };

/** What the agent was told of its caller. */
export async function identityOf(request: Request): Promise<Identity> {
  const keys = edge.identityKeys.get(WORKER) ?? [];
  const identity = await openIdentity(request.headers.get("legate-identity") ?? "", keys, 0 as EpochMs);
  if (identity === null) throw new Error("no envelope, or not ours");
  return identity;
}

/** What has been charged and is held at a session's root. */
export async function budgetOf({ person, grant }: Opened): Promise<{ settled: number; held: number }> {
  const told = await edge.ask(person.id, (authority) =>
    authority.inspect(grant.path, { kind: "person", cookie: null }),
  );
  if (!told.ok) throw new Error(told.denial.reason);
  return { settled: told.value.budget.settled, held: told.value.budget.held };
}

/** Ends a session as its person would. */
export async function end({ person, grant }: Opened): Promise<void> {
  const told = await edge.ask(person.id, (authority) =>
    authority.revoke({
      path: grant.path,
      why: "revoked",
      by: person.by,
      reach: { kind: "person", cookie: null },
      wait: false,
      idempotency: null,
    }),
  );
  if (!told.ok) throw new Error(told.denial.reason);
}

/** The code and reason that a socket is closed with. */
export function closed(socket: WebSocket): Promise<{ code: number; reason: string }> {
  return new Promise((resolve) => {
    socket.addEventListener("close", ({ code, reason }) => resolve({ code, reason }));
    socket.accept();
  });
}

export const secondsFromNow = (seconds: number): number => toEpochSeconds(edge.now()) + seconds;

/** One agent that keeps the requests it is sent. */
export function watched(entry: TestAgent["entry"] = {}, answer: () => Response = () => new Response("served")) {
  const seen: { request: Request; object: string }[] = [];
  const gate = edgeWith({
    seen: { entry, serve: (request, object) => (seen.push({ request, object }), answer()) },
    other: {},
  });
  const last = () => {
    const found = seen.at(-1);
    if (found === undefined) throw new Error("the agent was not called");
    return found;
  };
  return { gate, seen, last };
}
