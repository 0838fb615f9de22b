// The deployment that this repository is: its registry and its Workers' bindings say the same.
import { expect, test } from "vitest";
import { configMistakes } from "../../scripts/check-config.ts";

test("legate.config.ts and the Workers' configurations agree", async () => {
  expect(await configMistakes()).toEqual([]);
});
