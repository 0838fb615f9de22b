// Ten thousand requests of people whom nobody let in: they are all refused, told nothing, and create no object, neither
// a user's nor an agent's. Objects are counted as the files in which they live.
import { decodeJwt } from "jose";
import { afterAll, beforeAll, expect, test } from "vitest";
import { Deployment } from "../support/conformance/deployment.ts";
import { LEAKS, Member, send } from "../support/conformance/people.ts";
import { strangersRequests } from "../support/conformance/strangers.ts";
import { Wire } from "../support/conformance/wire.ts";
import { assertionOf, provenForm } from "../support/conformance/assertions.ts";

const REQUESTS = 10_000;
const SIGN_INS = 60;

let deployment: Deployment;
let wire: Wire;
beforeAll(async () => {
  deployment = await Deployment.start();
  wire = new Wire(deployment.url);
});
afterAll(async () => {
  wire.close();
  await deployment.end();
});

test("create no object, and are all refused", async () => {
  const member = await Member.signUp(deployment.url);
  const agent = await member.registerAgent();
  const session = await agent.open();
  const usedAssertion = await assertionOf(agent, deployment.url);

  const body = provenForm(usedAssertion, { grant_type: "client_credentials" });
  expect((await send(`${deployment.url}/oauth/token`, "POST", { body })).status).toBe(200);
  expect(decodeJwt(usedAssertion).sub).toBe(agent.clientId);

  const before = deployment.objects("SessionAuthority", "Planner", "Researcher", "Catalog");
  expect(before, "the member's own object is all there is").toHaveLength(1);

  const seen = { issuer: deployment.url, user: member.id, agent: agent.clientId, session: session.id, usedAssertion };
  const requests = await strangersRequests(REQUESTS, "strangers", seen);
  const signIns = Array.from({ length: SIGN_INS }, (_, i) => ({
    method: "POST",
    path: "/auth/login",
    headers: { "content-type": "application/json", "cf-connecting-ip": `10.9.${i}.1` },
    body: JSON.stringify({ username: `nobody-${i}`, password: "an invented password" }),
  }));
  const answers = await wire.sendAll([...requests, ...signIns]);

  const odd = answers.flatMap((answer, i) => {
    const { method = "GET", path } = requests[i] ?? { path: "/auth/login" };
    const isPreflight = method === "OPTIONS" && answer.status === 204;
    const isRefusal = answer.status >= 400 && answer.status < 500 && !LEAKS.test(answer.text);
    return isRefusal || isPreflight ? [] : [`${method} ${path}: ${answer.status} ${answer.text.slice(0, 200)}`];
  });
  expect(odd).toEqual([]);
  expect(answers.filter(({ status }) => status === 429).length, "turned away unread").toBeLessThan(REQUESTS / 100);

  // Someone who is let in is seen at once: the count would have shown an object.
  await Member.signUp(deployment.url);
  await expect.poll(() => deployment.objects("SessionAuthority").length, { timeout: 5_000 }).toBe(2);
  expect(deployment.objects("Planner", "Researcher", "Catalog")).toEqual([]);
  expect(deployment.objects("SessionAuthority")).toEqual(expect.arrayContaining(before));
  expect(deployment.objects("LoginLimiter").length).toBeLessThanOrEqual(16);
  await session.end();
}, 600_000);

test("say nothing that tells a real id from an invented one", async () => {
  const member = await Member.signUp(deployment.url);
  const agent = await member.registerAgent();
  const session = await agent.open();
  const stranger = await Member.signUp(deployment.url);
  const invented = `ses_${"a".repeat(20)}_${"b".repeat(28)}`;
  const tagless = `${session.id.slice(0, -8)}22222222`;
  for (const [method, path, json] of [
    ["GET", "/sessions/ID", undefined],
    ["DELETE", "/sessions/ID", undefined],
    ["PATCH", "/sessions/ID", { budget: 1 }],
    ["GET", "/sessions/ID.AAAAAAAAAAAA", undefined],
  ] as const) {
    const answers = await Promise.all(
      [session.id, invented, tagless, "x"].map(async (id) => {
        const answer = await stranger.browser.send(method, path.replace("ID", id), json === undefined ? {} : { json });
        return [answer.status, answer.text];
      }),
    );
    expect(new Set(answers.map(String)).size, `${method} ${path}`).toBe(1);
    expect(answers[0]?.[0]).toBe(404);
  }
});
