// The same commands, fewer runs, on the object inside workerd: its own storage, RPC and evictions.
import { expect, test } from "vitest";
import { simulate } from "./simulate.ts";

test("20 runs of 200 commands on the object in workerd break no promise", async () => {
  expect(await simulate("object", 20)).toMatchObject({ runs: 20, failure: null });
});
