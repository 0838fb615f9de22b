// On plain workerd the promises of a request die with its connection. A Worker that let one request wait for what
// another began would hang as soon as the first client went away: `wrangler dev`'s proxy hides it, so here there is none.
// Each round is a cold isolate, and both requests race its first derivation of keys.
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { Deployment } from "../support/conformance/deployment.ts";
import { Member, read } from "../support/conformance/people.ts";
import { Plain, type PlainServer } from "../support/conformance/plain.ts";

const ANSWERED_WITHIN_MS = 8_000;
const SHORT_MS = 3_000; // long enough for whoever would answer, where the answer is to be none
const RESET_AFTER_MS = [0, 10, 60, 200];

let deployment: Deployment;
let plain: Plain;
let folder: string;
let authorization: string;

beforeAll(async () => {
  deployment = await Deployment.start();
  const member = await Member.signUp(deployment.url);
  const session = await (await member.registerAgent()).open();
  authorization = `Bearer ${await session.token()}`;
  await deployment.stop();
  folder = mkdtempSync(join(tmpdir(), "legate-plain-"));
  const { url: issuer, secrets, objectsDir } = deployment;
  plain = await Plain.build({ folder, objectsDir, issuer, secrets });
}, 240_000);
afterAll(async () => {
  await deployment.end();
  rmSync(folder, { recursive: true, force: true });
});

/** @returns how the second of two requests was answered, the first having been reset; "nothing" in time */
async function secondOfTwo(path: string, resetAfterMs: number): Promise<number | "nothing"> {
  const server = await plain.start();
  try {
    return await secondAt(server, path, resetAfterMs, ANSWERED_WITHIN_MS);
  } finally {
    await server.stop();
  }
}

async function secondAt(server: PlainServer, path: string, resetAfterMs: number, withinMs: number) {
  const first = await server.sendRaw(path, { authorization });
  const signal = AbortSignal.timeout(withinMs);
  const second = fetch(`${server.url}${path}`, { headers: { authorization }, signal }).then(read);
  second.catch(() => {});
  await sleep(resetAfterMs);
  first.resetAndDestroy();
  return second.then(({ status }) => status).catch(() => "nothing" as const);
}

describe.each(["/healthz", "/sessions/current", "/agents/planner/default/history"])("two requests for %s", (path) => {
  test.each(RESET_AFTER_MS)("the first reset after %i ms: the second answers", async (resetAfterMs) => {
    expect(await secondOfTwo(path, resetAfterMs)).toBe(200);
  });
});

test("a third, after both have gone, and the isolate's leases with them", async () => {
  const path = "/agents/planner/default/history";
  const server = await plain.start();
  try {
    const gone = await Promise.all([0, 1].map(() => server.sendRaw(path, { authorization })));
    await sleep(5);
    for (const socket of gone) socket.resetAndDestroy();
    const calls = Array.from({ length: 8 }, () =>
      fetch(`${server.url}${path}`, { headers: { authorization }, signal: AbortSignal.timeout(ANSWERED_WITHIN_MS) }),
    );
    expect((await Promise.all(calls)).map(({ status }) => status)).toEqual(Array(8).fill(200));
  } finally {
    await server.stop();
  }
});

test("this would be seen: an edge made once for all, by a promise that the first request began", async () => {
  const edge = plain.mutant("sharing", (source) => {
    const changed = source.replace(/async function edgeOf\(/, "async function edgeOfOnce(");
    expect(changed).not.toBe(source);
    return `${changed}
let sharedEdge;
function edgeOf(env) {
  return (sharedEdge ??= new Promise((done) => setTimeout(done, 60)).then(() => edgeOfOnce(env)));
}\n`;
  });
  const alone = await plain.start(edge);
  expect((await fetch(`${alone.url}/healthz`)).status, "it works while nobody leaves").toBe(200);
  await alone.stop();
  const server = await plain.start(edge);
  expect(await secondAt(server, "/healthz", 10, SHORT_MS)).toBe("nothing");
  await server.stop();
});
