// Tokens whose claims are wrong, each under a good MAC; and those that have ended.
import type { EpochSeconds } from "../../core/ids.ts";
import { AGENTS_MAX, SCOPES_MAX, TOKEN_LIFE_MAX_SECONDS } from "../../core/limits.ts";
import { append, base64url, forge, signSegments } from "../../test/support/forge.ts";
import * as fixed from "../../test/support/deployment.ts";
import { claims, expired, HEADER, invalid, key, narrow, plain, type InvalidVector } from "./shared.ts";

const { ALICE, AUDIENCE, BOB, ISSUER, KEYS, NOW, PLANNER, SEARCHER, SESSION, claimsOf } = fixed;
const [header, payload] = plain.split(".") as [string, string];

/** What an issuer with a defect, or an audience's key, could sign. */
export async function invalidClaims(): Promise<InvalidVector[]> {
  const vectors: InvalidVector[] = [];
  const add = (...args: Parameters<typeof invalid>) => vectors.push(invalid(...args));
  const ended = (...args: Parameters<typeof expired>) => vectors.push(expired(...args));
  // Claims, each under a good MAC.
  const act = { sub: PLANNER };
  const without = (name: string) => Object.fromEntries(Object.entries(claims).filter(([member]) => member !== name));
  for (const name of ["sub", "iat", "exp", "jti", "gid", "scope", "client_id", "act"])
    add(`claims: no ${name}`, "claims", forge(key, HEADER, without(name)));
  add("claims: no iss", "issuer", forge(key, HEADER, without("iss")));
  add("claims: no aud", "audience", forge(key, HEADER, without("aud")));
  for (const [name, change] of Object.entries({
    "an unknown one": { admin: true },
    nbf: { nbf: NOW },
    "iat a string": { iat: String(NOW) },
    "iat a fraction": { iat: NOW + 0.5 },
    "exp a string": { exp: String(NOW + 300) },
    "exp null": { exp: null },
    "exp in milliseconds": { exp: NOW * 1000 },
    "exp negative": { exp: -1 },
    "exp beyond 2^53": { exp: 2 ** 53 },
    "a window of 1 h and a second": { exp: NOW + TOKEN_LIFE_MAX_SECONDS + 1 },
    "sub no user": { sub: PLANNER, client_id: PLANNER },
    "sub another user than gid's": { sub: BOB },
    "gid another user's": { gid: fixed.BOBS_SESSION },
    "gid no session": { gid: PLANNER },
    "gid with an empty segment": { gid: `${SESSION}.` },
    "gid with a short segment": { gid: `${SESSION}.AAAA` },
    "gid with a segment of the gate that is no slug": { gid: `${SESSION}.~Planner` },
    "gid a number": { gid: 1 },
    "jti a number": { jti: 1 },
    "client_id not the actor": { client_id: SEARCHER },
    "client_id a list": { client_id: [PLANNER] },
    "act null": { act: null },
    "act a list": { act: [act] },
    "act a string": { act: PLANNER },
    "act's sub the user": { client_id: ALICE, act: { sub: ALICE } },
    "act with an unknown member": { act: { ...act, admin: true } },
    "act proven by its own word": { act: { ...act, proven: true } },
    "act outermost unproven": { client_id: `${PLANNER}/x`, act: { sub: `${PLANNER}/x`, proven: false, act } },
    "act an agent behind another gate": {
      client_id: "https://evil.example/agents/planner",
      act: { sub: "https://evil.example/agents/planner" },
    },
    "act of nine": { act: Array.from({ length: 8 }).reduce<object>((inner) => ({ sub: PLANNER, act: inner }), act) },
    "scope a list": { scope: ["read"] },
    "scope with two spaces": { scope: "read  write" },
    "scope with a space in front": { scope: " read" },
    "scope with a tab": { scope: "read\twrite" },
    "scope with a name twice": { scope: "read read" },
    "scope in capitals": { scope: "READ" },
    "scope of 65": { scope: Array.from({ length: SCOPES_MAX + 1 }, (_, i) => `s${i}`).join(" ") },
    "scope name of 65 characters": { scope: "s".repeat(65) },
    "tier unknown": { tier: "root" },
    "tier __proto__": { tier: "__proto__" },
    "tier null": { tier: null },
    "agents null": { agents: null },
    "agents a string": { agents: "catalog" },
    "agents with no slug": { agents: ["~catalog"] },
    "agents of 65": { agents: Array.from({ length: AGENTS_MAX + 1 }, (_, i) => `a${i}`) },
  }))
    add(`claims: ${name}`, "claims", forge(key, HEADER, { ...claims, ...change }));
  for (const [name, text] of Object.entries({
    "no JSON": "{",
    "a list": "[]",
    null: "null",
    "a string": '"x"',
    BOM: `\ufeff${JSON.stringify(claims)}`,
    __proto__: `${JSON.stringify(claims).slice(0, -1)},"__proto__":{"tier":"admin"}}`,
    "act with __proto__": JSON.stringify(claims).replace(`"act":{`, `"act":{"__proto__":{},`),
  }))
    add(`claims: ${name}`, "claims", forge(key, HEADER, text));
  add(
    "claims: not UTF-8",
    "claims",
    signSegments(key, header, base64url(Buffer.from(JSON.stringify(claims).replace("read", "\xff"), "latin1"))),
  );
  add("claims: padded", "claims", signSegments(key, header, `${payload}=`));
  add(
    "claims: iss of another deployment",
    "issuer",
    forge(key, HEADER, { ...claims, iss: "https://legate.example.org" }),
  );
  add("claims: iss with a slash", "issuer", forge(key, HEADER, { ...claims, iss: `${ISSUER}/` }));
  add("claims: aud another", "audience", forge(key, HEADER, { ...claims, aud: AUDIENCE }));
  add("claims: aud a list", "audience", forge(key, HEADER, { ...claims, aud: [ISSUER] }));
  add(
    "claims: cnf, whose proof nothing here checks",
    "proof_of_possession",
    forge(key, HEADER, { ...claims, cnf: { jkt: "x" } }),
  );
  add("claims: issued two seconds from now", "not_yet_valid", plain, "session", NOW - 2);
  add(
    "claims: all times in milliseconds",
    "not_yet_valid",
    forge(key, HEADER, { ...claims, iat: NOW * 1000, exp: NOW * 1000 + 300 }),
  );
  add(
    "claims: an audience's window of 5 min and a second",
    "claims",
    await KEYS.audience.mint(claimsOf({ exp: NOW + 301 })),
    "audience",
  );
  const gid = (segments: number) => [SESSION, ...Array.from({ length: segments }, () => "AAAAAAAAAAAA")].join(".");
  add("claims: gid of 13 segments", "too_deep", forge(key, HEADER, { ...claims, gid: gid(13) }));
  add(
    "12 segments and a block",
    "too_deep",
    append(forge(key, HEADER, { ...claims, gid: gid(12) }), base64url('{"n":"BBBBBBBBBBBB"}')),
  );
  const thirteen = Array.from({ length: 13 }, (_, i) => ({ n: `BBBBBBBBBB${10 + i}` }));
  add("13 blocks", "too_deep", forge(key, HEADER, claims, thirteen));
  ended("at its end", plain, NOW + 300);
  ended("long after its end", plain, NOW + 10_000_000);
  ended("at the end that a block sets", await narrow(plain, { exp: (NOW + 60) as EpochSeconds }), NOW + 60);
  ended("a block that ended before it was written", await narrow(plain, { exp: 0 as EpochSeconds }), NOW);
  ended(
    "a later block sets a later end",
    await narrow(await narrow(plain, { exp: (NOW + 60) as EpochSeconds }), { exp: (NOW + 90) as EpochSeconds }),
    NOW + 61,
  );

  return vectors;
}
