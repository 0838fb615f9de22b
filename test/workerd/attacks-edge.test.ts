// Attacks at the edge's front door: what a hostile sub-agent does to those above it, what makes the edge fail, and what
// strangers can make it touch.
import { env } from "cloudflare:workers";
import { listDurableObjectIds, runDurableObjectAlarm, runInDurableObject } from "cloudflare:test";
import { expect, test, vi } from "vitest";
import type { UserId } from "../../core/ids.ts";
import type { Edge } from "../../worker/env.ts";
import {
  bearer,
  closed,
  edge,
  edgeWith,
  end,
  enrol,
  narrow,
  open,
  send,
  UPGRADE,
  withCookie,
} from "../support/workerd/gate.ts";

/** A clock that stands still: what counts by the second, counts in one. */
function standing(real: Edge): Edge {
  const now = real.now();
  return { ...real, now: () => now };
}

/** Questions that reach users' objects. */
function counting(real: Edge): { gate: Edge; asked(): number } {
  let asked = 0;
  const ask: Edge["ask"] = (user: UserId, question) => (asked++, real.ask(user, question));
  return { gate: { ...real, ask }, asked: () => asked };
}

test("a sub-agent that is refused again and again does not have those above it refused", async () => {
  const real = edgeWith({
    dear: { entry: { cost: { most: 10 }, level: "counted" } },
    cheap: { entry: { cost: { most: 1 }, level: "counted" } },
  });
  const gate = standing(real);
  const { token } = await open({ person: await enrol("admin"), budget: 7 });
  const child = await narrow(token, { act: "hostile" });
  let ownRefusals = 0;
  for (let i = 0; i < 40; i++) {
    const { status } = await send(gate, "/agents/dear", bearer(await narrow(child, {})));
    if (status === 429) ownRefusals++;
    else expect(status).toBe(402);
  }
  expect(ownRefusals).toBeGreaterThan(10);
  expect((await send(gate, "/agents/cheap", bearer(token))).status).toBe(200);
});

test("a token that its object refuses for what it says can't be used to drown the object", async () => {
  const { gate, asked } = counting(standing(edgeWith({ seen: { entry: { level: "counted" } } })));
  const { token } = await open({ person: await enrol("admin") });
  const n = "AAAAAAAAAAAA";
  expect((await send(gate, "/agents/seen", bearer(await narrow(token, { n, scope: "plan" })))).status).toBe(200);
  const conflicting = await narrow(token, { n, scope: "" });
  const before = asked();
  const statuses = new Set<number>();
  for (let i = 0; i < 200; i++) statuses.add((await send(gate, "/agents/seen", bearer(conflicting))).status);
  expect([...statuses].every((status) => status === 401 || status === 429)).toBe(true);
  expect(asked() - before).toBeLessThan(100);
});

test("a tier that an operator took away does not come back with the outbox", async () => {
  const { id } = await enrol("free");
  const by = { kind: "operator" as const, id: "op", reason: "a test" };
  const insert = "insert into users (id, username, password_hash, tier, created_at) values (?, ?, 'none', 'free', 0)";
  await env.DB.prepare(insert)
    .bind(id, `outbox-${id.slice(4, 12)}`)
    .run();
  await env.DB.prepare("update users set tier = 'admin' where id = ?").bind(id).run();
  await edge.ask(id, (authority) => authority.setTier("admin", by));
  // Demoted before that row was delivered, and nobody got as far as telling the object.
  await env.DB.prepare("update users set tier = 'free' where id = ?").bind(id).run();
  const stub = env.AUTHORITY.getByName(id);
  await vi.waitFor(async () => {
    await runDurableObjectAlarm(stub);
    const due = await runInDurableObject(stub, (_, { storage }) =>
      storage.sql.exec("select kind from due where kind = 'deliver'").toArray(),
    );
    expect(due).toEqual([]);
  }, 10_000);
  const row = await env.DB.prepare("select tier from users where id = ?").bind(id).first();
  expect(row?.["tier"]).toBe("free");
});

test("a sub-agent that hoards tickets leaves room for those above it", async () => {
  const { person, token } = await open({ person: await enrol("pro") });
  const child = await narrow(token, { act: "hoarder" });
  const buy = async (text: string) =>
    (
      await send(edge, "/sessions/ticket", {
        method: "POST",
        headers: { authorization: `Bearer ${text}`, "content-type": "application/json" },
        body: JSON.stringify({ target: "/agents/researcher/default" }),
      })
    ).status;
  expect(await buy(child)).toBe(201);
  // As if it had bought fifty.
  await runInDurableObject(env.AUTHORITY.getByName(person.id), (_, { storage }) =>
    storage.sql.exec(
      `with recursive n(i) as (select 1 union all select i + 1 from n where i < 49)
       insert into tickets select 'digest-' || i, target, origin, connection, token, expires_at from tickets, n`,
    ),
  );
  expect(await buy(child)).toBe(429);
  expect(await buy(token)).toBe(201);
});

test("whoever signs out listens to nothing any more, also not to a session that goes on", async () => {
  const signedIn = await open();
  const other = await open({ person: signedIn.person });
  const path = `/sessions/${other.grant.path}/socket`;
  const { webSocket } = await send(edge, path, withCookie(signedIn.cookie, UPGRADE));
  const over = closed(webSocket!);
  await end(signedIn);
  const silence = new Promise((resolve) => setTimeout(resolve, 2_000, "still open"));
  expect(await Promise.race([over, silence])).toMatchObject({ code: 4403 });
});

const STRANGE: readonly unknown[] = [
  null, true, 0, -0, -1, 1.5, 1e21, 2 ** 53, "", " ", "__proto__", "constructor", "\u0000", "\ud800", "é".repeat(50),
  "a".repeat(5_000), "%2e%2e", "usr_x", "ses_x", "agt_x", [], [[]], {}, { __proto__: 1 }, { toString: 1 }, ["x", 1],
]; // prettier-ignore
const NAMES = [
  "username", "password", "bootstrap", "client_name", "jwks", "scope", "legate_budget", "grant_types", "clientId", "budget",
  "ttlSeconds", "target", "connection", "reason", "tier", "cap", "token", "cost", "grant_type", "client_assertion",
  "client_assertion_type", "subject_token", "audience", "resource", "__proto__", "constructor", "until", "user",
]; // prettier-ignore

/** Draws that a failure can be replayed with. */
function draws(seed: number) {
  let state = seed;
  const next = (below: number): number => {
    state = (Math.imul(state, 1_664_525) + 1_013_904_223) >>> 0;
    return Math.floor((state / 2 ** 32) * below);
  };
  return { next, of: <T>(list: readonly T[]): T => list[next(list.length)] as T };
}

test("two thousand strange requests, with and without a proof, are all answered, and none of them with a 5xx", async () => {
  const seed = Math.floor(Math.random() * 2 ** 31);
  const { next, of } = draws(seed);
  const quiet: Edge = { ...edge, anonymousMayAsk: async () => true };
  const { token, cookie, grant, person } = await open({ tier: "admin" });
  const ids = [grant.path, person.id, "x", "%00", "..", `${grant.path}.AAAAAAAAAAAA`, "__proto__", "hld_x"];
  const paths = () => {
    const id = of(ids);
    return of([
      "/auth/register", "/auth/login", "/auth/logout", "/auth/user", "/oauth/register", "/oauth/token", "/oauth/introspect",
      "/oauth/revoke", "/oauth/clients", `/oauth/clients/${id}`, "/sessions", "/sessions/current", "/sessions/ticket",
      `/sessions/${id}`, `/sessions/${id}/socket`, "/holds", `/holds/${id}/settle`, `/holds/${id}/void`, `/admin/users/${id}`,
      `/admin/users/${id}/stop`, `/admin/users/${id}/enable`, `/admin/users/${id}/budget`, "/admin/agents/sessions",
      "/admin/agents/audit", `/admin/agents/sessions/${id}`, `/admin/agents/sessions/${id}/budget`, `/agents/planner/${id}`,
      `/agents/${id}/default`, "/agents/", "/x//y", `/.well-known/${id}`, "/healthz", "/console/", "/federation/aws/x",
      `/receipts/${id}`, `/admin/locks/${id}`,
    ]); // prettier-ignore
  };
  const bodies = (): { type: string; body: string } => {
    const members = Array.from({ length: next(4) }, () => [of(NAMES), of(STRANGE)] as const);
    const json = `{${members.map(([name, value]) => `${JSON.stringify(name)}:${JSON.stringify(value)}`).join(",")}}`;
    const form = members.map(([name, value]) => `${name}=${encodeURIComponent(JSON.stringify(value).toWellFormed())}`);
    return of([
      { type: "application/json", body: json },
      { type: "application/json", body: json.slice(1) },
      { type: "application/json", body: "[".repeat(20_000) },
      { type: "application/x-www-form-urlencoded", body: form.join("&") },
      { type: "text/plain", body: json },
      { type: "", body: "" },
    ]);
  };
  const objects = (await listDurableObjectIds(env.AUTHORITY)).length;
  for (let i = 0; i < 2_000; i++) {
    const method = of(["GET", "POST", "PATCH", "DELETE", "PUT", "HEAD", "OPTIONS"]);
    const path = `${paths()}${of(["", "", "?limit=0", "?limit=x&limit=y", "?__proto__=1&cursor=a.b", "?active=maybe", "?wait=0", "?user=%FF"])}`;
    const { type, body } = bodies();
    const proof = of<Record<string, string>>([
      {},
      { authorization: `Bearer ${token}` },
      {
        authorization: of([
          "Bearer",
          "Basic eA==",
          `Bearer ${token}, Bearer ${token}`,
          `bearer  ${token}`,
          "Bearer a.b.c",
        ]),
      },
      { cookie: `__Host-legate=${cookie}`, "sec-fetch-site": "same-origin" },
      { cookie: `__Host-legate=${cookie}; __Host-legate=${cookie}` },
    ]);
    const more = of<Record<string, string>>([
      {},
      { "idempotency-key": of(["k", "", "x".repeat(200), "ключ"].map((key) => encodeURI(key))) },
      {
        upgrade: of(["websocket", "h2c", "WebSocket, x"]),
        "sec-websocket-protocol": of(["legate", "legate, ticket.x", "ticket.a, ticket.b"]),
      },
      { origin: of(["null", "https://evil.test", edge.issuer, "x"]), "access-control-request-method": "POST" },
      { connection: "close, authorization", "x-http-method-override": "DELETE", "content-length": "1" },
    ]);
    const headers = { ...(type === "" ? {} : { "content-type": type }), ...more, ...proof };
    const isBodiless = method === "GET" || method === "HEAD";
    const answer = await send(quiet, path, { method, headers, ...(isBodiless ? {} : { body }) });
    const text =
      answer.webSocket === null ? await answer.text() : (answer.webSocket.accept(), answer.webSocket.close(), "");
    const told = `seed ${seed}, ${i}: ${method} ${path} ${JSON.stringify({ ...more, body: body.slice(0, 200) })} → ${answer.status} ${text.slice(0, 200)}`;
    expect(answer.status < 500 || answer.status === 503, told).toBe(true);
    expect(text, told).not.toMatch(/\bat .+\.ts|Error:|SQLITE|\bstack\b/);
    expect(text.includes(token) || text.includes(cookie), told).toBe(false);
    expect(answer.headers.get("access-control-allow-origin") ?? edge.issuer, told).toBe(edge.issuer);
  }
  // Nobody but people who signed up, and no more than those, has an object now.
  expect((await listDurableObjectIds(env.AUTHORITY)).length - objects).toBeLessThanOrEqual(1);
}, 120_000);
