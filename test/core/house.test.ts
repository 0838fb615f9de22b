// What npm start decides before anything is installed.
import { describe, expect, test } from "vitest";
import { deriveIdentityKey } from "../../scripts/lib/dev-env.mjs";
import { checkNode } from "../../scripts/lib/install.mjs";

describe("the node that npm start accepts", () => {
  test.each([
    // version, npm brings node 24 here, sentence or nothing
    ["18.19.0", true, "node 20 or newer"],
    ["20.0.0", true, undefined],
    ["20.20.2", false, "22.12 or newer"],
    ["22.11.0", false, "22.12 or newer"],
    ["22.12.0", false, undefined],
    ["24.0.0", false, undefined],
  ])("%s, bundled %s", (version, bundled, sentence) => {
    const check = () => checkNode(version, bundled);
    if (sentence === undefined) expect(check).not.toThrow();
    else expect(check).toThrow(sentence);
  });
});

test("an identity key is of one secret and one Worker", () => {
  const secret = Buffer.alloc(32, 1).toString("base64url");
  const key = deriveIdentityKey(secret, "legate-agents");
  expect(Buffer.from(key, "base64url")).toHaveLength(32);
  expect(deriveIdentityKey(secret, "legate-agents")).toBe(key);
  expect(deriveIdentityKey(secret, "other-agents")).not.toBe(key);
  expect(deriveIdentityKey(Buffer.alloc(32, 2).toString("base64url"), "legate-agents")).not.toBe(key);
});
