// npm run users against a running server's D1: people come in with the hashes that they had, and sign in with them.
import { execFile } from "node:child_process";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { promisify } from "node:util";
import { hash } from "bcryptjs";
import { afterAll, beforeAll, expect, test } from "vitest";
import { nodeBinary, ROOT } from "../../scripts/lib/paths.mjs";
import { startServer } from "../../scripts/lib/serve.mjs";

const PASSWORD = "a lantern over the harbour";
const stateDir = mkdtempSync(join(tmpdir(), "legate-users-test-"));
let server: Awaited<ReturnType<typeof startServer>>;
beforeAll(async () => {
  server = await startServer({ stateDir });
});
afterAll(async () => {
  await server?.stop();
  rmSync(stateDir, { recursive: true, force: true });
});

const run = promisify(execFile);

async function users(...args: string[]): Promise<string> {
  const told = run(nodeBinary(), ["--no-warnings", "scripts/users.ts", ...args, "--state", stateDir], { cwd: ROOT });
  return told.then(
    ({ stdout }) => stdout,
    (error: { stdout: string; stderr: string }) => `failed: ${error.stdout}${error.stderr}`,
  );
}

function fileOf(...lines: unknown[]): string {
  const file = join(stateDir, "people.jsonl");
  writeFileSync(file, lines.map((line) => (typeof line === "string" ? line : JSON.stringify(line))).join("\n"));
  return file;
}

async function login(username: string, password: string) {
  const answer = await fetch(`${server.url}/auth/login`, {
    method: "POST",
    headers: { "content-type": "application/json" },
    body: JSON.stringify({ username, password }),
  });
  return { status: answer.status, body: (await answer.json()) as { user?: { tier: string } } };
}

test("imported people sign in, once each, at their tier; a new tier holds from the next sign-in", async () => {
  const people = [
    { username: "ada", passwordHash: await hash(PASSWORD, 4), tier: "pro" },
    { username: "o.brien@example.com", passwordHash: await hash("another lantern", 4) },
  ];
  expect(await users("import", fileOf(...people))).toMatch(/2 of 2 added/);
  expect(await users("import", fileOf(...people))).toMatch(/stays as they are[\s\S]*0 of 2 added/);
  expect(await users("list")).toMatch(/ada +pro +usr_[\s\S]*o\.brien@example\.com +free +usr_[\s\S]*2 people/);
  expect(await login("Ada", PASSWORD)).toMatchObject({ status: 200, body: { user: { tier: "pro" } } });
  expect(await login("o.brien@example.com", PASSWORD)).toMatchObject({ status: 401 });
  expect(await users("tier", "ADA", "free")).toMatch(/free from the next sign-in/);
  expect(await login("ada", PASSWORD)).toMatchObject({ status: 200, body: { user: { tier: "free" } } });
}, 60_000);

test("what is no person is told by its line, and nobody of that file comes in", async () => {
  const good = { username: "grace", passwordHash: await hash(PASSWORD, 4) };
  for (const [bad, says] of [
    ["{", /Line 2 is not JSON/],
    [{ ...good, username: "x'); drop table users; --" }, /Line 2: "username"/],
    [{ ...good, username: "GRACE" }, /Line 2: "GRACE" stands twice/],
    [{ username: "eve", passwordHash: PASSWORD }, /Line 2 \(eve\): "passwordHash"/],
    [{ ...good, username: "eve", tier: "root" }, /Line 2 \(eve\): "tier"/],
    [{ ...good, username: "eve", admin: true }, /Line 2 has a member "admin"/],
  ] as const)
    expect(await users("import", fileOf(good, bad))).toMatch(says);
  expect(await users("list")).not.toContain("grace");
  expect(await users("tier", "grace", "pro")).toMatch(/Nobody here is called "grace"/);
  expect(await users("tier", "ada", "root")).toMatch(/no tier/);
}, 60_000);
