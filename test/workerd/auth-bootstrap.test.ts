// The first operator: of fifty who redeem the code at once one becomes it, and nobody learns anything from a refusal.
import { env } from "cloudflare:workers";
import { randomBytes } from "node:crypto";
import { expect, test } from "vitest";
import type { EpochMs } from "../../core/ids.ts";
import type { Edge } from "../../worker/env.ts";
import { Browser, edge, freshName, PASSWORD, visible } from "../support/workerd/ways-in.ts";

const codeOf = (ageSeconds: number) =>
  `${Math.floor(Date.now() / 1000) - ageSeconds}.${randomBytes(18).toString("base64url")}`;
const edgeWith = (bootstrap: string | null): Edge => ({ ...edge, bootstrap });

const redeem = (bootstrap: string, via: Edge, username = freshName("op")) =>
  new Browser().send("/auth/register", { json: { username, password: PASSWORD, bootstrap }, edge: via });

test("of fifty racing redemptions one wins, and leaves one operator", { timeout: 60_000 }, async () => {
  const code = codeOf(10);
  const via = edgeWith(code);
  const prefix = freshName("racer");
  const answers = await Promise.all(Array.from({ length: 50 }, (_, i) => redeem(code, via, `${prefix}-${i}`)));
  const won = answers.filter(({ status }) => status === 201);
  expect(won).toHaveLength(1);
  expect(won[0]?.body.user.tier).toBe("admin");
  expect(answers.filter(({ status }) => status === 404)).toHaveLength(49);
  const { results } = await env.DB.prepare("select tier from users where username like ?").bind(`${prefix}%`).all();
  expect(results).toEqual([{ tier: "admin" }]);
});

test("wrong, used, late, early and absent codes get one answer, and make nobody", async () => {
  const used = codeOf(10);
  expect((await redeem(used, edgeWith(used))).status).toBe(201);
  const late = codeOf(86_400);
  const early = codeOf(-60);
  const odd = "today.please";
  const refused = [
    await redeem(used, edgeWith(used)),
    await redeem(codeOf(10), edgeWith(codeOf(10))),
    await redeem(late, edgeWith(late)),
    await redeem(early, edgeWith(early)),
    await redeem(odd, edgeWith(odd)),
    await redeem("", edgeWith("")),
    await redeem(used, edgeWith(null)),
  ];
  expect(refused[0]).toMatchObject({ status: 404, body: { code: "not_found" } });
  for (const answer of refused) expect(visible(answer)).toEqual(visible(refused[0] as (typeof refused)[0]));
});

test("a code is good until its last second", async () => {
  const code = codeOf(0);
  const madeAt = Number(code.split(".")[0]);
  const at = (second: number): Edge => ({ ...edgeWith(code), now: () => ((madeAt + second) * 1000) as EpochMs });
  expect((await redeem(code, at(86_400))).status).toBe(404);
  expect((await redeem(code, at(86_399))).status).toBe(201);
});

test("a taken name uses no code up", async () => {
  const code = codeOf(10);
  const via = edgeWith(code);
  const name = freshName("taken");
  await new Browser().send("/auth/register", { json: { username: name, password: PASSWORD } });
  const clash = await redeem(code, via, name);
  expect([clash.status, clash.body.code]).toEqual([409, "username_taken"]);
  expect((await redeem(code, via)).status).toBe(201);
});

test("without a code nobody is more than free", async () => {
  const answer = await new Browser().send("/auth/register", { json: { username: freshName(), password: PASSWORD } });
  expect(answer.body.user.tier).toBe("free");
});
