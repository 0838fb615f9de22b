// A thousand simulated runs of the object in node, as `npm run simulate` makes them: the program itself is run, so that
// what fails here is replayed by the line that it prints. SEED chooses another thousand.
import { expect, test } from "vitest";
import { simulate } from "./simulate.ts";

test("1,000 runs of 200 commands on the object's code break no promise", async () => {
  expect(await simulate("core", 1_000)).toMatchObject({ runs: 1_000, failure: null });
});

test("a run replays to the letter", async () => {
  const [first, second] = [await simulate("core", 1, 7), await simulate("core", 1, 7)];
  expect({ ...first, ms: 0 }).toEqual({ ...second, ms: 0 });
});
