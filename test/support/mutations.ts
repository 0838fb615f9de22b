// Every way to change a good token that an attacker has; each gives a text that no verifier may take.
import { generateKeyPairSync } from "node:crypto";
import { makeSegment } from "../../core/ids.ts";
import { headerSegment } from "../../core/token/format.ts";
import { narrowToken, type Narrowing } from "../../core/token/mint.ts";
import {
  ALICE,
  AUDIENCE,
  BOB,
  ISSUER,
  NOW,
  OTHER_AUDIENCE,
  PLANNER,
  SEARCHER,
  SECRETS,
  SESSION,
} from "./deployment.ts";
import { goodToken, type Dice } from "./good-token.ts";
import { append, base64url, derive, fixedBytes, forge, kidOf, signSegments } from "./forge.ts";

const ALPHABET = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
const KID = kidOf(SECRETS.current);
const HEADER = { alg: "HS256", typ: "at+jwt", kid: KID };
const key = derive(SECRETS.current, `legate/1/aud/${ISSUER}`);
const audienceKey = derive(SECRETS.current, `legate/1/aud/${AUDIENCE}`);
const { publicKey } = generateKeyPairSync("rsa", { modulusLength: 2_048 });
const PUBLIC_KEYS = [
  publicKey.export({ type: "spki", format: "pem" }) as string,
  publicKey.export({ type: "spki", format: "der" }),
  JSON.stringify(publicKey.export({ format: "jwk" })),
  publicKey.export({ format: "jwk" }).n as string,
];

const segmentsOf = (token: string): string[] => token.split(".");
const claimsIn = (token: string): Record<string, unknown> =>
  JSON.parse(Buffer.from(segmentsOf(token)[1] as string, "base64url").toString()) as Record<string, unknown>;
const splice = (text: string, at: number, remove: number, insert: string): string =>
  text.slice(0, at) + insert + text.slice(at + remove);
const withBlocks = (token: string, change: (blocks: string[]) => string[]): string => {
  const parts = segmentsOf(token);
  return [...parts.slice(0, 2), ...change(parts.slice(2, -1)), parts.at(-1)].join(".");
};

/** Each gives a text that differs from every good token. */
export const CLASSES: Readonly<Record<string, (dice: Dice) => string | Promise<string>>> = {
  "bit flips": async (d) => {
    const bytes = Buffer.from(await goodToken(d));
    const flips = 1 + d.below(3);
    const places = new Set<number>();
    while (places.size < flips) places.add(d.below(bytes.length * 8));
    for (const place of places) bytes[place >> 3] = (bytes[place >> 3] as number) ^ (1 << (place & 7));
    return bytes.toString(d.pick(["latin1", "utf8"]));
  },
  truncation: async (d) => {
    const token = await goodToken(d);
    const length = 1 + d.below(token.length - 1);
    return d.pick([
      () => token.slice(0, -length),
      () => token.slice(length),
      () => splice(token, d.below(token.length - length + 1), length, ""),
    ])();
  },
  extension: async (d) => {
    const token = await goodToken(d);
    const at = d.below(token.length + 1);
    return splice(
      token,
      at,
      0,
      d.pick(["A", ".", "=", token, d.pick(ALPHABET.split("")), base64url(d.random(1 + d.below(40)))]),
    );
  },
  "re-encoding": async (d) => {
    const parts = segmentsOf(await goodToken(d, d.below(2)));
    const at = d.below(parts.length);
    const part = parts[at] as string;
    const respelt = ALPHABET[ALPHABET.indexOf(part.at(-1) as string) ^ 1] as string;
    // A segment whose length is a multiple of four has no unused bits: flipping one is another segment, refused as well.
    parts[at] = d.pick([
      () => `${part}=`,
      () => `${part}==`,
      () => part.slice(0, -1) + respelt,
      () => encodeURIComponent(`${part}+`),
      () => Buffer.from(part).toString("base64"),
      () => Buffer.from(part, "base64url").toString("hex"),
      () => part.toUpperCase() + "a",
      () => splice(part, d.below(part.length), 1, d.pick(["+", "/"])),
    ])();
    return parts.join(".");
  },
  "white space": async (d) => {
    const token = await goodToken(d);
    const space = d.pick([" ", "\t", "\n", "\r\n", "\u00a0", "\u200b", "\ufeff", "\u0000", "%20"]);
    return splice(
      token,
      d.pick([0, token.length, token.indexOf("."), token.lastIndexOf(".") + 1, d.below(token.length)]),
      0,
      space,
    );
  },
  "duplicate members": async (d) => {
    const token = await goodToken(d);
    const n = makeSegment(d.random);
    const members: [string, unknown][] = [
      ["scope", "read write search pay"],
      ["n", makeSegment(d.random)],
      ["exp", NOW + 100_000],
      ["agents", ["planner", "admin"]],
      ["budget", 10 ** 9],
      ["act", "b"],
    ];
    const [name, value] = d.pick(members);
    const first =
      name === "scope" ? "" : name === "n" ? makeSegment(d.random) : name === "agents" ? [] : name === "act" ? "a" : 0;
    const body = `"${name}":${JSON.stringify(first)},"${name}":${JSON.stringify(value)}`;
    const block = name === "n" ? `{${body}}` : d.pick([`{"n":"${n}",${body}}`, `{${body},"n":"${n}"}`]);
    return append(token, base64url(block));
  },
  "strange blocks": async (d) => {
    const n = makeSegment(d.random);
    const unknown = d.pick([
      "tier",
      "sub",
      "aud",
      "client_id",
      "gid",
      "proven",
      "__proto__",
      "constructor",
      "toString",
      "N",
      "scope ",
      "",
      "0",
    ]);
    const text = d.pick([
      () => JSON.stringify({ n, [unknown === "__proto__" ? "x" : unknown]: d.pick(["admin", 1, null, {}, []]) }),
      () => `{"n":"${n}","${unknown}":1}`,
      () => JSON.stringify({ n: `~${d.pick(["planner", "planner-abc", "a"])}` }),
      () =>
        JSON.stringify({
          n,
          [d.pick(["scope", "agents", "exp", "budget", "act", "for"])]: d.pick([
            null,
            true,
            -1,
            0.5,
            1e300,
            {},
            [[]],
            [1],
            " ",
            "A B",
            `/${ALICE}`,
          ]),
        }),
      () => ` ${JSON.stringify({ n })}`,
      () => `{"n":"${n}","exp":${d.pick(["-0", "1e9", "01", "1.0", "0x1", "1e400", "9007199254740993"])}}`,
      () => `{"\\u006e":"${n}"}`,
      () => `{"n":"${n}","scope":"\\ud800"}`,
      () => `\ufeff${JSON.stringify({ n })}`,
      () => JSON.stringify({ n, act: "a", for: SEARCHER }),
    ])();
    return append(await goodToken(d), base64url(text));
  },
  "swapped blocks": async (d) =>
    withBlocks(await goodToken(d, 2), (blocks) => {
      const i = d.below(blocks.length);
      const j = (i + 1 + d.below(blocks.length - 1)) % blocks.length;
      return blocks.map((block, at) => (at === i ? (blocks[j] as string) : at === j ? (blocks[i] as string) : block));
    }),
  "dropped blocks": async (d) => {
    const token = await goodToken(d, 1);
    return withBlocks(token, (blocks) => {
      const at = d.below(blocks.length);
      return blocks.toSpliced(at, 1 + d.below(blocks.length - at));
    });
  },
  "repeated blocks": async (d) => {
    const token = await goodToken(d, 1);
    return withBlocks(token, (blocks) => blocks.toSpliced(d.below(blocks.length + 1), 0, d.pick(blocks)));
  },
  "blocks of another token": async (d) => {
    const [token, other] = [await goodToken(d, 1), await goodToken(d, 1)];
    const [parts, others] = [segmentsOf(token), segmentsOf(other)];
    return d
      .pick([
        () => [...parts.slice(0, -1), others.at(-1)],
        () => [...parts.slice(0, 2), ...others.slice(2)],
        () => [...parts.slice(0, 2), parts.at(-1)],
        () => [parts[0], others[1], ...parts.slice(2)],
      ])()
      .join(".");
  },
  "alg, kid, typ, jwk, crit": async (d) => {
    const claims = claimsIn(await goodToken(d));
    const change: [string, unknown] = d.pick([
      [
        "alg",
        d.pick([
          "none",
          "None",
          "NONE",
          "nOnE",
          "HS384",
          "HS512",
          "RS256",
          "ES256",
          "EdDSA",
          "PS256",
          "",
          null,
          ["HS256"],
          "hs256",
          "HS256 ",
        ]),
      ],
      [
        "kid",
        d.pick([
          "",
          null,
          0,
          [KID],
          { kid: KID },
          "__proto__",
          "constructor",
          "toString",
          "../../../dev/null",
          "' OR 1=1 --",
          `${KID} `,
          KID.toLowerCase() + "A",
          "A".repeat(2_000),
          base64url(d.random(6)),
        ]),
      ],
      ["typ", d.pick(["JWT", "jwt", "AT+JWT", "application/at+jwt", "", null, "dpop+jwt"])],
      ["jwk", { kty: "oct", k: base64url(key) }],
      ["jku", "https://attacker.example/keys"],
      ["x5u", "https://attacker.example/cert"],
      ["x5c", ["AAAA"]],
      ["crit", d.pick([["exp"], [], ["b64"], null])],
      ["b64", false],
      ["zip", "DEF"],
      ["cty", "JWT"],
      [`x${d.below(10 ** 6)}`, 1],
    ]);
    const others = Object.entries(HEADER).filter(([name]) => name !== change[0]);
    const header = Object.fromEntries(d.below(2) === 0 ? [...others, change] : [change, ...others]);
    const signer = d.pick([
      key,
      key,
      Buffer.alloc(0),
      Buffer.alloc(32),
      Buffer.from(KID),
      SECRETS.current,
      ...PUBLIC_KEYS.map((text) => Buffer.from(text as string)),
    ]);
    const token = forge(signer, d.below(8) === 0 ? `{"alg":"none",${JSON.stringify(HEADER).slice(1)}` : header, claims);
    return d.below(6) === 0 ? `${token.slice(0, token.lastIndexOf("."))}.` : token;
  },
  "other key": async (d) => {
    const signer = d.pick([
      d.random(32),
      new Uint8Array(32),
      SECRETS.current,
      SECRETS.also,
      fixedBytes("another"),
      derive(SECRETS.gone, `legate/1/aud/${ISSUER}`),
      derive(SECRETS.also, `legate/1/aud/${ISSUER}`),
      derive(SECRETS.current, `legate/1/aud/${ISSUER}/`),
      derive(
        SECRETS.current,
        d.pick(["legate/1/use/kid", "legate/1/use/identity/legate-agents", "legate/1/use/connection", ""]),
      ),
      ...PUBLIC_KEYS.map((text) => Buffer.from(text as string)),
    ]);
    return forge(signer, HEADER, claimsIn(await goodToken(d)));
  },
  "cookie key": async (d) => {
    const claims = claimsIn(await goodToken(d));
    return d.pick([
      () => forge(derive(SECRETS.current, "legate/1/use/cookie"), HEADER, claims),
      () => forge(derive(SECRETS.also, "legate/1/use/cookie"), { ...HEADER, kid: kidOf(SECRETS.also) }, claims),
    ])();
  },
  "other audience": async (d) => {
    const aud = d.pick<unknown>([
      AUDIENCE,
      OTHER_AUDIENCE,
      `${ISSUER}/`,
      ISSUER.toUpperCase(),
      [ISSUER],
      { toString: ISSUER },
      "",
      null,
      `${ISSUER} `,
      ISSUER.slice(0, -1),
      d.below(10 ** 6),
    ]);
    return forge(key, HEADER, { ...claimsIn(await goodToken(d)), aud });
  },
  "an audience's key forges": async (d) => {
    // Whoever runs that server signs what it likes: for itself under its own name, or for Legate under Legate's.
    const claims = {
      ...claimsIn(await goodToken(d)),
      aud: d.pick([ISSUER, AUDIENCE, OTHER_AUDIENCE]),
      tier: "admin",
      scope: d.pick(["operator", "read write", "pay"]),
      jti: base64url(d.random(8)),
    };
    return forge(audienceKey, HEADER, claims, d.pick([[], [{ n: makeSegment(d.random) }]]));
  },
  "wrong issuer": async (d) => {
    const iss = d.pick<unknown>([
      `${ISSUER}/`,
      ISSUER.replace("https", "http"),
      ISSUER.toUpperCase(),
      `${ISSUER}.attacker.example`,
      "https://attacker.example",
      "",
      null,
      [ISSUER],
      d.below(10 ** 6),
    ]);
    return forge(key, HEADER, { ...claimsIn(await goodToken(d)), iss });
  },
  "wrong times": async (d) => {
    const some = 1 + d.below(10 ** 6);
    const times = d.pick([
      { exp: NOW },
      { exp: NOW - some, iat: NOW - some - 60 },
      { iat: NOW + 2 + some, exp: NOW + 60 + some },
      { iat: NOW * 1000, exp: NOW * 1000 + 1000 },
      { exp: (NOW + 60) * 1000 },
      { exp: NOW + 3_600 + some },
      { exp: String(NOW + 60) },
      { iat: null },
      { exp: null },
      { exp: 1e300 },
      { exp: NOW + 0.5 },
      { exp: -some },
      { iat: -some },
      { nbf: NOW + some },
    ]);
    return forge(key, HEADER, { ...claimsIn(await goodToken(d)), ...times });
  },
  "another's identity": async (d) => {
    const change = d.pick([
      { sub: BOB },
      { gid: `ses_${BOB.slice(4, 24)}_${SESSION.slice(25)}` },
      { sub: "" },
      { gid: `${SESSION}.${"A".repeat(d.below(12))}` },
      { client_id: BOB },
      { act: { sub: BOB } },
      { act: { sub: PLANNER, proven: true } },
      { act: [] },
      { tier: d.pick(["root", "", null, "Admin", 3]) },
      { scope: d.pick([null, [], "read  write", "*", " "]) },
      { cnf: { jkt: base64url(d.random(32)) } },
      { [`x${d.below(10 ** 6)}`]: 1 },
    ]);
    return forge(key, HEADER, { ...claimsIn(await goodToken(d)), ...change });
  },
  "after a named delegation": async (d) => {
    const named = await narrowToken(await goodToken(d), { for: SEARCHER }, d.random);
    return narrowToken(named, d.pick<Narrowing>([{}, { for: PLANNER }, { act: "thief" }, { scope: "read" }]), d.random);
  },
  "any bytes": (d) => {
    const bytes = Buffer.from(d.random(d.below(600)));
    const text = bytes.toString(d.pick(["latin1", "utf8", "base64url", "hex"]));
    return d.pick([
      () => text,
      () => `${text}.${text}.${base64url(d.random(32))}`,
      () => signSegments(d.random(32), headerSegment(KID), base64url(bytes)),
    ])();
  },
};
