// What the edge refuses to start with: each is a sentence for whoever deploys, and holds no secret.
import { env } from "cloudflare:workers";
import { describe, expect, onTestFinished, test } from "vitest";
import { edgeOf } from "../../worker/env.ts";
import { config } from "../../legate.config.ts";

const WEAK = "A".repeat(43);

/** The sentence with which an edge of that environment refuses, or null where it starts. */
async function refusal(changes: object): Promise<string | null> {
  try {
    await edgeOf({ ...env, ...changes });
    return null;
  } catch (mistake) {
    return (mistake as Error).message;
  }
}

describe("the edge's start", () => {
  test("as it is deployed", async () => expect(await refusal({})).toBeNull());

  test.each([
    ["no secret", { LEGATE_SECRET: undefined }, /^LEGATE_SECRET must be 32 random bytes/],
    ["a weak secret", { LEGATE_SECRET: WEAK }, /^LEGATE_SECRET must be 32 random bytes/],
    ["a weak second secret", { LEGATE_SECRET_ALSO: WEAK }, /^LEGATE_SECRET_ALSO must be 32 random bytes/],
    ["a short key for ids", { LEGATE_ID_KEY: "AAAA" }, /^LEGATE_ID_KEY must be 32 random bytes/],
    ["an issuer with a slash", { LEGATE_ISSUER: "https://legate.example/" }, /^LEGATE_ISSUER must be/],
    ["an issuer over http", { LEGATE_ISSUER: "http://legate.example" }, /^LEGATE_ISSUER must be/],
  ])("%s", async (_, changes, sentence) => {
    const said = await refusal(changes);
    expect(said).toMatch(sentence);
    expect(said).not.toContain(WEAK);
  });

  test.each(["https://legate.example", "https://legate.example/agents/planner"])(
    "an audience that is the deployment: %s",
    async (name) => {
      const audiences = config.audiences as Map<string, unknown>;
      audiences.set(name, { name });
      onTestFinished(() => void audiences.delete(name));
      expect(await refusal({ LEGATE_ISSUER: "https://legate.example" })).toContain(`audience ${name}`);
      expect(await refusal({ LEGATE_ISSUER: "https://other.example" })).toBeNull();
    },
  );
});
