// The Worker that `npm run bench -- verify` measures in. Every candidate runs in the same isolate, in interleaved
// rounds whose order turns by one each time, so that a slow moment of the machine falls on all of them alike.
import { importJWK, jwtVerify, SignJWT } from "jose";
import { decodeBase64url, encodeBase64url } from "../../core/base64url.ts";
import {
  makeOwnedId,
  makeUserId,
  type EpochSeconds,
  type IdMac,
  type RandomBytes,
  type SessionId,
} from "../../core/ids.ts";
import { liveSecrets, sessionTokenKey } from "../../core/token/keyring.ts";
import { deriveBytes, importMacKey, LABEL, Secret } from "../../core/token/mac.ts";
import { narrowToken } from "../../core/token/mint.ts";
import { RememberedTokens } from "../../core/token/remembered.ts";
import { verifyToken } from "../../core/token/verify.ts";

const ISSUER = "https://legate.example.com";
const TOKENS = 64; // distinct users, sessions and bytes: a loop over one string would flatter every cache there is
const STRETCHES = 16;
const WARM_UP = 4;
const DEPTHS = [0, 1, 4, 8] as const;

const random: RandomBytes = (length) => crypto.getRandomValues(new Uint8Array(length));
const mac: IdMac = (text) => new TextEncoder().encode(text.padEnd(8).slice(-8));

interface Candidate {
  readonly name: string;
  /** How many operations a turn takes: some milliseconds of them. */
  readonly operations: number;
  run(index: number): unknown;
}

async function candidates(): Promise<Candidate[]> {
  const secret = new Secret(crypto.getRandomValues(new Uint8Array(32)));
  const live = await liveSecrets([secret]);
  const { verifier, mint } = await sessionTokenKey(live, ISSUER);
  const now = Math.floor(Date.now() / 1000) as EpochSeconds;
  const audienceBytes = (await deriveBytes(secret, LABEL.audience(ISSUER))).revealBytes();
  const rawKey = await importMacKey(audienceBytes);
  const ec = (await crypto.subtle.generateKey({ name: "ECDSA", namedCurve: "P-256" }, true, [
    "sign",
    "verify",
  ])) as CryptoKeyPair;

  const tokens: string[][] = DEPTHS.map(() => []);
  const es256: string[] = [];
  for (let i = 0; i < TOKENS; i++) {
    const user = makeUserId(random, mac);
    const agent = makeOwnedId("agt", user, random, mac);
    const gid: SessionId = makeOwnedId("ses", user, random, mac);
    const claims = {
      sub: user,
      iat: now,
      exp: (now + 3_600) as EpochSeconds,
      jti: encodeBase64url(random(16)),
      gid,
      scope: "read write search",
      client_id: agent,
      act: { sub: agent },
      tier: "pro" as const,
    };
    let text = await mint(claims);
    es256.push(
      await new SignJWT({ ...claims, iss: ISSUER, aud: ISSUER })
        .setProtectedHeader({ alg: "ES256", typ: "at+jwt" })
        .sign(ec.privateKey),
    );
    for (let depth = 0, column = 0; depth <= 8; depth++) {
      if (depth === DEPTHS[column]) (tokens[column++] as string[]).push(text);
      text = await narrowToken(
        text,
        depth % 4 === 1
          ? { act: `helper-${depth}`, scope: "read search" }
          : { scope: "read search", exp: (now + 1_800) as EpochSeconds },
        random,
      );
    }
  }

  const plain = tokens[0] as string[];
  const raw = plain.map((text) => {
    const dot = text.lastIndexOf(".");
    return {
      signature: decodeBase64url(text.slice(dot + 1)) as Uint8Array<ArrayBuffer>,
      data: new TextEncoder().encode(text.slice(0, dot)),
    };
  });
  const remembered = new RememberedTokens();
  const requests = plain.map(
    (text) =>
      new Request("https://legate.example.com/agents/planner", { headers: { authorization: `Bearer ${text}` } }),
  );
  for (const text of plain) {
    const verified = await verifyToken(text, verifier, now);
    if (!verified.ok) throw new Error(`bench token refused: ${JSON.stringify(verified.denial)}`);
    remembered.remember(text, verified.value);
  }
  const publicKey = await importJWK((await crypto.subtle.exportKey("jwk", ec.publicKey)) as JsonWebKey, "ES256");
  const rules = (alg: string) => ({ issuer: ISSUER, audience: ISSUER, algorithms: [alg], typ: "at+jwt" });
  const [hsRules, esRules] = [rules("HS256"), rules("ES256")];

  return [
    {
      name: "raw",
      operations: 512,
      run: async (i) => {
        const { signature, data } = raw[i % TOKENS] as (typeof raw)[number];
        if (!(await crypto.subtle.verify("HMAC", rawKey, signature, data))) throw new Error("raw refused");
      },
    },
    ...DEPTHS.map((depth, column): Candidate => ({
      name: `cold_${depth}`,
      operations: depth > 1 ? 32 : 128,
      run: async (i) => {
        const verified = await verifyToken((tokens[column] as string[])[i % TOKENS] as string, verifier, now);
        if (!verified.ok) throw new Error("ours refused");
      },
    })),
    {
      name: "remembered",
      operations: 2_048,
      run: (i) => {
        const header = (requests[i % TOKENS] as Request).headers.get("authorization") as string;
        if (!header.startsWith("Bearer ") || remembered.lookup(header.slice(7), now) === null)
          throw new Error("not remembered");
      },
    },
    { name: "jose_hs256", operations: 64, run: (i) => jwtVerify(plain[i % TOKENS] as string, rawKey, hsRules) },
    { name: "jose_es256", operations: 16, run: (i) => jwtVerify(es256[i % TOKENS] as string, publicKey, esRules) },
  ];
}

/** Milliseconds; `await` only where the candidate gives a promise, as its caller would. */
async function stretch({ operations, run }: Candidate, from: number): Promise<number> {
  const start = performance.now();
  for (let i = from; i < from + operations; i++) {
    const pending = run(i);
    if (pending instanceof Promise) await pending;
  }
  return performance.now() - start;
}

/**
 * One round: every candidate gets `STRETCHES` short turns. workerd tells the time in whole milliseconds, so a turn is
 * measured badly, and the sum of them well.
 *
 * @returns microseconds an operation, by candidate
 */
async function round(all: readonly Candidate[], number: number): Promise<Record<string, number>> {
  const sums: Record<string, number> = {};
  for (let turn = 0; turn < STRETCHES; turn++) {
    for (let i = 0; i < all.length; i++) {
      const candidate = all[(i + turn + number) % all.length] as Candidate;
      sums[candidate.name] = (sums[candidate.name] ?? 0) + (await stretch(candidate, turn * 7));
    }
  }
  for (const { name, operations } of all) sums[name] = ((sums[name] as number) * 1_000) / (operations * STRETCHES);
  return sums;
}

export default {
  async fetch(request: Request): Promise<Response> {
    const rounds = Number(new URL(request.url).searchParams.get("rounds"));
    const all = await candidates();
    for (let i = 0; i < WARM_UP; i++) await round(all, i);
    const samples: Record<string, number>[] = [];
    for (let i = 0; i < rounds; i++) samples.push(await round(all, i));
    return Response.json(samples);
  },
} satisfies ExportedHandler;
