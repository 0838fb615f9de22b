// One limiter as an object: what it counts survives its memory, it forgets what is whole again, and it stays small.
import { evictDurableObject, runDurableObjectAlarm, runInDurableObject } from "cloudflare:test";
import { env } from "cloudflare:workers";
import { expect, test } from "vitest";
import { ALLOWANCES, LIMITER_ROWS_MAX } from "../../core/signin.ts";

const limiter = (name: string) => env.LOGIN_LIMITER.getByName(`test-${name}`);
const { burst } = ALLOWANCES.name;

async function useUp(stub: ReturnType<typeof limiter>, key: string) {
  for (let i = 0; i < burst; i++) expect(await stub.attempt("name", key)).toBeNull();
}

test("counts, refuses, gives back, and keys don't meet", async () => {
  const stub = limiter("counts");
  await useUp(stub, "ada");
  const refusal = await stub.attempt("name", "ada");
  expect(refusal?.retryAfterMs).toBeGreaterThan(0);
  expect(refusal?.retryAfterMs).toBeLessThanOrEqual(ALLOWANCES.name.everyMs);
  expect(await stub.attempt("name", "bob")).toBeNull();
  expect(await stub.attempt("device", "ada")).toBeNull();
  await stub.refund("name", "ada");
  expect(await stub.attempt("name", "ada")).toBeNull();
  expect(await stub.attempt("name", "ada")).not.toBeNull();
});

test("a hundred tries at once get no more than there are", async () => {
  const stub = limiter("race");
  const told = await Promise.all(Array.from({ length: 100 }, () => stub.attempt("name", "ada")));
  expect(told.filter((refusal) => refusal === null)).toHaveLength(burst);
});

test("an evicted limiter remembers", async () => {
  const stub = limiter("evicted");
  await useUp(stub, "ada");
  await evictDurableObject(stub);
  expect(await stub.attempt("name", "ada")).not.toBeNull();
});

test("a full one lets go of the least used, never of who is under attack", async () => {
  const stub = limiter("full");
  await useUp(stub, "ada");
  await runInDurableObject(stub, (_, { storage }) => {
    storage.transactionSync(() => {
      const soon = Date.now() + 1_000;
      for (let i = 0; i < LIMITER_ROWS_MAX; i++)
        storage.sql.exec("insert into tries (key, full_at) values (?, ?)", `name:stranger-${i}`, soon);
    });
  });
  await evictDurableObject(stub);
  expect(await stub.attempt("name", "one-more")).toBeNull();
  expect(await stub.attempt("name", "ada")).not.toBeNull();
  await runInDurableObject(stub, (_, { storage }) => {
    const { rows } = storage.sql.exec<{ rows: number }>("select count(*) as rows from tries").one();
    expect(rows).toBeLessThanOrEqual(LIMITER_ROWS_MAX);
  });
});

test("the alarm forgets what is whole again, and rests when nothing is left", async () => {
  const stub = limiter("alarm");
  expect(await stub.attempt("name", "ada")).toBeNull();
  await runInDurableObject(stub, (_, { storage }) => {
    storage.sql.exec("update tries set full_at = ?", Date.now() - 1);
  });
  expect(await runDurableObjectAlarm(stub)).toBe(true);
  await runInDurableObject(stub, async (_, { storage }) => {
    expect(storage.sql.exec("select * from tries").toArray()).toEqual([]);
    expect(await storage.getAlarm()).toBeNull();
  });
});
