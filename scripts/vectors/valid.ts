// Valid tokens, with what each grants.
import {
  childOf,
  gateSegment,
  makeSegment,
  type EpochSeconds,
  type Micros,
  type NodePath,
  type Slug,
} from "../../core/ids.ts";
import { AGENTS_MAX, TOKEN_LIFE_MAX_SECONDS } from "../../core/limits.ts";
import { verifyToken } from "../../core/token/verify.ts";
import { append, base64url, forge, kidOf } from "../../test/support/forge.ts";
import * as fixed from "../../test/support/deployment.ts";
import { HEADER, keyOf, narrow, random, viewOf, withIssuer, type ValidVector } from "./shared.ts";

const { ALICE, BOBS_AGENT, ISSUER, KEYS, NOW, PLANNER, SEARCHER, SECRETS, SESSION, claimsOf } = fixed;

/** Every way to be verified; made by core and by hand, and checked as they are made. */
export async function validVectors(): Promise<ValidVector[]> {
  const vectors: ValidVector[] = [];
  const add = async (
    name: string,
    picture: string,
    token: string,
    verifier: fixed.VerifierName = "session",
    now: number = NOW,
  ) => {
    const verified = await verifyToken(token, KEYS[verifier].verifier, now as EpochSeconds);
    if (!verified.ok) throw new Error(`the valid vector "${name}" is refused: ${JSON.stringify(verified.denial)}`);
    vectors.push({ name, picture, verifier, now, token, expect: viewOf(verified.value) });
  };
  const mint = (claims = claimsOf(), key: fixed.VerifierName = "session") => KEYS[key].mint(claims);

  const plain = await mint();
  await add("plain", "user -> planner[read write search]", plain);
  await add("plain, as late as it holds", "user -> planner[read write search]", plain, "session", NOW + 299);
  await add("plain, from a host one second ahead", "user -> planner[read write search]", plain, "session", NOW - 1);
  await add(
    "plain, longest window",
    "user -> planner, 1 h",
    await mint(claimsOf({ exp: NOW + TOKEN_LIFE_MAX_SECONDS })),
  );
  await add(
    "the second live secret",
    "user -> planner[read write search]",
    forge(keyOf("session", SECRETS.also), { ...HEADER, kid: kidOf(SECRETS.also) }, withIssuer(claimsOf())),
  );
  const person = { client_id: ALICE, act: undefined };
  await add("person in person", "user[read write search]", await mint(claimsOf(person)));
  await add(
    "person's cookie",
    "user[read write search], 12 h",
    await mint(claimsOf({ ...person, exp: NOW + 43_200 }), "cookie"),
    "cookie",
  );
  await add(
    "another audience",
    "user -> planner[read write search] at api.example.com",
    await mint(claimsOf(), "audience"),
    "audience",
  );
  await add(
    "tier and agents",
    "user(pro) -> planner[read write search] at {planner, catalog}",
    await mint(claimsOf({ tier: "pro", agents: ["planner", "catalog"] })),
  );
  await add(
    "grants nothing: empty scope, no agents",
    "user -> planner[] at {}",
    await mint(claimsOf({ scope: "", agents: [] })),
  );
  const redeemed = claimsOf({
    client_id: SEARCHER,
    act: { sub: SEARCHER, act: { sub: PLANNER } },
    gid: childOf(SESSION as string as NodePath, makeSegment(random)),
    scope: "read",
  });
  await add("redeemed", "user -> planner -> searcher[read]", await mint(redeemed));
  await add(
    "redeemed by another user's agent, from a bearer",
    "user -> planner -> planner/helper? -> bobs[read]",
    await mint({
      ...redeemed,
      client_id: BOBS_AGENT,
      act: { sub: BOBS_AGENT, act: { sub: `${PLANNER}/helper`, proven: false, act: { sub: PLANNER } } },
    }),
  );
  const gate = `${ISSUER}/agents/planner`;
  await add(
    "minted by the gate for an agent behind it",
    "user -> planner -> ~planner[read write search]",
    await mint(
      claimsOf({
        client_id: gate,
        act: { sub: gate, act: { sub: PLANNER } },
        gid: childOf(SESSION as string as NodePath, gateSegment("planner" as Slug)),
        agents: ["catalog"],
      }),
    ),
  );
  const eight = Array.from({ length: 8 }, (_, i) => (i % 2 === 0 ? PLANNER : SEARCHER));
  const nest = (actors: readonly string[]) =>
    actors.reduce<object | undefined>((act, sub) => ({ sub, ...(act === undefined ? {} : { act }) }), undefined);
  await add(
    "eight actors",
    `user -> ${"planner -> searcher -> ".repeat(4).slice(0, -4)}`,
    await mint(claimsOf({ client_id: SEARCHER, act: nest(eight) })),
  );

  let chain = plain;
  for (let depth = 1; depth <= 12; depth++) {
    chain = await narrow(chain, depth === 1 ? { scope: "read search" } : depth === 2 ? { scope: "read" } : {});
    await add(`narrowed ${depth} times`, `user -> planner[read write search] | ${depth} blocks`, chain);
  }
  await add(
    "bearer",
    "user -> planner -> planner/summarizer?[read]",
    await narrow(plain, { act: "summarizer", scope: "read" }),
  );
  await add(
    "bearer of a person",
    "user -> user/helper?",
    await narrow(await mint(claimsOf(person)), { act: "helper" }),
  );
  await add(
    "bearer of a bearer",
    "user -> planner -> planner/a? -> planner/a/b?",
    await narrow(await narrow(plain, { act: "a" }), { act: "b" }),
  );
  await add(
    "named, not redeemed",
    "user -> planner -> (searcher)[read, 5 units]",
    await narrow(plain, { for: SEARCHER, scope: "read", budget: 5_000_000 as Micros }),
  );
  await add(
    "agents narrow agents",
    "user -> planner at {planner, catalog} | {catalog, researcher}",
    await narrow(await mint(claimsOf({ agents: ["planner", "catalog"] })), { agents: ["catalog", "researcher"] }),
  );
  await add(
    "agents where none were named",
    "user -> planner | {catalog}",
    await narrow(plain, { agents: ["catalog"] }),
  );
  await add(
    "budgets along a chain",
    "user -> planner | 5 units | 1 unit",
    await narrow(await narrow(plain, { budget: 5_000_000 as Micros }), { budget: 1_000_000 as Micros }),
  );
  await add(
    "ends before its window",
    "user -> planner | 60 s",
    await narrow(plain, { exp: (NOW + 60) as EpochSeconds }),
  );
  await add(
    "a later end changes nothing",
    "user -> planner | 1 day",
    await narrow(plain, { exp: (NOW + 86_400) as EpochSeconds }),
  );
  await add(
    "a wider scope changes nothing",
    "user -> planner[read] | read write",
    await narrow(await mint(claimsOf({ scope: "read" })), { scope: "write read" }),
  );
  await add(
    "empty members grant nothing",
    'user -> planner | "" {} 0 units',
    await narrow(plain, { scope: "", agents: [], budget: 0 as Micros }),
  );
  await add(
    "a block's members in another order",
    "user -> planner[read]",
    append(plain, base64url('{"scope":"read","n":"AAAAAAAAAAAA"}')),
  );
  await add(
    "a caveat of 64 agents",
    "user -> planner | 64 slugs",
    append(
      plain,
      base64url(JSON.stringify({ n: "AAAAAAAAAAAA", agents: Array.from({ length: AGENTS_MAX }, (_, i) => `a${i}`) })),
    ),
  );
  await add(
    "twelve segments: eleven in gid and one block",
    "user -> planner | 1 block",
    await narrow(
      await mint(claimsOf({ gid: [SESSION, ...Array.from({ length: 11 }, () => makeSegment(random))].join(".") })),
      {},
    ),
  );
  return vectors;
}
