// Good tokens of a running deployment, changed in every way that an attacker has: with the bytes alone, with the keys of
// others, and, to see that claims are compared, with keys that no attacker has.
import { makeSegment } from "../../../core/ids.ts";
import { append, base64url, derive, forge, kidOf, signSegments } from "../forge.ts";
import { dice, type Dice } from "../good-token.ts";

export interface Given {
  readonly seed: string;
  readonly count: number;
  /** A plain token. */
  readonly good: string;
  /** One with a block. */
  readonly narrowed: string;
  readonly secrets: Readonly<Record<string, string>>;
  readonly issuer: string;
}

export interface BentToken {
  readonly how: string;
  readonly token: string;
}

type Bend = (d: Dice, given: Given) => string;

const json = (segment: string) => JSON.parse(Buffer.from(segment, "base64url").toString()) as Record<string, unknown>;
const partsOf = (token: string) => token.split(".") as [string, string, ...string[]];
const rootOf = ({ secrets }: Given) => Buffer.from(secrets["LEGATE_SECRET"] ?? "", "base64url");
const claimsOf = ({ good }: Given) => json(partsOf(good)[1]);
const headerOf = (given: Given) => ({ alg: "HS256", typ: "at+jwt", kid: kidOf(rootOf(given)) });
const either = (d: Dice, { good, narrowed }: Given) => d.pick([good, narrowed]);
const issuersKey = (given: Given) => derive(rootOf(given), `legate/1/aud/${given.issuer}`);
/** Another text of the same length: a character of the alphabet in the place of another. */
const flipped = (token: string, at: number) => {
  const other = token[at] === "A" ? "B" : "A";
  return token[at] === "."
    ? `${token.slice(0, at)}_${token.slice(at + 1)}`
    : token.slice(0, at) + other + token.slice(at + 1);
};

const BENDS: Readonly<Record<string, Bend>> = {
  "one character": (d, given) => {
    const token = either(d, given);
    return flipped(token, d.below(token.length));
  },
  "cut short": (d, given) => {
    const token = either(d, given);
    return token.slice(0, 1 + d.below(token.length - 1));
  },
  "made longer": (d, given) => `${either(d, given)}${d.pick(["A", "AA", ".", ".A"])}${base64url(d.random(3))}`,
  "a block taken away": (d, { narrowed }) => {
    const parts = partsOf(narrowed);
    return [...parts.slice(0, 2), d.pick([parts.at(-1) as string, base64url(d.random(32))])].join(".");
  },
  "a block twice": (d, { narrowed }) => {
    const parts = partsOf(narrowed);
    const times = 2 + d.below(9);
    return [...parts.slice(0, 2), ...Array<string>(times).fill(parts[2] ?? ""), parts.at(-1)].join(".");
  },
  "a block that widens": (d, given) => {
    const n = makeSegment(d.random);
    return append(
      either(d, given),
      base64url(
        d.pick([
          `{"n":"${n}","tier":"admin"}`,
          `{"n":"${n}","scope":"","scope":"plan research"}`,
          `{"n":"${n}","sub":"usr_x"}`,
          `{"n":"~researcher"}`,
          `{"n":"${n}","budget":-1}`,
          `{"n":"${n}","act":"A B"}`,
          ` {"n":"${n}"}`,
          `{"scope":"plan${n.replaceAll(/\W/g, "")}"}`,
        ]),
      ),
    );
  },
  "no signature": (d, given) => {
    const header = base64url(
      JSON.stringify({ ...headerOf(given), alg: d.pick(["none", "None", "nOnE"]), x: d.below(1e6) }),
    );
    return `${header}.${partsOf(given.good)[1]}.${d.pick(["", base64url(d.random(32))])}`;
  },
  "a strange header, rightly signed": (d, given) => {
    const [name, value] = d.pick<[string, unknown]>([
      ["jwk", { kty: "oct", k: base64url(d.random(32)) }],
      ["jku", `https://evil.example/${d.below(1e6)}`],
      ["crit", [`x${d.below(1e6)}`]],
      ["typ", `JWT${d.below(1e6)}`],
      ["kid", base64url(d.random(6))],
      ["alg", d.pick(["HS512", "RS256", "ES256"])],
      ["b64", false],
    ]);
    return forge(
      issuersKey(given),
      { ...headerOf(given), [name]: value },
      { ...claimsOf(given), jti: base64url(d.random(16)) },
    );
  },
  "strange claims, rightly signed": (d, given) =>
    forge(issuersKey(given), headerOf(given), {
      ...claimsOf(given),
      jti: base64url(d.random(16)),
      ...d.pick<object>([
        { iss: "https://evil.example" },
        { aud: `${given.issuer}/` },
        { aud: [given.issuer] },
        { sub: `usr_${"a".repeat(28)}` },
        { exp: Math.floor(Date.now() / 1000) + 100_000 },
        { iat: Math.floor(Date.now() / 1000) + 1_000 },
        { exp: "2099" },
        { tier: "root" },
        { scope: ["plan"] },
        { nbf: 0 },
        { [`x${d.below(1e6)}`]: 1 },
        { gid: `${String(claimsOf(given)["gid"])}.x` },
      ]),
    }),
  "another key": (d, given) => {
    const root = rootOf(given);
    const key = d.pick<Uint8Array>([
      d.random(32),
      root,
      derive(root, "legate/1/aud/https://api.example.com"),
      derive(root, "legate/1/use/cookie"),
      derive(root, `legate/1/aud/${given.issuer}/`),
      derive(root, "legate/1/use/identity/legate-agents"),
    ]);
    return forge(key, headerOf(given), { ...claimsOf(given), jti: base64url(d.random(16)) });
  },
  "any bytes": (d) => signSegments(d.random(32), base64url(d.random(40)), base64url(d.random(200))),
};

/** @returns that many different texts, all classes in turn; none of them is a token of the deployment's */
export function bentTokens(given: Given): BentToken[] {
  const bends = Object.entries(BENDS);
  const found = new Map<string, string>();
  for (let i = 0; found.size < given.count; i++) {
    const [how, bend] = bends[i % bends.length] as [string, Bend];
    const token = bend(dice(`${given.seed}/${i}`), given);
    if (token !== given.good && token !== given.narrowed) found.set(token, how);
  }
  return [...found].map(([token, how]) => ({ how, token }));
}
