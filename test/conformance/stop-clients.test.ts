// An unmodified AgentClient of agents/client on a protected agent: a ticket for each attempt, hibernation, renewal in
// band, the end that it takes for an end, and the one after which it comes back. And a crash between mark and fan-out.
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { readControlFrame } from "../../sdk/client.ts";
import type { EpochSeconds } from "../../core/ids.ts";
import { decodeObject, type TokenClaims } from "../../core/token/format.ts";
import { liveSecrets, sessionTokenKey } from "../../core/token/keyring.ts";
import { parseSecret } from "../../core/token/mac.ts";
import { renewInBand } from "../../sdk/client/renewal.ts";
import { Deployment } from "../support/conformance/deployment.ts";
import { Member } from "../support/conformance/people.ts";
import { stockClient, ticketsOf, until } from "../support/conformance/stop-scene.ts";

const HIBERNATED_AFTER_MS = 12_500; // workerd puts an object to sleep after some ten seconds without work (measured)
const QUESTION = JSON.stringify({ question: "What do corals need?" });

let deployment: Deployment;
let operator: Member;
beforeAll(async () => {
  deployment = await Deployment.start();
  operator = await Member.signUp(deployment.url, deployment.secrets["LEGATE_BOOTSTRAP"]);
});
afterAll(() => deployment.end());

async function session() {
  const member = await Member.signUp(deployment.url);
  return (await member.registerAgent()).open();
}

/** The same grant's token, as the edge would have minted it with less time to go. */
async function shortened(token: string, seconds: number): Promise<{ token: string; exp: number }> {
  const secret = parseSecret(deployment.secrets["LEGATE_SECRET"] ?? "");
  if (secret === null) throw new Error("the deployment has no secret");
  const key = await sessionTokenKey(await liveSecrets([secret]), deployment.url);
  const payload = decodeObject(token.split(".")[1] ?? "");
  if (payload === null) throw new Error("not a token");
  const { iss: _, aud: __, ...claims } = payload.value as unknown as TokenClaims;
  const exp = (Math.floor(Date.now() / 1000) + seconds) as EpochSeconds;
  return { token: await key.mint({ ...claims, exp }), exp };
}

const stop = (id: string, wait = true) =>
  operator.browser.done("DELETE", `/admin/agents/sessions/${id}${wait ? "" : "?wait=0"}`, { json: { reason: "test" } });
/** Every process at once, and a new start on the same port, which its last owner may hold for a moment longer. */
async function crash(): Promise<void> {
  await deployment.kill9();
  await until(async () => {
    try {
      await deployment.restart();
      return true;
    } catch (error) {
      if (String(error).includes("in use")) return false;
      throw error;
    }
  }, 30_000);
}

const reportOf = (id: string) => operator.browser.done("GET", `/admin/agents/sessions/${id}/stop`);

describe("an unmodified AgentClient", () => {
  test("connects with a ticket, sleeps with its object, and stops for good at 4403", { timeout: 60_000 }, async () => {
    const opened = await session();
    const seen = stockClient(deployment.url, "researcher", "stock", ticketsOf(opened, "researcher", "stock"));
    await until(() => seen.opens === 1);
    seen.client.send(QUESTION);
    await until(() => seen.messages.some((message) => message.includes("findings")));
    await new Promise((wake) => setTimeout(wake, HIBERNATED_AFTER_MS));
    seen.messages.length = 0;
    seen.client.send(QUESTION);
    await until(() => seen.messages.some((message) => message.includes("findings")));
    await stop(opened.id);
    await until(() => seen.closes.length > 0);
    const why = { code: 4403, reason: `session_ended ${opened.id}` };
    expect(seen.closes).toEqual([why]);
    expect(seen.client.connectionError).toMatchObject(why); // what a page shows
    await new Promise((wake) => setTimeout(wake, 4_000)); // it would have come back by now
    expect([seen.opens, seen.closes.length]).toEqual([1, 1]);
    expect(seen.messages.map(readControlFrame).some((frame) => frame?.type === "legate.terminated")).toBe(true);
  });

  test("is renewed in band past the end of its first token", { timeout: 60_000 }, async () => {
    const opened = await session();
    const first = await shortened(await opened.token(), 12);
    const target = "/agents/researcher/renewed";
    const bought = await fetch(`${deployment.url}/sessions/ticket`, {
      method: "POST",
      headers: { authorization: `Bearer ${first.token}`, "content-type": "application/json" },
      body: JSON.stringify({ target }),
    });
    const { protocols } = (await bought.json()) as { protocols: string[] };
    const seen = stockClient(deployment.url, "researcher", "renewed", async () => protocols);
    renewInBand(seen.client, (connection) => opened.ticket(target, connection));
    await until(() => seen.messages.some((message) => readControlFrame(message)?.type === "legate.renewed"));
    await until(() => Date.now() > first.exp * 1000 + 1_000);
    seen.client.send(QUESTION);
    await until(() => seen.messages.some((message) => message.includes("findings")));
    expect([seen.opens, seen.closes]).toEqual([1, []]);
    seen.client.close();
  });

  test("comes back with another ticket after a restart", { timeout: 60_000 }, async () => {
    const opened = await session();
    const seen = stockClient(deployment.url, "researcher", "restart", ticketsOf(opened, "researcher", "restart"));
    await until(() => seen.opens === 1);
    await crash();
    await until(() => seen.opens === 2, 30_000);
    seen.client.send(QUESTION);
    await until(() => seen.messages.some((message) => message.includes("findings")));
    seen.client.close();
  });
});

describe("kill -9 between the mark and the fan-out", () => {
  test("leaves a stop that goes on by itself, and a row that says who ended it", { timeout: 60_000 }, async () => {
    const opened = await session();
    const socket = await opened.connect("/agents/researcher/crash");
    const { endedAt } = await stop(opened.id, false);
    await crash();
    await until(async () => (await reportOf(opened.id))["state"] === "terminal", 30_000);
    const answer = await opened.fetch("/agents/researcher/crash/lookup?q=coral");
    expect(answer.status).toBe(401);
    await until(async () => {
      const found = await operator.browser.send("GET", `/admin/agents/sessions/${opened.id}`);
      const row = found.body["session"] as { endedBy?: string; endedAt?: number } | null;
      return row?.endedBy === operator.id && row.endedAt === endedAt;
    }, 30_000);
    socket.close();
  });
});
