/// <reference lib="dom" />
// What a real browser makes of the edge's answers: the cookie is out of scripts' reach, a page of another origin can
// neither call nor open a socket with it, and what an agent answers is no active content on this origin.
import { createServer, type Server } from "node:http";
import type { AddressInfo } from "node:net";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { chromium, type Browser, type BrowserContext, type Page } from "playwright-core";
import { afterAll, beforeAll, expect, test } from "vitest";
import { startServer } from "../../scripts/lib/serve.mjs";
import { TOOLS } from "../../scripts/lib/tools.mjs";

const FLAGS = ["--headless=new", "--no-sandbox", "--disable-dev-shm-usage", "--disable-background-networking"];

let server: Awaited<ReturnType<typeof startServer>>;
let foreign: Server;
let foreignUrl: string;
let browser: Browser;
let context: BrowserContext;
let token: string;
const state = mkdtempSync(join(tmpdir(), "legate-browser-"));

/** Runs in a page of the deployment's origin; its Content-Security-Policy would not even let it fetch, so that is off here. */
async function post(page: Page, path: string, body: object): Promise<{ status: number; text: string }> {
  return page.evaluate(
    async ([to, json]) => {
      const headers = { "content-type": "application/json" };
      const answer = await fetch(to, { method: "POST", headers, body: json });
      return { status: answer.status, text: await answer.text() };
    },
    [path, JSON.stringify(body)] as const,
  );
}

beforeAll(async () => {
  server = await startServer({ stateDir: state });
  foreign = createServer((_, answer) =>
    answer.setHeader("content-type", "text/html").end("<!doctype html><p>elsewhere"),
  );
  await new Promise<void>((resolve) => foreign.listen(0, "127.0.0.1", resolve));
  foreignUrl = `http://127.0.0.1:${(foreign.address() as AddressInfo).port}`;
  const executablePath = TOOLS["chromium"]?.find() ?? null;
  if (executablePath === null) throw new Error("no Chromium: apt-get install chromium");
  browser = await chromium.launch({ executablePath, args: FLAGS });
  context = await browser.newContext({ bypassCSP: true });
  const page = await context.newPage();
  await page.goto(`${server.url}/healthz`);
  const name = `browser-${Date.now()}`;
  const signedUp = await post(page, "/auth/register", { username: name, password: "a lantern over the harbour" });
  expect(signedUp.status).toBe(201);
  const opened = await post(page, "/sessions", { scope: "research catalog:read" });
  expect(opened.status).toBe(201);
  token = (JSON.parse(opened.text) as { token: string }).token;
  await page.close();
}, 120_000);

afterAll(async () => {
  await browser?.close();
  foreign?.close();
  await server?.stop();
  rmSync(state, { recursive: true, force: true });
});

test("the cookie is kept, and no script can read it", async () => {
  const [cookie] = (await context.cookies()).filter(({ name }) => name === "__Host-legate");
  expect(cookie).toMatchObject({ httpOnly: true, secure: true, sameSite: "Strict", path: "/" });
  const page = await context.newPage();
  await page.goto(`${server.url}/healthz`);
  expect(await page.evaluate(() => document.cookie)).toBe("");
});

test("a page of another origin can neither call an agent nor open a socket with the person's cookie", async () => {
  const page = await context.newPage();
  await page.goto(foreignUrl);
  const call = await page.evaluate(async (url) => {
    try {
      const answer = await fetch(url, { credentials: "include" });
      return `read ${answer.status}`;
    } catch {
      return "refused";
    }
  }, `${server.url}/agents/researcher/default/lookup?q=tea`);
  expect(call).toBe("refused");
  const knock = (from: Page): Promise<string> =>
    from.evaluate(
      (url) =>
        new Promise<string>((resolve) => {
          const opened = new WebSocket(url);
          opened.addEventListener("open", () => resolve("open"));
          opened.addEventListener("error", () => resolve("refused"));
        }),
      `${server.url.replace("http", "ws")}/agents/researcher/default`,
    );
  expect(await knock(page)).toBe("refused");
  const own = await context.newPage();
  await own.goto(`${server.url}/healthz`);
  expect(await knock(own)).toBe("open");
});

test("what an agent answers has no origin: it can read nothing of this one", async () => {
  const strict = await browser.newContext({ extraHTTPHeaders: { authorization: `Bearer ${token}` } });
  const page = await strict.newPage();
  const answer = await page.goto(`${server.url}/agents/researcher/default/lookup?q=tea`);
  expect(answer?.status()).toBe(200);
  expect(answer?.headers()["content-security-policy"]).toContain("sandbox");
  expect(await page.evaluate(() => self.origin)).toBe("null");
  const cookie = await page.evaluate(() => {
    try {
      return document.cookie;
    } catch (error) {
      return (error as Error).name;
    }
  });
  expect(cookie).toBe("SecurityError");
  await strict.close();
});
