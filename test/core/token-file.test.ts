// The file that AWS SDKs read a session's token from: never stale, never half, nobody else's to read, gone when it is over.
import {
  lstatSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, expect, test, vi } from "vitest";
import { encodeObject } from "../../core/token/format.ts";
import { makeKey } from "../../scripts/tour/keys.ts";
import { Legate, type LegateError, type TokenFile } from "../../sdk/client.ts";

const WINDOW_SECONDS = 900;
const STEP_MS = 10_000;
let folder: string;
let path: string;
let minted = 0;
let refusal: (() => Response) | null = null;

function mint(): string {
  const iat = Math.floor(Date.now() / 1000);
  const claims = { gid: "ses_a", iat, exp: iat + WINDOW_SECONDS, jti: `t${++minted}` };
  return `${encodeObject({ alg: "HS256", typ: "at+jwt", kid: "AAAAAAAA" })}.${encodeObject(claims)}.${"A".repeat(43)}`;
}

beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), "legate-token-"));
  path = join(folder, "token");
  minted = 0;
  refusal = null;
  vi.useFakeTimers({ toFake: ["Date", "setTimeout", "clearTimeout"], now: 1_800_000_000_000 });
  vi.stubGlobal("fetch", async () => refusal?.() ?? Response.json({ access_token: mint() }));
});
afterEach(() => {
  vi.useRealTimers();
  vi.unstubAllGlobals();
  rmSync(folder, { recursive: true, force: true });
});

async function keep(onError: (error: unknown) => void = () => {}): Promise<TokenFile> {
  const { privateKey: key } = await makeKey("ES256");
  const session = await Legate.open({ issuer: "https://legate.example", clientId: "agt_a", key });
  return session.tokenFile(path, { onError });
}

/** Lets time pass; signing is real, so each check is waited for until it has set its next one, or has ended. */
async function pass(ms: number, look: () => void = () => {}): Promise<void> {
  for (let left = ms; left > 0; left -= STEP_MS) {
    vi.advanceTimersByTime(Math.min(STEP_MS, left));
    for (
      let turns = 0;
      vi.getTimerCount() === 0 && turns < 10_000 && lstatSync(path, { throwIfNoEntry: false });
      turns++
    )
      await new Promise((turn) => setImmediate(turn));
    look();
  }
}

const endOf = (text: string) =>
  (JSON.parse(Buffer.from(text.split(".")[1] ?? "", "base64url").toString()) as { exp: number }).exp * 1000;

test("is good at every moment of three hours, its owner's alone, and the only file", async () => {
  const file = await keep();
  const seen = new Set<string>();
  await pass(3 * 3_600_000, () => {
    const text = readFileSync(path, "utf8");
    seen.add(text);
    expect(endOf(text) - Date.now()).toBeGreaterThan((WINDOW_SECONDS * 1000) / 4);
    expect(statSync(path).mode & 0o777).toBe(0o600);
    expect(readdirSync(folder)).toEqual(["token"]);
  });
  expect(seen.size).toBeGreaterThan(10);
  file.close();
  expect(readdirSync(folder)).toEqual([]);
  expect(vi.getTimerCount()).toBe(0);
});

test("takes the place of a link, and leaves what it pointed at alone", async () => {
  const other = join(folder, "other");
  writeFileSync(other, "somebody else's");
  symlinkSync(other, path);
  await keep();
  expect(readFileSync(other, "utf8")).toBe("somebody else's");
  expect(lstatSync(path).isSymbolicLink()).toBe(false);
});

test("outlives an issuer that is away, and tells of it", async () => {
  const told: unknown[] = [];
  await keep((error) => told.push(error));
  const first = readFileSync(path, "utf8");
  refusal = () => Response.json({ error: "temporarily_unavailable" }, { status: 503 });
  await pass(WINDOW_SECONDS * 1000 - STEP_MS);
  expect(told, "the old one still serves").toEqual([]);
  expect(readFileSync(path, "utf8")).toBe(first);
  await pass(60_000);
  expect(told.length).toBeGreaterThan(0);
  refusal = null;
  await pass(60_000);
  expect(endOf(readFileSync(path, "utf8"))).toBeGreaterThan(Date.now());
});

test("is removed when its session is over, and tells why", async () => {
  const told: unknown[] = [];
  await keep((error) => told.push(error));
  refusal = () => Response.json({ error: "invalid_grant", error_description: "It has ended." }, { status: 400 });
  await pass(WINDOW_SECONDS * 1000 + 60_000);
  expect(readdirSync(folder)).toEqual([]);
  expect(told).toHaveLength(1);
  expect((told[0] as LegateError).code).toBe("invalid_grant");
  expect(vi.getTimerCount()).toBe(0);
});

test("refuses a place where it can't be written, and leaves nothing there", async () => {
  path = join(folder, "nowhere", "token");
  await expect(keep()).rejects.toThrow("ENOENT");
  expect(readdirSync(folder)).toEqual([]);
});
