// A deployment on disk whose agents get credentials: keys are rotated while it is asked, and nothing secret that it has seen
// stands in any file, any log or any answer that has no right to it.
import { Agent, request } from "node:http";
import { mkdirSync, readdirSync, readFileSync, statSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import type { JSONWebKeySet } from "jose";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { input } from "../../legate.config.ts";
import { rotated } from "../../scripts/lib/oidc-key.mjs";
import type { AgentSession } from "../../sdk/client.ts";
import { Deployment } from "../support/conformance/deployment.ts";
import { Member, send } from "../support/conformance/people.ts";
import { Plain, type PlainServer } from "../support/conformance/plain.ts";
import type { Fault } from "../support/sts-double.ts";
import { StsServer } from "../support/sts-server.ts";

/** Forgotten at each start, so that each start exchanges them all. */
const LOAD = Array.from({ length: 16 }, (_, i) => `load-${i}`);
const ALIASES = ["kept", "loose", "failing", "unseen", ...LOAD];
const WORD = "planted-words-of-the-cloud";

let sts: StsServer;
let deployment: Deployment;
let member: Member;
let session: AgentSession;
/** Of another session, for what goes on after the end of the first. */
let lastingToken: string;
/** What the STS has fetched of the issuer's keys; like a real one's it is behind. */
let known: JSONWebKeySet = { keys: [] };
let logs = "";
const secrets = new Map([[WORD, "the cloud's own words"]]);

const published = async () => (await (await fetch(`${deployment.url}/.well-known/jwks.json`)).json()) as JSONWebKeySet;
const envFile = () => join(deployment.stateDir, "dev.env");
const keysNow = () => JSON.parse(deployment.secrets["LEGATE_OIDC_KEYS"] ?? "[]") as Record<string, unknown>[];
const get = async (alias: string) => {
  const answer = await send(`${deployment.url}/federation/aws/${alias}`, "GET", { bearer: await session.token() });
  for (const name of ["SecretAccessKey", "Token"]) {
    const secret = answer.body[name];
    if (typeof secret === "string") secrets.set(secret, `${name} of ${alias}`);
  }
  return answer;
};

/** Writes other secrets into the deployment's file; they count from the next start on. */
function configure(over: Readonly<Record<string, string>>): void {
  const kept = readFileSync(envFile(), "utf8")
    .split("\n")
    .filter((line) => line !== "" && !Object.keys(over).includes(line.split("=", 1)[0] ?? ""));
  const added = Object.entries(over).map(([name, value]) => `${name}='${value}'`);
  writeFileSync(envFile(), [...kept, ...added, ""].join("\n"));
}

/** Keeps asking until it is told to stop; what could not be asked, because nobody listened, is no exchange. */
function load() {
  const statuses: Record<number, number> = {};
  const until = { isOver: false };
  const one = async (offset: number) => {
    for (let i = offset; !until.isOver; i++) {
      const answer = await get(LOAD[i % LOAD.length] ?? "").catch(() => null);
      if (answer === null) await new Promise((wake) => setTimeout(wake, 50));
      else statuses[answer.status] = (statuses[answer.status] ?? 0) + 1;
    }
  };
  const all = Promise.all(LOAD.map((_, i) => one(i)));
  return {
    end: async () => {
      until.isOver = true;
      await all;
      return statuses;
    },
  };
}

beforeAll(async () => {
  sts = await StsServer.start(async () => known);
  const role = (alias: string) => ({
    provider: "aws" as const,
    alias,
    atRest: alias === "kept" ? ("encrypted" as const) : ("none" as const),
    roleArn: "arn:aws:iam::123456789012:role/test",
    region: "eu-central-1",
    endpoint: alias === "failing" ? `${sts.url}failing` : sts.url,
    requiredTier: "free" as const,
  });
  deployment = await Deployment.start({
    log: (text) => (logs += text),
    input: {
      ...input,
      scopes: [
        ...input.scopes,
        ...ALIASES.map((alias) => ({ name: `aws:${alias}`, leastTier: "free" as const, description: "A test's." })),
      ],
      roles: ALIASES.map(role),
    },
  });
  known = await published();
  member = await Member.signUp(deployment.url);
  const scope = ["plan", "research", "catalog:read", ...ALIASES.map((alias) => `aws:${alias}`)];
  const agent = await member.registerAgent({ scope: scope.join(" ") });
  session = await agent.open({ scope });
  lastingToken = await (await agent.open({ scope })).token();
  secrets.set(member.password, "a password");
  secrets.set(member.browser.cookie.split("=")[1] ?? "", "a cookie");
  secrets.set(agent.key.d, "an agent's private key");
  secrets.set(await session.token(), "a session's token");
}, 240_000);
afterAll(async () => {
  await deployment?.end();
  sts?.end();
});

describe("a rotation of the key that signs, while everyone asks", () => {
  const steps = ["prepare", "activate", "retire"] as const;
  test("fails no exchange, though the STS learns of each step only after it", async () => {
    const running = load();
    const kids: (string | undefined)[] = [keysNow()[0]?.["kid"] as string];
    for (const step of steps) {
      const next = rotated(keysNow(), step);
      const over: Record<string, string> = { LEGATE_OIDC_KEYS: JSON.stringify(next) };
      // Meanwhile another rotation is half-way: agents open envelopes with two keys.
      if (step === "prepare") {
        over["LEGATE_IDENTITY_KEY_ALSO"] = deployment.secrets["LEGATE_IDENTITY_KEY"] ?? "";
        over["LEGATE_IDENTITY_KEY"] = Buffer.alloc(32, 7).toString("base64url").replace("B", "x");
      }
      configure(over);
      const before = sts.double.exchanges.length;
      await deployment.stop();
      await deployment.restart();
      await expect
        .poll(() => sts.double.exchanges.length - before, { timeout: 60_000, message: step })
        .toBeGreaterThanOrEqual(LOAD.length);
      kids.push(sts.double.exchanges.at(-1)?.kid);
      known = await published();
    }
    const statuses = await running.end();
    expect(Object.keys(statuses)).toEqual(["200"]);
    expect(sts.double.exchanges.filter(({ claims }) => claims === null)).toEqual([]);
    const [first, , last] = kids;
    expect(kids).toEqual([first, first, kids[3], kids[3]]);
    expect(kids[3]).not.toBe(first);
    expect(last).toBe(kids[3]);
    expect(known.keys.map(({ kid }) => kid)).toEqual([kids[3]]);
  }, 240_000);

  test("a key that the STS has not seen is refused: the load would have shown it", async () => {
    const right = known;
    known = { keys: [] };
    sts.double.exchanges.length = 0;
    expect(await get("unseen")).toMatchObject({ status: 502, body: { reason: "InvalidIdentityToken" } });
    expect(sts.double.exchanges).toHaveLength(2);
    known = right;
  });

  test("agents behind the gate open envelopes by LEGATE_IDENTITY_KEY_ALSO meanwhile", async () => {
    const answer = await session.fetch("/agents/researcher/default/lookup?q=coral");
    expect(answer.status).toBe(200);
  });
});

describe("nothing secret is left behind", () => {
  test("after exchanges, failures and stops: no file, no log and no other answer has any of it", async () => {
    expect((await get("kept")).status).toBe(200);
    expect((await get("loose")).status).toBe(200);
    sts.double.faults.push({ raw: `<html>${WORD}</html>`, status: 500 });
    const failed = await get("failing");
    expect(failed.status).toBe(503);
    const child = await session.spawn("helper", { scope: ["aws:kept"] });
    secrets.set(await child.token(), "a delegated token");
    await send(`${deployment.url}/federation/aws/kept`, "GET", { bearer: await child.token() });
    // Mistakes of callers: a token in a URL, a wrong password, a token that was changed.
    await send(`${deployment.url}/federation/aws/kept?token=${await session.token()}`, "GET", { bearer: "a.b.c" });
    const json = { username: member.username, password: `${member.password}x` };
    expect((await send(`${deployment.url}/auth/login`, "POST", { json })).status).toBe(401);
    await send(`${deployment.url}/sessions/current`, "GET", { bearer: `${await session.token()}x` });
    await session.end();
    const ended = await get("kept");
    expect(ended.status).toBe(401);
    for (const { form } of sts.double.exchanges) secrets.set(form["WebIdentityToken"] ?? "", "a web-identity token");
    for (const [name, value] of Object.entries(deployment.secrets)) {
      if (name === "LEGATE_OIDC_KEYS") for (const { d } of keysNow()) secrets.set(String(d), name);
      else if (value !== "" && !name.startsWith("LEGATE_IDENTITY")) secrets.set(value, name);
    }
    const database = () => readFileSync(deployment.database).includes("credential.exchanged");
    await expect.poll(database, { timeout: 20_000 }).toBe(true); // what happened has reached D1
    await deployment.stop();

    const places = new Map<string, Buffer>([["what it printed", Buffer.from(logs)]]);
    for (const name of readdirSync(deployment.stateDir, { recursive: true }).map(String)) {
      const file = join(deployment.stateDir, name);
      if (name !== "dev.env" && statSync(file).isFile()) places.set(name, readFileSync(file));
    }
    for (const { status, text } of [failed, ended]) places.set(`an answer with ${status}`, Buffer.from(text));
    const found: string[] = [];
    for (const [place, bytes] of places) {
      for (const [secret, what] of secrets) {
        const forms = [
          secret,
          encodeURIComponent(secret),
          Buffer.from(secret)
            .toString("base64")
            .replace(/.{0,3}=*$/, ""),
        ];
        if (forms.some((form) => bytes.includes(form))) found.push(`${what} in ${place}`);
      }
    }
    expect(found).toEqual([]);
    expect(secrets.size).toBeGreaterThan(2 * LOAD.length);
    const holders = [...places].filter(([, bytes]) => bytes.includes(member.id)).map(([place]) => place);
    expect(
      holders.some((place) => place.includes("/do/")),
      "the search finds what is there",
    ).toBe(true);
    expect(holders.some((place) => place.includes("/d1/"))).toBe(true);
  }, 120_000);
});

// Here a request's promises die with its connection: what one caller began must not hang for the others.
describe("on plain workerd, a thousand cold callers of one key, the first of which is cut off", () => {
  let server: PlainServer;
  let bearer: string;
  const agent = new Agent({ maxSockets: Infinity });
  const ask = (alias: string) =>
    new Promise<{ status: number; body: Record<string, unknown>; retryAfter: number }>((resolve, reject) => {
      const headers = { authorization: bearer };
      const asked = request(`${server.url}/federation/aws/${alias}`, { agent, headers, timeout: 60_000 }, (answer) => {
        let text = "";
        answer.on("data", (chunk: Buffer) => (text += String(chunk)));
        answer.on("end", () => {
          const retryAfter = Number(answer.headers["retry-after"] ?? 0);
          resolve({ status: answer.statusCode ?? 0, body: JSON.parse(text) as Record<string, unknown>, retryAfter });
        });
      });
      asked.once("timeout", () => asked.destroy(new Error("no answer")));
      asked.once("error", reject).end();
    });

  beforeAll(async () => {
    await deployment.stop(); // its objects are read from now on by another
    const folder = join(deployment.stateDir, "plain");
    mkdirSync(folder);
    const { url: issuer, secrets: held, objectsDir, configs } = deployment;
    const plain = await Plain.build({ folder, objectsDir, issuer, secrets: held, configs });
    server = await plain.start();
    bearer = `Bearer ${lastingToken}`;
  }, 120_000);
  afterAll(async () => {
    agent.destroy();
    await server?.stop();
  });

  /** What is told while the fault lasts, and how long each pause after it is at least. */
  test.each<[string, string, Fault | null, number, string | undefined, number]>([
    ["is slow", "load-0", null, 200, undefined, Infinity],
    ["refuses", "load-1", { code: "AccessDenied", status: 403 }, 502, "exchange_refused", 5_000],
    ["fails", "load-2", { code: "InternalFailure", status: 500 }, 503, "exchange_unavailable", 750],
    ["drops the connection", "load-3", { drop: true }, 503, "exchange_unavailable", 750],
  ])(
    "and the STS %s: one outcome for all, and one exchange in a pause",
    async (_, alias, fault, status, code, pauseMs) => {
      const { exchanges, faults } = sts.double;
      exchanges.length = 0;
      faults.length = 0;
      if (fault !== null) faults.push(...Array.from({ length: 20 }, () => fault));
      const held = { isOver: false };
      sts.double.meanwhile = async () => {
        while (!held.isOver) await new Promise((wake) => setTimeout(wake, 20));
      };
      const first = await server.sendRaw(`/federation/aws/${alias}`, { authorization: bearer });
      await expect.poll(() => exchanges.length, { timeout: 30_000 }).toBe(1);
      first.resetAndDestroy();
      const asked = Array.from({ length: 1_000 }, () => ask(alias));
      await Promise.race([...asked, new Promise((wake) => setTimeout(wake, 1_500))]);
      held.isOver = true;
      const answers = await Promise.all(asked);
      expect(new Set(answers.map((answer) => answer.status))).toEqual(new Set([status]));
      expect(new Set(answers.map(({ body }) => body["AccessKeyId"] ?? body["code"])).size).toBe(1);
      expect(answers[0]?.body["code"]).toBe(code);
      // A machine that takes longer than a pause for a thousand answers sees another exchange, and never two in one pause.
      const gaps = exchanges.slice(1).map(({ at }, i) => at - (exchanges[i]?.at ?? 0));
      expect(gaps.filter((gap) => gap < pauseMs - 50)).toEqual([]);
      if (pauseMs > 1_000) return;
      faults.length = 0;
      const before = exchanges.length;
      const recovered = async () =>
        (await Promise.all(Array.from({ length: 50 }, () => ask(alias)))).map((each) => each.status);
      await expect.poll(recovered, { timeout: 60_000, interval: 250 }).toEqual(Array(50).fill(200));
      expect(exchanges.length - before, "one exchange for all of them").toBe(1);
    },
    120_000,
  );
});
