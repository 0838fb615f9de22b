import { env, exports } from "cloudflare:workers";
import { expect, test } from "vitest";

test("the edge answers /healthz", async () => {
  const answer = await exports.default.fetch("http://legate.test/healthz");
  expect(answer.status).toBe(200);
  expect(await answer.json()).toEqual({ status: "ok" });
});

test("the agents' Worker is bound, though it is another script", async () => {
  const answer = await env.PLANNER.getByName("health").fetch("http://legate.test/");
  expect(answer.status).toBeGreaterThan(0);
});
