// What npm start decides before anything is installed.
import { mkdirSync, mkdtempSync, rmSync, symlinkSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { describe, expect, onTestFinished, test } from "vitest";
import { deriveIdentityKey } from "../../scripts/lib/dev-env.mjs";
import { checkNode, checkNotLinked } from "../../scripts/lib/install.mjs";

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

test("npm empties no folder through a link", () => {
  const folder = mkdtempSync(join(tmpdir(), "legate-house-"));
  onTestFinished(() => rmSync(folder, { recursive: true }));
  const [real, linked, dangling] = ["real", "linked", "dangling"].map((name) => join(folder, name)) as [
    string,
    string,
    string,
  ];
  mkdirSync(real);
  symlinkSync(real, linked);
  symlinkSync(join(folder, "nowhere"), dangling);
  expect(() => checkNotLinked(join(folder, "absent"))).not.toThrow();
  expect(() => checkNotLinked(real)).not.toThrow();
  expect(() => checkNotLinked(linked)).toThrow("node_modules is a symbolic link");
  expect(() => checkNotLinked(dangling)).toThrow("node_modules is a symbolic link");
});

test("an identity key is of one secret and one Worker", () => {
  const secret = Buffer.alloc(32, 1).toString("base64url");
  const key = deriveIdentityKey(secret, "legate-agents");
  expect(Buffer.from(key, "base64url")).toHaveLength(32);
  expect(deriveIdentityKey(secret, "legate-agents")).toBe(key);
  expect(deriveIdentityKey(secret, "other-agents")).not.toBe(key);
  expect(deriveIdentityKey(Buffer.alloc(32, 2).toString("base64url"), "legate-agents")).not.toBe(key);
});
