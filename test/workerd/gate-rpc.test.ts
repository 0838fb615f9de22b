// `Authority`, as an agents' Worker sees it: who asks comes from the binding, what it says is believed only from an
// envelope of its own key or a handle of the edge's, and nothing is thrown.
import { createExecutionContext } from "cloudflare:test";
import { env, exports } from "cloudflare:workers";
import { describe, expect, test } from "vitest";
import { encodeBase64url } from "../../core/base64url.ts";
import { denialToWire } from "../../core/denial.ts";
import { explainCode } from "../../core/explain.ts";
import { toEpochSeconds, type ConnectionId, type Micros } from "../../core/ids.ts";
import { decodeObject, encodeObject } from "../../core/token/format.ts";
import { verifyToken } from "../../core/token/verify.ts";
import { sealIdentity, type Identity } from "../../core/wire/identity.ts";
import type { AuthorityServiceRpc } from "../../core/wire/agents.ts";
import { Authority } from "../../worker/rpc.ts";
import {
  UPGRADE,
  bearer,
  budgetOf,
  edge,
  edgeWith,
  end,
  identityOf,
  narrow,
  open,
  send,
} from "../support/workerd/gate.ts";

const authorityOf = (worker: string) => exports.Authority({ props: { worker } }) as unknown as AuthorityServiceRpc;
const authority = authorityOf("legate-agents");
const id = () => crypto.randomUUID() as unknown as ConnectionId;

/** A call that the gate forwarded to the researcher (of the real registry), and what the agent was given of it. */
async function called(headers: Record<string, string> = {}, agents?: readonly string[]) {
  const given = await open({ budget: 1_000 });
  let request: Request | null = null;
  const keep = (sent: Request) => {
    request = sent;
    if (sent.headers.get("upgrade") === null) return new Response(new ReadableStream(), {}); // open until settled
    const [client, server] = Object.values(new WebSocketPair()) as [WebSocket, WebSocket];
    server.accept();
    return new Response(null, { status: 101, webSocket: client });
  };
  const entry = {
    transport: "websocket",
    requiredScopes: ["research"],
    cost: { most: 200 },
    calls: ["catalog"],
  } as const;
  const gate = edgeWith({ researcher: { entry, serve: keep }, catalog: {} });
  const token = agents === undefined ? given.token : await narrow(given.token, { agents });
  await send(gate, "/agents/researcher/one", bearer(token, headers));
  if (request === null) throw new Error("the agent was not called");
  const envelope = (request as Request).headers.get("legate-identity") as string;
  return { given, envelope, identity: await identityOf(request) };
}

async function registered(agents?: readonly string[]) {
  const { given, envelope, identity } = await called(UPGRADE, agents);
  const told = await authority.register({ identity: envelope, connection: id(), object: "whatever" });
  if (!told.ok) throw new Error(told.denial.reason);
  return { given, envelope, identity, ...told.value };
}

const micros = (cost: number) => cost as Micros;
const reasonOf = async (answer: Promise<{ ok: boolean; denial?: { reason: string } }>) =>
  (await answer).denial?.reason ?? "ok";

describe("register", () => {
  test("takes the envelope of a socket, once for each connection, until its session has ended", async () => {
    const { given, envelope } = await called(UPGRADE);
    const connection = id();
    const first = await authority.register({ identity: envelope, connection, object: "x" });
    expect(first).toMatchObject({ ok: true });
    expect(await authority.register({ identity: envelope, connection, object: "x" })).toMatchObject({ ok: true });
    await end(given);
    expect(await reasonOf(authority.register({ identity: envelope, connection: id(), object: "x" }))).toBe("ended");
  });

  test("another Worker's envelope, another key's, an altered one and none at all", async () => {
    const { envelope, identity } = await called(UPGRADE);
    const ask = (text: unknown, as = authority) =>
      reasonOf(as.register({ identity: text as string, connection: id(), object: "x" }));
    expect(await ask(envelope, authorityOf("other-worker"))).toBe("token_invalid");
    const [key] = edge.identityKeys.get("legate-agents") ?? [];
    if (key === undefined) throw new Error("no key");
    const foreign: Identity = { ...identity, worker: "other-worker" };
    expect(await ask(await sealIdentity(key, foreign))).toBe("token_invalid");
    expect(await ask(await sealIdentity(key, { ...identity, slug: "nobody" as never }))).toBe("token_invalid");
    expect(await ask(await sealIdentity(key, { ...identity, expires: (edge.now() - 1) as never }))).toBe(
      "token_invalid",
    );
    const [kid, payload, mac] = envelope.split(".") as [string, string, string];
    const richer = encodeObject({ ...decodeObject(payload)?.value, scope: ["admin"] });
    expect(await ask([kid, richer, mac].join("."))).toBe("token_invalid");
    for (const nothing of ["", "a.b.c", `${envelope}.x`, null, 7, {}]) expect(await ask(nothing)).toBe("token_invalid");
  });

  test("an HTTP call's envelope opens no socket; a connection's name is bounded", async () => {
    const { envelope } = await called();
    expect(await reasonOf(authority.register({ identity: envelope, connection: id(), object: "x" }))).toBe(
      "hold_mismatch",
    );
    const { envelope: good } = await called(UPGRADE);
    for (const name of ["", "short", "x".repeat(65), "a b c d e f", null]) {
      const connection = name as ConnectionId;
      expect(await reasonOf(authority.register({ identity: good, connection, object: "x" }))).toBe("token_invalid");
    }
  });
});

describe("admit", () => {
  test("each message is admitted and charged; the last unit that fits is the last", async () => {
    const { given, handle } = await registered();
    for (const left of [800, 600, 400, 200, 0]) {
      const told = await authority.admit({ handle, cost: micros(200), delegation: false });
      expect(told).toMatchObject({ ok: true, value: { remaining: left, delegation: null } });
    }
    expect(await reasonOf(authority.admit({ handle, cost: micros(1), delegation: false }))).toBe("budget_exhausted");
    expect(await budgetOf(given)).toEqual({ settled: 1_000, held: 0 });
  });

  test("with a fresh delegation: the same chain, of `calls` what every link allows", async () => {
    const { handle, identity } = await registered(["researcher", "catalog", "planner"]);
    const told = await authority.admit({ handle, cost: micros(0), delegation: true });
    const text = told.ok ? (told.value.delegation ?? "") : "";
    const verified = await verifyToken(text, edge.sessionKey.verifier, toEpochSeconds(edge.now()));
    expect(verified).toMatchObject({
      ok: true,
      value: {
        subject: identity.subject,
        node: `${identity.node}.~researcher`,
        clientId: `${edge.issuer}/agents/researcher`,
        agents: new Set(["catalog"]),
      },
    });
    const none = await registered(["researcher"]);
    expect(await authority.admit({ handle: none.handle, cost: micros(0), delegation: true })).toMatchObject({
      value: { delegation: null },
    });
  });

  test("a cost that is none, or more than a message may cost", async () => {
    const { given, handle } = await registered();
    for (const cost of [-1, 0.5, NaN, 201, Infinity, "1", null, -0])
      expect(await reasonOf(authority.admit({ handle, cost: cost as Micros, delegation: false }))).toBe(
        "hold_mismatch",
      );
    expect(await budgetOf(given)).toEqual({ settled: 0, held: 0 });
  });

  test("no handle, another's, an altered one, and one of a socket that has closed", async () => {
    const { handle, given } = await registered();
    const ask = (text: unknown, as = authority) =>
      reasonOf(as.admit({ handle: text as string, cost: micros(1), delegation: false }));
    expect(await ask(handle, authorityOf("other-worker"))).toBe("token_invalid");
    const [payload, mac] = handle.split(".") as [string, string];
    const other = encodeObject({ ...decodeObject(payload)?.value, end: Date.now() * 2 });
    for (const bad of [`${other}.${mac}`, payload, `${handle}.x`, "", "a.b", null, {}])
      expect(await ask(bad)).toBe("token_invalid");
    expect(await ask(handle)).toBe("ok");
    expect(await authority.disconnect({ handle, code: 1000 })).toMatchObject({ ok: true });
    expect(await ask(handle)).toBe("hold_mismatch");
    await end(given);
  });

  test("a message of a session that has ended is not served", async () => {
    const { handle, given } = await registered();
    await end(given);
    const told = await reasonOf(authority.admit({ handle, cost: micros(1), delegation: false }));
    expect(["ended", "hold_mismatch"]).toContain(told);
  });
});

test("a handle outlives the secret it was sealed under, for as long as that one verifies", async () => {
  const { handle } = await registered();
  const rotated = async (also: string) => {
    const ctx = Object.assign(createExecutionContext(), { props: { worker: "legate-agents" } });
    const LEGATE_SECRET = encodeBase64url(crypto.getRandomValues(new Uint8Array(32)));
    const asked = new Authority(ctx, { ...env, LEGATE_SECRET, LEGATE_SECRET_ALSO: also } as never);
    return asked.admit({ handle, cost: micros(1), delegation: false });
  };
  expect(await rotated(env.LEGATE_SECRET)).toMatchObject({ ok: true });
  expect(await rotated("")).toMatchObject({ ok: false, denial: { reason: "token_invalid" } });
});

describe("charge", () => {
  type Charge = Parameters<AuthorityServiceRpc["charge"]>[0];
  const charge = (proof: object, amount: unknown, name: unknown = id(), as = authority) =>
    as.charge({ ...proof, id: name, micros: amount } as Charge);

  test("a socket's messages cost more than they were admitted at: at once, one by one, up to the last unit", async () => {
    const { given, handle } = await registered();
    expect(await authority.admit({ handle, cost: micros(200), delegation: false })).toMatchObject({ ok: true });
    const name = id();
    const first = { ok: true, value: { charged: 500, held: 0, remaining: 500 } };
    expect(await charge({ handle }, 300, name)).toMatchObject(first);
    expect(await charge({ handle }, 300, name)).toMatchObject(first);
    expect(await reasonOf(charge({ handle }, 301, name))).toBe("idempotency_conflict");
    expect(await budgetOf(given)).toEqual({ settled: 500, held: 0 });
    expect(await reasonOf(charge({ handle }, 501))).toBe("budget_exhausted");
    expect(await charge({ handle }, 500)).toMatchObject({ value: { charged: 1_000, remaining: 0 } });
    expect(await charge({ handle }, 300, name)).toMatchObject({ ok: true, value: { charged: 1_000 } });
    expect(await budgetOf(given)).toEqual({ settled: 1_000, held: 0 });
  });

  test("racing on one socket, no more than there is", async () => {
    const { given, handle } = await registered();
    const told = await Promise.all(Array.from({ length: 15 }, () => reasonOf(charge({ handle }, 90))));
    expect(told.filter((reason) => reason === "ok")).toHaveLength(11);
    expect(told.filter((reason) => reason === "budget_exhausted")).toHaveLength(4);
    expect(await budgetOf(given)).toEqual({ settled: 990, held: 0 });
  });

  test("what is no cost, no charge's name, another Worker's socket, one that has closed and one that was stopped", async () => {
    const { given, handle, envelope } = await registered();
    for (const amount of [-1, 0.5, NaN, Infinity, "1", null, -0, 2 ** 53])
      expect(await reasonOf(charge({ handle }, amount))).toBe("hold_mismatch");
    for (const name of ["", "short", "x".repeat(65), 7, null])
      expect(await reasonOf(charge({ handle }, 1, name))).toBe("token_invalid");
    expect(await reasonOf(charge({ handle }, 1, id(), authorityOf("other-worker")))).toBe("token_invalid");
    expect(await reasonOf(charge({ handle: envelope }, 1))).toBe("token_invalid");
    expect(await reasonOf(charge({ handle: null }, 1))).toBe("token_invalid");
    expect(await reasonOf(charge({}, 1))).toBe("token_invalid");
    const closed = await registered();
    await authority.disconnect({ handle: closed.handle, code: 1000 });
    expect(await reasonOf(charge({ handle: closed.handle }, 1))).toBe("hold_mismatch");
    await end(given);
    expect(["ended", "hold_mismatch"]).toContain(await reasonOf(charge({ handle }, 1)));
    expect(await budgetOf(given)).toEqual({ settled: 0, held: 0 });
  });
});

describe("settle", () => {
  test("by the agent that served the call, once, past the envelope's end", async () => {
    const { given, envelope, identity } = await called();
    expect(await budgetOf(given)).toEqual({ settled: 0, held: 200 });
    const [key] = edge.identityKeys.get("legate-agents") ?? [];
    if (key === undefined) throw new Error("no key");
    const late = await sealIdentity(key, { ...identity, expires: 1 as never });
    expect(await authority.settle({ identity: late, cost: micros(70), failed: false })).toMatchObject({
      ok: true,
      value: { cost: 70, repeated: false },
    });
    expect(await authority.settle({ identity: envelope, cost: micros(70), failed: false })).toMatchObject({
      value: { repeated: true },
    });
    expect(await reasonOf(authority.settle({ identity: envelope, cost: micros(71), failed: false }))).toBe(
      "hold_mismatch",
    );
    expect(await budgetOf(given)).toEqual({ settled: 70, held: 0 });
  });

  test("never more than was held, never what is no cost, never for another Worker", async () => {
    const { given, envelope } = await called();
    for (const cost of [201, -1, 0.5, NaN, "1", null])
      expect(await reasonOf(authority.settle({ identity: envelope, cost: cost as Micros, failed: false }))).toBe(
        "hold_mismatch",
      );
    const other = authorityOf("other-worker");
    expect(await reasonOf(other.settle({ identity: envelope, cost: micros(1), failed: false }))).toBe("token_invalid");
    expect(await budgetOf(given)).toEqual({ settled: 0, held: 200 });
  });
});

test("a binding without props does nothing", async () => {
  const nobody = exports.Authority({ props: {} as never }) as unknown as AuthorityServiceRpc;
  expect(await reasonOf(nobody.register({ identity: "x", connection: id(), object: "x" }))).toBe("internal");
});

test("nothing but agents is reached over the binding, and nobody's cookie", async () => {
  const binding = exports.Authority({ props: { worker: "legate-agents" } });
  const { cookie, token } = await open();
  const statuses = [];
  for (const path of ["/healthz", "/sessions", "/oauth/token", "/agents/nobody", "/agents/researcher"]) {
    const headers = { cookie: `__Host-legate=${cookie}`, "sec-fetch-site": "same-origin" };
    statuses.push((await binding.fetch(`${edge.issuer}${path}`, { headers })).status);
  }
  expect(statuses).toEqual([404, 404, 404, 404, 401]);
  const refused = await binding.fetch(`${edge.issuer}/agents/catalog`, bearer(token));
  expect([refused.status, (await refused.json<{ code: string }>()).code]).toEqual([403, "actor_not_allowed"]);
});

test("every code is explained, and no other word", async () => {
  expect(await authority.explain("budget_exhausted")).toMatch(/^The budget does not cover/);
  expect(await authority.explain("toString")).toBeNull();
  const denials = [
    "not_found",
    "operator_required",
    "authority_unavailable",
    "internal",
    "credentials_missing",
  ] as const;
  for (const reason of denials) expect(explainCode(denialToWire({ reason }).code)).not.toBeNull();
});
