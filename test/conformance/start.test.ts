// `npm start` as a person starts it: it answers, and however it is ended, by Ctrl-C, by a SIGTERM that reaches npm alone,
// or by the death of whoever started it, none of its processes stays.
import { execFileSync, spawn } from "node:child_process";
import { existsSync, mkdtempSync, rmSync } from "node:fs";
import { createServer, type AddressInfo } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, expect, onTestFinished, test } from "vitest";
import { ROOT } from "../../scripts/lib/paths.mjs";

const HEALTHY_WITHIN_MS = 60_000;
const GONE_WITHIN_MS = 15_000;

const state = mkdtempSync(join(tmpdir(), "legate-start-"));
afterAll(() => rmSync(state, { recursive: true, force: true }));

interface Process {
  readonly pid: number;
  readonly parent: number;
}

/** All that live; zombies, which the machine's init has yet to collect, are nobody. */
function processes(): Process[] {
  return execFileSync("ps", ["-eo", "pid=,ppid=,stat="], { encoding: "utf8" })
    .split("\n")
    .map((line) => line.trim().split(/\s+/))
    .filter(([pid, , stat]) => pid !== "" && !stat?.startsWith("Z"))
    .map(([pid, parent]) => ({ pid: Number(pid), parent: Number(parent) }));
}

/** A process and everything below it. */
function family(root: number): number[] {
  const all = processes();
  const found = [root];
  for (const pid of found) found.push(...all.filter(({ parent }) => parent === pid).map((child) => child.pid));
  return found;
}

function freePort(): Promise<number> {
  return new Promise((resolve, reject) => {
    const probe = createServer().once("error", reject);
    probe.listen(0, "127.0.0.1", () => {
      const { port } = probe.address() as AddressInfo;
      probe.close(() => resolve(port));
    });
  });
}

test.each<[string, (npm: number) => void]>([
  ["Ctrl-C, which reaches the whole foreground group", (npm) => process.kill(-npm, "SIGINT")],
  ["SIGTERM to npm alone", (npm) => process.kill(npm, "SIGTERM")],
  ["the death of npm", (npm) => process.kill(npm, "SIGKILL")],
])(
  "npm start -- --no-tour answers, and is gone after %s",
  async (_, end) => {
    const port = await freePort();
    const env = { ...process.env, PORT: String(port), LEGATE_STATE: state };
    // A group of its own, as a shell gives it to what it runs in the foreground.
    const npm = spawn("npm", ["start", "--", "--no-tour"], { cwd: ROOT, env, stdio: "ignore", detached: true });
    const pid = npm.pid ?? 0;
    onTestFinished(() => {
      try {
        process.kill(-pid, "SIGKILL");
      } catch {
        // as it should be: nobody is left in the group
      }
    });
    const health = () =>
      fetch(`http://127.0.0.1:${port}/healthz`).then(
        (answer) => answer.json(),
        () => null,
      );
    await expect.poll(health, { timeout: HEALTHY_WITHIN_MS, interval: 200 }).toEqual({ status: "ok" });
    expect(existsSync(join(state, "dev.env"))).toBe(true);
    const started = family(pid);
    expect(started.length, "npm, a shell, the script, its supervisor, wrangler, workerd").toBeGreaterThan(5);
    end(pid);
    const left = () => {
      const alive = new Set(processes().map((process) => process.pid));
      return started.filter((process) => alive.has(process));
    };
    await expect.poll(left, { timeout: GONE_WITHIN_MS, interval: 200 }).toEqual([]);
    expect(await health()).toBeNull();
  },
  240_000,
);
