// The house rules over every file of the repository, and over planted offences: a rule that cannot fail is a defect.
import { execFileSync } from "node:child_process";
import { existsSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import { FILE_RULES, cycles, foreignHosts, machineProblems, sourceFile } from "./support/tidy.ts";

const ROOT = join(import.meta.dirname, "..");

// New files count before they are added; ignored ones never do.
const paths = execFileSync("git", ["ls-files", "-z", "--cached", "--others", "--exclude-standard"], { cwd: ROOT })
  .toString()
  .split("\0")
  .filter((path) => path !== "" && existsSync(join(ROOT, path)) && !/\.(png|svg|ico|woff2)$/.test(path));
const files = paths.map((path) => sourceFile(path, readFileSync(join(ROOT, path), "utf8")));

describe("the repository", () => {
  test.each(Object.entries(FILE_RULES))("%s", (_, rule) => {
    expect(files.flatMap((file) => rule(file).map((problem) => `${file.path} ${problem}`))).toEqual([]);
  });

  test("has no cycles", () => expect(cycles(files)).toEqual([]));

  test("names nothing of one machine", () => {
    expect(files.flatMap(({ path, text }) => machineProblems(text).map((problem) => `${path} ${problem}`))).toEqual([]);
  });

  test("locks packages of npm's own registry only", () => {
    expect(foreignHosts(readFileSync(join(ROOT, "package-lock.json"), "utf8"))).toEqual([]);
  });
});

// rule, offending path, offending text, and the same thought written as it should be
const PLANTED: readonly (readonly [string, string, string, string])[] = [
  ["core imports only core", "core/a.ts", `import { x } from "node:crypto";`, `import { x } from "./b.ts";`],
  [
    "core imports only core",
    "core/a.ts",
    `import type { X } from "../worker/env.ts";`,
    `import type { X } from "./x.ts";`,
  ],
  [
    "core has no clock and no chance",
    "core/a.ts",
    `const now = Date.now();`,
    `// never Date.now()\nconst now = given;`,
  ],
  ["core has no clock and no chance", "core/a.ts", `const n = Math.random();`, `const n = random(12);`],
  [
    "sdk imports of ours only core",
    "sdk/client.ts",
    `import { x } from "../worker/env.ts";`,
    `import { x } from "../core/x.ts";`,
  ],
  [
    "console and cli import of ours only core and sdk",
    "cli/main.ts",
    `import "../worker/x.ts";`,
    `import "../sdk/client.ts";`,
  ],
  [
    "worker knows state only as types",
    "worker/gate.ts",
    `import { SessionAuthority } from "../durable-objects/session-authority.ts";`,
    `import type { SessionAuthority } from "../durable-objects/session-authority.ts";`,
  ],
  [
    "only worker/index.ts re-exports the objects' classes",
    "worker/rpc.ts",
    `export { SessionAuthority } from "../durable-objects/session-authority.ts";`,
    `export const x = 1;`,
  ],
  [
    "objects import neither worker nor sdk",
    "durable-objects/a.ts",
    `import "../sdk/agent.ts";`,
    `import "../core/ids.ts";`,
  ],
  [
    "D1's queries have few readers",
    "worker/gate.ts",
    `const q = await import("../drizzle/d1/queries.ts");`,
    `import type { Row } from "../drizzle/d1/queries.ts";`,
  ],
  [
    "env is an argument",
    "worker/gate.ts",
    `import { env } from "cloudflare:workers";`,
    `import { WorkerEntrypoint } from "cloudflare:workers";`,
  ],
  ["zod is a namespace or mini", "worker/a.ts", `import { z } from "zod";`, `import * as z from "zod";`],
  [
    "the edge imports packages statically",
    "worker/a.ts",
    `const z = await import("zod/mini");`,
    `const schema = await import("./schema.ts");`,
  ],
  ["no barrels", "core/token/all.ts", `export * from "./mac.ts";`, `export const mac = 1;`],
  ["no barrels", "core/token/index.ts", `export const x = 1;`, ``],
  ["relative imports name their file", "worker/a.ts", `import { x } from "./b";`, `import { x } from "./b.ts";`],
  ["files stay short", "worker/a.ts", "\n".repeat(421), "\n".repeat(420)],
];

describe("a planted offence", () => {
  test.each(PLANTED)("%s: %s", (name, path, bad, good) => {
    const rule = FILE_RULES[name];
    expect(rule?.(sourceFile(path, bad))).toHaveLength(1);
    if (good !== "") expect(rule?.(sourceFile(path, good))).toEqual([]);
  });

  test("every rule has one", () => {
    expect(Object.keys(FILE_RULES).filter((name) => !PLANTED.some(([planted]) => planted === name))).toEqual([]);
  });

  test("a cycle, and not a cycle of types", () => {
    const a = sourceFile("core/a.ts", `import { b } from "./b.ts";`);
    expect(cycles([a, sourceFile("core/b.ts", `import { a } from "./a.ts";`)])).toEqual([
      "core/a.ts -> core/b.ts -> core/a.ts",
    ]);
    expect(cycles([a, sourceFile("core/b.ts", `import type { a } from "./a.ts";`)])).toEqual([]);
  });

  test.each([
    ["path", ["", "work", "main", "x.ts"].join("/")],
    ["folder", ["..", "shared", "DESIGN.md"].join("/")],
    ["registry", ["https:", "", "registry.example.com", "zod"].join("/")],
    ["registry with a port", ["http:", "", "npm.internal.example:4873", "zod"].join("/")],
  ])("a machine's %s", (_, text) => expect(machineProblems(`see ${text}`)).toHaveLength(1));

  test("what merely looks like one", () => {
    expect(
      machineProblems("https://registry.npmjs.org/zod/-/zod-4.6.7.tgz, framework/main, a shared/own instance"),
    ).toEqual([]);
  });

  test("a foreign host in the lock", () => {
    expect(foreignHosts(`"resolved": "https://mirror.example/zod.tgz"`)).toEqual(["mirror.example"]);
    expect(foreignHosts(`"resolved": "https://registry.npmjs.org/zod.tgz"`)).toEqual([]);
  });
});
