// The house as seen from outside: it starts on a state folder of its own, answers, keeps its secrets, and leaves
// nobody behind however it ends.
import { execFileSync } from "node:child_process";
import { mkdtempSync, rmSync, statSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, describe, expect, test } from "vitest";
import { startServer } from "../../scripts/lib/serve.mjs";

const stateDir = mkdtempSync(join(tmpdir(), "legate-house-"));
afterAll(() => rmSync(stateDir, { recursive: true, force: true }));

/** Process ids of a group; zombies, which the machine's init has yet to collect, are nobody. */
const members = (group: number) =>
  execFileSync("ps", ["-eo", "pid=,pgid=,stat="], { encoding: "utf8" })
    .split("\n")
    .map((line) => line.trim().split(/\s+/))
    .filter(([, pgid, stat]) => Number(pgid) === group && !stat?.startsWith("Z"))
    .map(([pid]) => Number(pid));

async function nobodyIn(group: number): Promise<void> {
  await expect.poll(() => members(group), { timeout: 5_000, interval: 50 }).toEqual([]);
}

describe("a server", () => {
  test("answers, ends with all its processes, and finds its secrets again", async () => {
    const first = await startServer({ stateDir });
    expect(await (await fetch(`${first.url}/healthz`)).json()).toEqual({ status: "ok" });
    expect(first.isNew).toBe(true);
    expect(statSync(join(stateDir, "dev.env")).mode & 0o777).toBe(0o600);
    expect(members(first.pid).length).toBeGreaterThan(2);
    await first.stop();
    await nobodyIn(first.pid);

    const second = await startServer({ stateDir });
    expect(second.isNew).toBe(false);
    expect(second.secrets).toEqual(first.secrets);
    // wrangler would otherwise write every URL down.
    expect(() => statSync(join(stateDir, "state/v3/observability"))).toThrow("ENOENT");
    const { port } = new URL(second.url);
    await expect(startServer({ stateDir, port: Number(port) })).rejects.toThrow("is in use");

    await second.kill9();
    await nobodyIn(second.pid);
  }, 60_000);

  test("ends when only its supervisor is killed", async () => {
    const server = await startServer({ stateDir });
    process.kill(server.pid, "SIGKILL");
    await server.exited;
    await nobodyIn(server.pid);
  }, 60_000);
});
