// Every route of the ways in that takes a body, and every body that must not get past it: 400, 413 or 415, with a clear
// sentence, and nothing happens.
import { beforeAll, expect, test } from "vitest";
import { BODY_MAX_BYTES, JSON_DEPTH_MAX } from "../../core/limits.ts";
import { freshName, registerAgent, signUp, type Member } from "../support/workerd/ways-in.ts";

let operator: Member;
let session: string;
let client: string;
beforeAll(async () => {
  operator = await signUp("admin");
  client = (await registerAgent(operator)).id;
  session = (await operator.browser.send("/sessions", { json: {} })).body.session;
});

const ROUTES: readonly (readonly [method: string, path: () => string, good: object])[] = [
  ["POST", () => "/auth/register", { username: freshName(), password: "a lantern over the harbour" }],
  ["POST", () => "/auth/login", { username: freshName(), password: "a lantern over the harbour" }],
  ["POST", () => "/oauth/register", { client_name: "a", jwks: { keys: [{}] } }],
  ["PATCH", () => `/oauth/clients/${client}`, { legate_budget: 1 }],
  ["POST", () => "/sessions", {}],
  ["PATCH", () => `/sessions/${session}`, { budget: 1 }],
  ["DELETE", () => `/admin/agents/sessions/${session}`, { reason: "x" }],
  ["POST", () => `/admin/users/${operator.id}/stop`, { reason: "x" }],
  ["POST", () => `/admin/users/${operator.id}/disable`, { reason: "x" }],
  ["POST", () => `/admin/users/${operator.id}/enable`, { reason: "x" }],
  ["PATCH", () => `/admin/users/${operator.id}`, { tier: "admin", reason: "x" }],
];

const nested = (levels: number) => "[".repeat(levels) + "]".repeat(levels);
const JSON_TYPE = "application/json";

const BODIES: readonly (readonly [
  what: string,
  type: string,
  body: (good: object) => string | Uint8Array<ArrayBuffer>,
  status: number,
])[] = [
  ["not JSON", JSON_TYPE, () => "{", 400],
  ["two values", JSON_TYPE, () => "{} {}", 400],
  ["no object", JSON_TYPE, () => "[]", 400],
  ["null", JSON_TYPE, () => "null", 400],
  ["a text", JSON_TYPE, () => '"x"', 400],
  ["an unknown member", JSON_TYPE, (good) => JSON.stringify({ ...good, admin: true }), 400],
  [
    "a member of the prototype",
    JSON_TYPE,
    (good) => `{"__proto__":{"tier":"admin"},${JSON.stringify({ ...good, x: 1 }).slice(1)}`,
    400,
  ],
  ["not UTF-8", JSON_TYPE, () => Uint8Array.of(0x22, 0xff, 0x22), 400],
  ["forty levels", JSON_TYPE, () => `{"scope":${nested(40)}}`, 400],
  ["one level too many", JSON_TYPE, () => nested(JSON_DEPTH_MAX + 1), 400],
  ["a byte too many", JSON_TYPE, () => JSON.stringify("x".repeat(BODY_MAX_BYTES - 1)), 413],
  ["a megabyte", JSON_TYPE, () => "x".repeat(1 << 20), 413],
  ["a form", "application/x-www-form-urlencoded", () => "username=a&password=b", 415],
  ["text", "text/plain", (good) => JSON.stringify(good), 415],
  ["no type at all", "", (good) => JSON.stringify({ ...good, x: 1 }), 415],
];

test.each(ROUTES.flatMap(([method, path, good]) => BODIES.map((row) => [method, path, good, ...row] as const)))(
  "%s %s %o: %s",
  async (method, path, good, _, type, body, status) => {
    const bytes = body(good);
    const content = typeof bytes === "string" ? new TextEncoder().encode(bytes) : bytes;
    const headers: Record<string, string> = type === "" ? {} : { "content-type": type };
    const answer = await operator.browser.send(path(), { method, body: content, headers });
    const said = answer.body as Record<string, unknown>;
    const sentence = String(said["error_description"] ?? said["error"]);
    expect([answer.status, sentence]).toEqual([status, expect.stringMatching(/^[A-Z"].*\.$/)]);
    expect(answer.headers.getSetCookie()).toEqual([]);
  },
);

test("none of it had an effect", async () => {
  expect((await operator.browser.send(`/sessions/${session}`)).body.endedAt).toBeNull();
  expect((await operator.browser.send("/oauth/clients")).body.clients[0].legate_budget).toBe(1_000_000);
});
