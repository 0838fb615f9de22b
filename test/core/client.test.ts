// The client by itself: what it signs, when it renews, and what it never does. The server's side is a function.
import { createLocalJWKSet, jwtVerify } from "jose";
import { afterEach, beforeEach, describe, expect, test, vi } from "vitest";
import { encodeObject } from "../../core/token/format.ts";
import { makeKey, type KeyPair } from "../../scripts/tour/keys.ts";
import { Legate, LegateError, type AgentSession } from "../../sdk/client.ts";

const ISSUER = "https://legate.example";
const CLIENT = "agt_aaaaaaaaaaaaaaaaaaaa_bbbbbbbbbbbbbbbbbbbbbbbbbbbb";
const OTHER = "agt_cccccccccccccccccccc_dddddddddddddddddddddddddddd";
const GID = "ses_aaaaaaaaaaaaaaaaaaaa_eeeeeeeeeeeeeeeeeeeeeeeeeeee";

interface Asked {
  readonly path: string;
  readonly method: string;
  readonly form: URLSearchParams;
  readonly authorization: string | null;
}

let asked: Asked[] = [];
let minted = 0;
let failing: Response | null = null;
/** A token that is refused, with whatever was narrowed from it. */
let refusing: string | null = null;

function mint(lifeSeconds = 900): string {
  const iat = Math.floor(Date.now() / 1000);
  const claims = { gid: GID, iat, exp: iat + lifeSeconds, jti: `t${++minted}` };
  return `${encodeObject({ alg: "HS256", typ: "at+jwt", kid: "AAAAAAAA" })}.${encodeObject(claims)}.${"A".repeat(43)}`;
}

beforeEach(() => {
  asked = [];
  failing = null;
  refusing = null;
  vi.useFakeTimers({ toFake: ["Date"], now: 1_800_000_000_000 });
  vi.stubGlobal("fetch", async (url: string | URL, init: RequestInit) => {
    const form = init.body instanceof URLSearchParams ? init.body : new URLSearchParams();
    const { pathname } = new URL(url);
    asked.push({
      path: pathname,
      method: init.method ?? "GET",
      form,
      authorization: new Headers(init.headers).get("authorization"),
    });
    await Promise.resolve();
    if (failing !== null && pathname.startsWith("/oauth/")) return failing.clone();
    const payload = refusing?.split(".")[1];
    if (payload !== undefined && new Headers(init.headers).get("authorization")?.includes(payload))
      return Response.json({ success: false, code: "invalid_token" }, { status: 401 });
    return Response.json(pathname === "/oauth/token" ? { access_token: mint() } : {});
  });
});
afterEach(() => {
  vi.useRealTimers();
  vi.unstubAllGlobals();
});

const open = (key: KeyPair, more: object = {}): Promise<AgentSession> =>
  Legate.open({ issuer: ISSUER, clientId: CLIENT, key: key.privateKey, ...more });

const tokens = () => asked.filter(({ path }) => path === "/oauth/token");
const blockOf = (token: string) =>
  JSON.parse(Buffer.from(token.split(".").at(-2) ?? "", "base64url").toString()) as object;

describe("opening", () => {
  test.each(["ES256", "Ed25519"] as const)("signs one fresh assertion with %s, as RFC 7523 wants it", async (kind) => {
    const key = await makeKey(kind);
    await open(key, { scope: ["plan", "research"], budget: 20_000 });
    const form = Object.fromEntries(asked[0]?.form ?? []);
    expect(form).toMatchObject({ grant_type: "client_credentials", scope: "plan research", legate_budget: "20000" });
    const keys = createLocalJWKSet({ keys: [{ ...key.publicJwk }] });
    const options = { issuer: CLIENT, subject: CLIENT, audience: ISSUER, currentDate: new Date() };
    const { payload } = await jwtVerify(form["client_assertion"] ?? "", keys, options);
    expect(Number(payload.exp) - Number(payload.iat)).toBeLessThanOrEqual(60);
    expect(payload.jti).toMatch(/^[\w-]{22}$/);
  });

  test("takes a private JWK too, and no other key", async () => {
    const pair = await crypto.subtle.generateKey({ name: "ECDSA", namedCurve: "P-256" }, true, ["sign", "verify"]);
    const jwk = (await crypto.subtle.exportKey("jwk", pair.privateKey)) as never;
    await Legate.open({ issuer: ISSUER, clientId: CLIENT, key: jwk });
    const rsa = { kty: "RSA", crv: "", x: "", d: "" };
    await expect(Legate.open({ issuer: ISSUER, clientId: CLIENT, key: rsa })).rejects.toThrow("P-256");
    await expect(Legate.open({ issuer: ISSUER, clientId: CLIENT, key: pair.publicKey })).rejects.toThrow("private");
  });

  test("tells a refusal by its code", async () => {
    failing = Response.json({ error: "invalid_scope", error_description: "Too much." }, { status: 400 });
    const error: unknown = await open(await makeKey("ES256")).catch((reason: unknown) => reason);
    expect(error).toBeInstanceOf(LegateError);
    expect(error).toMatchObject({ code: "invalid_scope", status: 400, message: "Too much.", retryAfterSeconds: null });
  });
});

describe("a window", () => {
  test("is renewed once however many ask, with a fresh assertion, before it ends", async () => {
    const session = await open(await makeKey("ES256"));
    const first = await session.token();
    vi.setSystemTime(Date.now() + 500_000);
    expect(await session.token()).toBe(first);
    vi.setSystemTime(Date.now() + 150_000);
    const renewed = await Promise.all(Array.from({ length: 10 }, () => session.token()));
    expect(new Set(renewed).size).toBe(1);
    expect(renewed[0]).not.toBe(first);
    expect(tokens()).toHaveLength(2);
    const form = tokens()[1]?.form;
    expect([form?.get("subject_token"), form?.get("scope")]).toEqual([first, null]);
    expect(form?.get("client_assertion")).not.toBe(tokens()[0]?.form.get("client_assertion"));
  });

  test("whose token is refused is renewed before the next call, once: a lowered tier takes scopes out of a new one", async () => {
    const session = await open(await makeKey("ES256"));
    const child = await session.spawn("helper", {});
    const first = await session.token();
    refusing = first;
    expect((await child.fetch("/agents/planner/default/chat")).status).toBe(401);
    const [second] = await Promise.all([session.token(), child.token()]);
    expect(second).not.toBe(first);
    expect(tokens()).toHaveLength(2);
    expect((await child.fetch("/agents/planner/default/chat")).status).toBe(200);
    // A session that is over is refused for ever: whoever calls on asks for a new token once, not each time.
    refusing = second ?? "";
    failing = Response.json({ error: "invalid_grant", error_description: "It has ended." }, { status: 400 });
    for (let i = 0; i < 4; i++) expect((await session.fetch("/agents/planner/default/chat")).status).toBe(401);
    expect(tokens()).toHaveLength(3);
  });

  test("whose renewal fails serves to its end, and then tells why", async () => {
    const session = await open(await makeKey("ES256"));
    const first = await session.token();
    failing = Response.json({ error: "invalid_grant", error_description: "It has ended." }, { status: 400 });
    vi.setSystemTime(Date.now() + 800_000);
    expect(await session.token()).toBe(first);
    vi.setSystemTime(Date.now() + 100_001);
    await expect(session.token()).rejects.toMatchObject({ code: "invalid_grant" });
    failing = null;
  });
});

describe("handing on", () => {
  test("a sub-agent stays the same node when its parent renews", async () => {
    const session = await open(await makeKey("ES256"));
    const child = await session.spawn("summarizer", { scope: ["research"], budget: 10 });
    const before = await child.token();
    const { node } = child;
    vi.setSystemTime(Date.now() + 700_000);
    const after = await child.token();
    expect(after).not.toBe(before);
    expect(blockOf(after)).toEqual(blockOf(before));
    expect(child.node).toBe(node);
    expect(node).toMatch(new RegExp(`^${GID}\\.[\\w-]{12}$`));
    expect(blockOf(after)).toMatchObject({ act: "summarizer", scope: "research", budget: 10 });
    expect(tokens()).toHaveLength(2);
  });

  test("a delegation names who may redeem it, and asks nobody", async () => {
    const session = await open(await makeKey("ES256"));
    const delegation = await session.delegate(OTHER, { expires: new Date(1_800_000_060_500), agents: ["planner"] });
    expect(blockOf(delegation)).toMatchObject({ for: OTHER, exp: 1_800_000_060, agents: ["planner"] });
    expect(asked).toHaveLength(1);
    await expect(session.spawn("Not A Name")).rejects.toThrow(TypeError);
  });

  test("an end is told for the node alone", async () => {
    const session = await open(await makeKey("ES256"));
    const child = await session.spawn("reader");
    await child.end();
    expect(asked.at(-1)).toMatchObject({ method: "DELETE", path: `/sessions/${child.node}` });
    await session.end();
    expect(asked.at(-1)).toMatchObject({ method: "POST", path: "/oauth/revoke" });
  });
});

test.each(["https://elsewhere.example/agents/a", "//elsewhere.example/x", "http://legate.example/x"])(
  "a token does not go to %s",
  async (target) => {
    const session = await open(await makeKey("ES256"));
    await expect(session.fetch(target)).rejects.toMatchObject({ code: "foreign_origin" });
    await expect(session.connect(target)).rejects.toMatchObject({ code: "foreign_origin" });
    expect(asked).toHaveLength(1);
  },
);

test("a call carries the token, and its refusal is the caller's to read", async () => {
  const session = await open(await makeKey("ES256"));
  const answer = await session.fetch("/agents/planner/default/history");
  expect(answer.ok).toBe(true);
  expect(asked.at(-1)).toMatchObject({ authorization: `Bearer ${await session.token()}` });
});
