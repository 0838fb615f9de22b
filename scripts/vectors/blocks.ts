// Tokens whose blocks are wrong, each appended as any holder could.
import { AGENTS_MAX } from "../../core/limits.ts";
import { append, base64url, forge } from "../../test/support/forge.ts";
import * as fixed from "../../test/support/deployment.ts";
import { claims, HEADER, invalid, key, narrow, plain, respelt, type InvalidVector } from "./shared.ts";

const { BOB, BOBS_AGENT, NOW, PLANNER, SEARCHER } = fixed;
const act = { sub: PLANNER };

/** What a holder may write, and no verifier take. */
export async function invalidBlocks(): Promise<InvalidVector[]> {
  const vectors: InvalidVector[] = [];
  const add = (...args: Parameters<typeof invalid>) => vectors.push(invalid(...args));
  const n = "AAAAAAAAAAAA";
  const block = (value: unknown) => append(plain, base64url(typeof value === "string" ? value : JSON.stringify(value)));
  for (const [name, value] of Object.entries({
    "no n": {},
    "n short": { n: "AAAAAAAAAAA" },
    "n long": { n: "AAAAAAAAAAAAA" },
    "n with a dot": { n: "AAAAAA.AAAAA" },
    "n the gate's": { n: "~planner" },
    "n the gate's, twelve long": { n: "~planner-abc" },
    "n a number": { n: 123456789012 },
    "an unknown member": { n, admin: true },
    tier: { n, tier: "admin" },
    sub: { n, sub: BOB },
    __proto__: `{"n":"${n}","__proto__":{}}`,
    constructor: { n, constructor: "x" },
    "a member of digits": `{"1":"x","n":"${n}"}`,
    "a member twice": `{"n":"${n}","scope":"","scope":"read"}`,
    "n twice": `{"n":"BBBBBBBBBBBB","n":"${n}"}`,
    "white space": `{"n": "${n}"}`,
    "a newline after": `{"n":"${n}"}\n`,
    "an escape that is not needed": `{"n":"${n}","scope":"re\\u0061d"}`,
    BOM: `\ufeff{"n":"${n}"}`,
    "a list": [{ n }],
    null: null,
    "a string": `"${n}"`,
    "no JSON": "{n}",
    "not UTF-8, as text would have it": `{"n":"${n}","scope":"\ufffd"}`,
    "a lone surrogate, escaped": `{"n":"${n}","scope":"\\ud800"}`,
    "scope a list": { n, scope: ["read"] },
    "scope null": { n, scope: null },
    "scope with two spaces": { n, scope: "read  write" },
    "scope with a name twice": { n, scope: "read read" },
    "scope of one space": { n, scope: " " },
    "agents a string": { n, agents: "catalog" },
    "agents null": { n, agents: null },
    "agents an object": { n, agents: { 0: "catalog", length: 1 } },
    "agents with a slug twice": { n, agents: ["catalog", "catalog"] },
    "agents with no slug": { n, agents: ["Catalog"] },
    "agents of 65": { n, agents: Array.from({ length: AGENTS_MAX + 1 }, (_, i) => `a${i}`) },
    "exp a string": { n, exp: String(NOW) },
    "exp a fraction": { n, exp: NOW + 0.5 },
    "exp negative": { n, exp: -1 },
    "exp minus nought": `{"n":"${n}","exp":-0}`,
    "exp with an exponent": `{"n":"${n}","exp":18e8}`,
    "exp 1e400": `{"n":"${n}","exp":1e400}`,
    "exp beyond 2^53": `{"n":"${n}","exp":9007199254740992}`,
    "budget a string": { n, budget: "1" },
    "budget a fraction": { n, budget: 0.5 },
    "budget negative": { n, budget: -1 },
    "budget minus nought": `{"n":"${n}","budget":-0}`,
    "budget 1.0": `{"n":"${n}","budget":1.0}`,
    "budget beyond 2^53": `{"n":"${n}","budget":9007199254740992}`,
    "budget null": { n, budget: null },
    "budget true": { n, budget: true },
    "act empty": { n, act: "" },
    "act in capitals": { n, act: "Summarizer" },
    "act with a slash": { n, act: "a/b" },
    "act of 33 characters": { n, act: "a".repeat(33) },
    "act an object": { n, act: { sub: PLANNER } },
    "for a user": { n, for: BOB },
    "for the gate's": { n, for: "~planner" },
    "for null": { n, for: null },
    "act and for": { n, act: "a", for: SEARCHER },
  }))
    add(`block: ${name}`, "block", block(value));
  add("block: padded", "block", append(plain, `${base64url(`{"n":"${n}"}`)}=`));
  add(
    "block: the other alphabet",
    "block",
    append(plain, base64url(`{"n":"${n}","scope":"~~~???"}`).replaceAll("-", "+").replaceAll("_", "/")),
  );
  const odd = base64url(`{"n":"${n}","scope":"a"}`);
  if (odd.length % 4 === 0) throw new Error("the respelt block needs unused bits");
  add("block: its last bits set", "block", append(plain, respelt(odd)));
  add("block: not UTF-8", "block", append(plain, base64url(Buffer.from(`{"n":"${n}","scope":"\xff"}`, "latin1"))));
  add(
    "block: after a named delegation",
    "after_named_delegation",
    await narrow(await narrow(plain, { for: SEARCHER }), {}),
  );
  add(
    "block: a thief names himself after a named delegation",
    "after_named_delegation",
    await narrow(await narrow(plain, { for: SEARCHER }), { for: BOBS_AGENT }),
  );
  const seven = Array.from({ length: 7 }).reduce<object>((inner) => ({ sub: PLANNER, act: inner }), act);
  add(
    "block: a ninth actor",
    "too_deep",
    append(forge(key, HEADER, { ...claims, act: seven }), base64url(`{"n":"${n}","act":"a"}`)),
  );
  return vectors;
}
