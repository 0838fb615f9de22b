// SIGKILL to the whole server in the middle of two hundred operations, and a new start on the same state: what was
// acknowledged is there, what is repeated under its Idempotency-Key happens once, and the audit log in D1 has no gap.
import { createHash } from "node:crypto";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { Deployment } from "../support/conformance/deployment.ts";
import {
  answerOf,
  askUntil,
  CALL_COST,
  CALL_MOST,
  mixedOperations,
  type Kind,
  type Operation,
} from "../support/conformance/operations.ts";
import { Member, send, type Answer } from "../support/conformance/people.ts";

const OPERATIONS = 200;
const ANSWERS_BEFORE_THE_KILL = 100;
const AT_ONCE = 8;
const DELIVERED_WITHIN_MS = 20_000; // a delivery that the kill cut off is tried again after some seconds

interface Session {
  readonly id: string;
  readonly endedAt: number | null;
  readonly budget: { readonly cap: number };
}
interface AuditRow {
  readonly seq: number;
  readonly kind: string;
  readonly sessionId: string | null;
  readonly body: string;
  readonly hash: string;
}

let deployment: Deployment;
let operator: Member;
let members: Member[];
let operations: Operation[];
/** As they stood when the server died. */
let acknowledged: readonly (readonly [Operation, Answer])[];
let unknown: readonly Operation[];

beforeAll(async () => {
  deployment = await Deployment.start();
  operator = await Member.signUp(deployment.url, deployment.secrets["LEGATE_BOOTSTRAP"]);
  members = await Promise.all([1, 2, 3].map(() => Member.signUp(deployment.url)));
  operations = await mixedOperations(OPERATIONS, "crash", members);
  const { idle } = await askUntil(operations, ANSWERS_BEFORE_THE_KILL, AT_ONCE);
  const running = operations.filter(({ state }) => state === "unknown").length;
  await deployment.kill9();
  expect(running, "the kill hits operations under way").toBeGreaterThan(0);
  await idle;
  acknowledged = operations.flatMap((operation) => {
    const answer = answerOf(operation);
    return answer === null ? [] : [[operation, answer] as const];
  });
  unknown = operations.filter(({ state }) => state === "unknown");
  await deployment.restart();
}, 240_000);
afterAll(() => deployment.end());

const of = (kind: Kind) => acknowledged.filter(([operation]) => operation.kind === kind);
const sessionsOf = async (member: Member) =>
  (await member.browser.done("GET", "/sessions"))["sessions"] as readonly Session[];
const clientsOf = async (member: Member) =>
  (await member.browser.done("GET", "/oauth/clients"))["clients"] as readonly {
    client_id: string;
    client_name: string;
  }[];
const everyones = async <T>(list: (member: Member) => Promise<readonly T[]>) =>
  (await Promise.all(members.map(list))).flat();

describe("after the restart", () => {
  test("the run was what it should be: all kinds acknowledged, some unknown, some never asked", () => {
    expect(acknowledged.length).toBeGreaterThanOrEqual(ANSWERS_BEFORE_THE_KILL);
    for (const kind of ["register", "open", "call", "patch", "end"] as const) {
      const statuses = new Set(of(kind).map(([, { status }]) => status));
      expect(statuses.size, kind).toBeGreaterThan(0);
      expect([200, 201, 429]).toEqual(expect.arrayContaining([...statuses]));
      if (kind !== "call") expect(statuses.has(429)).toBe(false);
    }
    expect(operations.some(({ state }) => state === "waiting")).toBe(true);
  });

  test("nothing acknowledged is lost", async () => {
    const clients = new Set((await everyones(clientsOf)).map(({ client_id: id }) => id));
    for (const [, { body }] of of("register")) expect(clients).toContain(body["client_id"]);
    const sessions = new Map((await everyones(sessionsOf)).map((session) => [session.id, session]));
    for (const [{ mark }, { body }] of of("open"))
      expect(sessions.get(String(body["session"]))).toMatchObject({ endedAt: null, budget: { cap: mark } });
    for (const [{ mark, target }] of of("patch"))
      expect(sessions.get(target?.id ?? "")).toMatchObject({ endedAt: null, budget: { cap: mark } });
    for (const [{ target }] of of("end")) {
      expect(sessions.get(target?.id ?? "")?.endedAt).toEqual(expect.any(Number));
      const bearer = target?.token ?? "";
      expect((await send(`${deployment.url}/sessions/current`, "GET", { bearer })).body["code"]).toBe("session_ended");
      expect((await send(`${deployment.url}/agents/planner`, "GET", { bearer })).body["code"]).toBe("session_ended");
    }
  });

  test("what was spent is no less than acknowledged, and no more than attempted", async () => {
    const calls = operations.filter(({ kind }) => kind === "call");
    const targets = new Map(calls.flatMap(({ target }) => (target === null ? [] : [[target.id, target] as const])));
    for (const { id, token } of targets.values()) {
      const own = calls.filter(({ target, state }) => target?.id === id && state !== "waiting");
      const served = own.filter((operation) => answerOf(operation)?.status === 200).length;
      const { body } = await send(`${deployment.url}/sessions/current`, "GET", { bearer: token });
      const { cap, remaining } = body["budget"] as { readonly cap: number; readonly remaining: number };
      const spent = cap - remaining;
      expect(spent).toBeGreaterThanOrEqual(served * CALL_COST);
      // A lone call is a slice of one call; further ones may have died with a slice of twice what was used before.
      const attempted = own.length <= 1 ? own.length : 1 + 2 * own.length;
      expect(spent).toBeLessThanOrEqual(Math.min(cap, attempted * CALL_MOST));
    }
  });
});

describe("repeated under the same Idempotency-Key", () => {
  test("what was acknowledged is told again, word for word where it names something", async () => {
    for (const [{ kind, ask }, first] of acknowledged.filter(([{ kind }]) => kind !== "call")) {
      const { status, body } = await ask();
      expect(status).toBe(first.status);
      if (kind === "register") expect(body).toEqual(first.body);
      if (kind === "open") expect(body["session"]).toBe(first.body["session"]);
      if (kind === "end") expect(body["endedAt"]).toBe(first.body["endedAt"]);
    }
  });

  test("all of it has happened once: the unknown, and what was never asked", async () => {
    for (const operation of unknown) if (operation.kind !== "call") operation.state = await operation.ask();
    await (
      await askUntil(operations, OPERATIONS, AT_ONCE)
    ).idle;
    const done = operations.filter(({ kind }) => kind !== "call");
    expect(
      done.map((operation) => answerOf(operation)?.status).filter((status) => status !== 200 && status !== 201),
    ).toEqual([]);

    const clients = await everyones(clientsOf);
    const sessions = await everyones(sessionsOf);
    for (const { kind, mark, target } of done) {
      if (kind === "register")
        expect(clients.filter(({ client_name: name }) => name === `agent ${mark}`)).toHaveLength(1);
      if (kind === "open") expect(sessions.filter(({ budget }) => budget.cap === mark)).toHaveLength(1);
      if (kind === "patch") expect(sessions.find(({ id }) => id === target?.id)?.budget.cap).toBe(mark);
      if (kind === "end") expect(sessions.find(({ id }) => id === target?.id)?.endedAt).toEqual(expect.any(Number));
    }
  });
});

/** All rows that D1 has of a member, first one first. */
async function auditOf(member: Member): Promise<AuditRow[]> {
  const rows: AuditRow[] = [];
  for (let cursor: string | null = ""; cursor !== null;) {
    const page = `/admin/agents/audit?user=${member.id}&limit=100${cursor === "" ? "" : `&cursor=${encodeURIComponent(cursor)}`}`;
    const answer = await operator.browser.done("GET", page);
    rows.push(...(answer["rows"] as AuditRow[]));
    cursor = answer["cursor"] as string | null;
  }
  return rows.sort((a, b) => a.seq - b.seq);
}

test("D1 has every row of every member's log once, in order, without a gap, under an unbroken chain of hashes", async () => {
  for (const member of members) {
    const own = operations.filter((operation) => operation.member === member);
    const count = (kind: Kind) => own.filter((operation) => operation.kind === kind).length;
    const sessions = await sessionsOf(member);
    const has = async (kind: string) => (await auditOf(member)).filter((row) => row.kind === kind);
    const arrives = (kind: string, rows: number) =>
      expect.poll(async () => (await has(kind)).length, { timeout: DELIVERED_WITHIN_MS, interval: 250 }).toBe(rows);
    await arrives("agent.registered", count("register"));
    await arrives("session.opened", sessions.length);
    await arrives("cap.changed", count("patch"));
    await arrives("session.ended", sessions.filter(({ endedAt }) => endedAt !== null).length);
    expect(new Set((await has("session.opened")).map(({ sessionId }) => sessionId))).toEqual(
      new Set(sessions.map(({ id }) => id)),
    );

    let before = member.id;
    for (const [i, { seq, body, hash }] of (await auditOf(member)).entries()) {
      expect(seq).toBe(i + 1);
      expect(hash).toBe(createHash("sha256").update(`${before}\n${body}`).digest("hex"));
      before = hash;
    }
    const { sessions: rows } = await operator.browser.done("GET", `/admin/agents/sessions?user=${member.id}&limit=100`);
    const listed = rows as readonly { id: string; endedAt: number | null }[];
    expect(listed.map(({ id }) => id).toSorted()).toEqual(sessions.map(({ id }) => id).toSorted());
    for (const { id, endedAt } of sessions) expect(listed.find((row) => row.id === id)?.endedAt).toBe(endedAt);
  }
}, 240_000);
