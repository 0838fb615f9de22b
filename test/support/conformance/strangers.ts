// What a stranger sends: ids of every kind that nobody was given, tokens and assertions that nobody signed, at every
// route there is. Drawn from a seed, so that a failure replays.
import { createHmac } from "node:crypto";
import { exportJWK, generateKeyPair, SignJWT } from "jose";
import { base64url, forge, kidOf } from "../forge.ts";
import { dice, type Dice } from "../good-token.ts";
import { UPGRADE, type WireRequest } from "./wire.ts";

/** What a stranger may have seen of real ones: ids are no secrets. */
export interface Seen {
  readonly issuer: string;
  readonly user: string;
  readonly agent: string;
  readonly session: string;
  /** An assertion that was used. */
  readonly usedAssertion: string;
}

const BASE32 = "abcdefghijklmnopqrstuvwxyz234567";
const ASSERTION_TYPE = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer";
const FORM = { "content-type": "application/x-www-form-urlencoded" };
const JSON_TYPE = { "content-type": "application/json" };

const part = (d: Dice, length: number) => Array.from(d.random(length), (byte) => BASE32[byte & 31]).join("");
const inventedUser = (d: Dice) => `usr_${part(d, 28)}`;
/** Below an invented user, or below a real one. */
const owned = (d: Dice, kind: string, seen: Seen) =>
  `${kind}_${d.pick([part(d, 20), seen.user.slice(4, 24)])}_${part(d, 28)}`;
const nodeOf = (d: Dice, seen: Seen) => `${d.pick([owned(d, "ses", seen), seen.session])}.${base64url(d.random(9))}`;

function inventedId(d: Dice, seen: Seen): string {
  return d.pick([
    () => inventedUser(d),
    () => owned(d, d.pick(["ses", "agt", "hld", "rct"]), seen),
    () => nodeOf(d, seen),
    () => seen.session,
    () => seen.agent,
    () => d.pick(["current", "1", "%2e%2e", "x".repeat(500), "ses_", "__proto__", "..%2fusers"]),
  ])();
}

function forgedToken(d: Dice, seen: Seen): string {
  const key = d.random(32);
  const now = Math.floor(Date.now() / 1000);
  const sub = d.pick([seen.user, inventedUser(d)]);
  const agent = d.pick([seen.agent, owned(d, "agt", seen)]);
  const claims = {
    iss: seen.issuer,
    aud: seen.issuer,
    sub,
    iat: now,
    exp: now + 3_600,
    jti: base64url(d.random(16)),
    gid: d.pick([seen.session, owned(d, "ses", seen)]),
    scope: "plan research",
    client_id: agent,
    act: { sub: agent },
    tier: "admin",
  };
  const header = { alg: "HS256", typ: "at+jwt", kid: d.pick([kidOf(key), base64url(d.random(6))]) };
  return d.pick([
    () => forge(key, header, claims),
    () => forge(key, header, claims, [{ n: base64url(d.random(9)) }]),
    () => forge(key, { ...header, alg: "none" }, claims),
    () => `${base64url(JSON.stringify(header))}.${base64url(JSON.stringify(claims))}.`,
    () => base64url(d.random(120)),
  ])();
}

/** Nothing, a Bearer, a cookie, or both, and whatever else might be believed. */
function proof(d: Dice, seen: Seen): Record<string, string> {
  const cookie = () => ({ cookie: `__Host-legate=${forgedToken(d, seen)}`, origin: seen.issuer });
  const bearer = () => ({ authorization: `Bearer ${forgedToken(d, seen)}` });
  return d.pick([
    () => ({}),
    bearer,
    cookie,
    () => ({ ...bearer(), ...cookie() }),
    () => ({ "legate-identity": base64url(d.random(90)), "x-auth-user": seen.user }),
    () => ({ "x-partykit-props": base64url("{}"), "x-agents-lifecycle-props": base64url("{}"), ...bearer() }),
    () => ({ "cf-access-jwt-assertion": forgedToken(d, seen), "x-partykit-room": seen.user }),
  ])();
}

/** Assertions of which the signature is nobody's; a few keys are enough. */
async function forger(seen: Seen): Promise<(d: Dice) => Promise<string>> {
  const pairs = await Promise.all([generateKeyPair("ES256"), generateKeyPair("EdDSA"), generateKeyPair("ES256")]);
  const publicKey = await exportJWK(pairs[0].publicKey);
  return async (d) => {
    const client = d.pick([seen.agent, owned(d, "agt", seen), inventedUser(d), "legate", ""]);
    const now = Math.floor(Date.now() / 1000);
    const claims = {
      iss: client,
      sub: client,
      aud: seen.issuer,
      iat: now,
      exp: now + 60,
      jti: base64url(d.random(16)),
    };
    if (d.below(8) === 0) return seen.usedAssertion;
    if (d.below(8) === 0) {
      const head = `${base64url('{"alg":"HS256"}')}.${base64url(JSON.stringify(claims))}`;
      return `${head}.${createHmac("sha256", JSON.stringify(publicKey)).update(head).digest("base64url")}`;
    }
    const at = d.below(pairs.length);
    return new SignJWT(claims)
      .setProtectedHeader({ alg: at === 1 ? "EdDSA" : "ES256" })
      .sign((pairs[at] as (typeof pairs)[0]).privateKey);
  };
}

async function oauthCall(d: Dice, seen: Seen, assertion: string): Promise<WireRequest> {
  const form = new URLSearchParams({ client_assertion_type: ASSERTION_TYPE, client_assertion: assertion });
  const path = d.pick(["/oauth/token", "/oauth/token", "/oauth/introspect", "/oauth/revoke"]);
  if (path === "/oauth/token") {
    form.set("grant_type", d.pick(["client_credentials", "urn:ietf:params:oauth:grant-type:token-exchange", "x"]));
    if (d.below(2) === 0) form.set("subject_token", forgedToken(d, seen));
    if (d.below(2) === 0) form.set("scope", "plan");
  } else form.set("token", forgedToken(d, seen));
  if (d.below(4) === 0) form.set("client_id", seen.agent);
  return { method: "POST", path, headers: FORM, body: form.toString() };
}

function agentCall(d: Dice, seen: Seen): WireRequest {
  const slug = d.pick([
    "planner",
    "researcher",
    "catalog",
    "session-authority",
    "SessionAuthority",
    "nobody",
    "AUTHORITY",
  ]);
  const instance = d.pick(["default", seen.user, inventedUser(d), part(d, 12), "a.b", "%00", "sub"]);
  const rest = d.pick(["", "/lookup?q=coral", "/chat", "/sub/planner/x", "?_pk=a&__agents_transport=capnweb"]);
  const isUpgrade = d.below(3) === 0;
  const headers = { ...proof(d, seen), ...(isUpgrade ? UPGRADE : {}) };
  const method = isUpgrade ? "GET" : d.pick(["GET", "POST", "PUT", "DELETE", "OPTIONS"]);
  return { method, path: `/agents/${slug}/${instance}${rest}`, headers };
}

function otherCall(d: Dice, seen: Seen): WireRequest {
  const id = inventedId(d, seen);
  const headers = { ...JSON_TYPE, ...proof(d, seen) };
  const [method, path, body] = d.pick<() => [string, string, string?]>([
    () => ["GET", `/sessions/${id}`],
    () => ["DELETE", `/sessions/${id}`],
    () => ["PATCH", `/sessions/${id}`, '{"budget":1000000}'],
    () => ["GET", `/sessions/${id}/socket`],
    () => ["GET", "/sessions"],
    () => ["GET", "/sessions/current"],
    () => ["POST", "/sessions", JSON.stringify({ clientId: id, budget: 1 })],
    () => ["POST", "/sessions/ticket", JSON.stringify({ target: id })],
    () => ["POST", "/holds", JSON.stringify({ token: forgedToken(d, seen), cost: 1, ttlSeconds: 9 })],
    () => ["POST", `/holds/${id}/settle`, '{"cost":0}'],
    () => ["GET", `/receipts/${id}`],
    () => ["GET", `/federation/aws/${id}`],
    () => ["GET", `/oauth/clients/${id}`],
    () => ["PATCH", `/oauth/clients/${id}`, '{"legate_budget":1}'],
    () => ["DELETE", `/oauth/clients/${id}`],
    () => ["POST", "/oauth/register", '{"client_name":"x","jwks":{"keys":[{}]}}'],
    () => ["GET", `/admin/agents/sessions/${id}`],
    () => ["DELETE", `/admin/agents/sessions/${id}`, '{"reason":"x"}'],
    () => ["GET", `/admin/agents/sessions?user=${id}`],
    () => ["GET", `/admin/agents/audit?session=${id}`],
    () => ["POST", `/admin/users/${id}/${d.pick(["stop", "disable", "enable"])}`, '{"reason":"x"}'],
    () => ["PATCH", `/admin/users/${id}`, '{"tier":"admin","reason":"x"}'],
    () => ["GET", "/auth/user"],
    () => ["POST", "/auth/logout"],
    () => ["GET", `/${id}`],
    () => ["GET", `/parties/main/${id}`],
    () => ["GET", `/console/${id}`],
  ])();
  return { method, path, headers, ...(body === undefined ? {} : { body }) };
}

/** @returns that many requests; each comes from another address, so that few are turned away before they are read */
export async function strangersRequests(count: number, seed: string, seen: Seen): Promise<WireRequest[]> {
  const assertionFor = await forger(seen);
  const requests: WireRequest[] = [];
  for (let i = 0; i < count; i++) {
    const d = dice(`${seed}/${i}`);
    const kind = i % 4;
    const call =
      kind === 0
        ? await oauthCall(d, seen, await assertionFor(d))
        : kind === 1
          ? agentCall(d, seen)
          : otherCall(d, seen);
    const address = `10.${d.below(256)}.${d.below(256)}.${1 + d.below(254)}`;
    requests.push({ ...call, headers: { ...call.headers, "cf-connecting-ip": address } });
  }
  return requests;
}
