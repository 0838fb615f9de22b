// People's ways in, at the edge's front door with the real object and the real D1 behind it.
import { env } from "cloudflare:workers";
import { hash } from "bcryptjs";
import { randomBytes } from "node:crypto";
import { describe, expect, test } from "vitest";
import { err } from "../../core/result.ts";
import type { Edge } from "../../worker/env.ts";
import { Browser, edge, freshName, PASSWORD, send, signUp, visible } from "../support/workerd/ways-in.ts";

const storageDown: Edge = {
  ...edge,
  db: {
    prepare() {
      throw new Error("D1_ERROR: select password_hash from users");
    },
  } as unknown as D1Database,
};
const authorityDown: Edge = { ...edge, ask: async () => err({ reason: "authority_unavailable" }) };

async function rowOf(name: string) {
  return env.DB.prepare("select * from users where lower(username) = lower(?)")
    .bind(name)
    .first<Record<string, string>>();
}

async function importUser(passwordHash: string, name = freshName("imported")): Promise<string> {
  const id = `usr_${name}`.slice(0, 32);
  const { makeUserId } = await import("../../core/ids.ts");
  await env.DB.prepare("insert into users values (?, ?, ?, 'pro', 1)")
    .bind(makeUserId(edge.random, edge.idMac) ?? id, name, passwordHash)
    .run();
  return name;
}

describe("signing up", () => {
  test("answers the person, signs in, and keeps no password", async () => {
    const name = freshName("Ada");
    const browser = new Browser();
    const answer = await browser.send("/auth/register", { json: { username: name, password: PASSWORD } });
    expect(answer.status).toBe(201);
    const { id, createdAt } = answer.body.user;
    expect(answer.body).toEqual({ user: { id, username: name, tier: "free", createdAt } });
    expect(Math.abs(Date.now() - createdAt)).toBeLessThan(60_000);
    const lines = answer.headers.getSetCookie();
    expect(lines[0]).toMatch(/^__Host-legate=[\w.-]+; Path=\/; HttpOnly; Secure; SameSite=Strict; Max-Age=43200$/);
    expect(lines[1]).toMatch(
      /^__Host-legate-device=[\w.-]+; Path=\/; HttpOnly; Secure; SameSite=Strict; Max-Age=15552000$/,
    );
    const row = await rowOf(name);
    expect(row?.["password_hash"]).toMatch(/^\$scrypt\$ln=15,r=8,p=1\$[A-Za-z0-9+/]{22}\$[A-Za-z0-9+/]{43}$/);
    expect(JSON.stringify(row)).not.toContain(PASSWORD);
    const me = await browser.send("/auth/user");
    expect([me.status, me.body]).toEqual([200, answer.body]);
  });

  test("a name is taken whatever its case, and nobody becomes two people", async () => {
    const { name } = await signUp();
    const again = await new Browser().send("/auth/register", {
      json: { username: name.toUpperCase(), password: PASSWORD },
    });
    expect([again.status, again.body.code]).toEqual([409, "username_taken"]);
    const twin = freshName("twin");
    const both = await Promise.all(
      ["a", "A"].map((last) =>
        new Browser().send("/auth/register", { json: { username: twin + last, password: PASSWORD } }),
      ),
    );
    expect(new Set(both.map(({ status }) => status))).toEqual(new Set([201, 409]));
  });

  test.each<[what: string, username: unknown, password: unknown, says: RegExp]>([
    ["a short password", freshName(), "seven77", /"password": 8 to 256/],
    ["a long password", freshName(), "é".repeat(257), /"password"/],
    ["a common password", freshName(), "password1", /most common/],
    ["a common password in other case", freshName(), "PassWord1", /most common/],
    ["the name itself", "some-person-name", "some-PERSON-name", /username itself/],
    ["half a character", freshName(), "abcdefg\ud800", /Unicode/],
    ["an empty name", "", PASSWORD, /"username"/],
    ["a name with a space", "a b", PASSWORD, /"username"/],
    ["a name that looks like another", "аda", PASSWORD, /"username"/],
    ["a name that begins with a dot", ".ada", PASSWORD, /"username"/],
    ["a name of 65", "a".repeat(65), PASSWORD, /"username"/],
    ["a number for a name", 7, PASSWORD, /"username"/],
    ["no password", freshName(), undefined, /"password"/],
  ])("%s is told in a sentence", async (_, username, password, says) => {
    const answer = await new Browser().send("/auth/register", { json: { username, password } });
    expect([answer.status, answer.body.code]).toEqual([400, "invalid_request"]);
    expect(answer.body.error).toMatch(says);
  });

  test("a password may have 8 and 256 characters, a name 64", async () => {
    for (const password of [randomBytes(6).toString("base64").slice(0, 8), "🏮".repeat(256)]) {
      const name = freshName("edge").padEnd(64, "x");
      const answer = await new Browser().send("/auth/register", { json: { username: name, password } });
      expect(answer.status).toBe(201);
      expect((await new Browser().send("/auth/login", { json: { username: name, password } })).status).toBe(200);
    }
  });
});

describe("signing in", () => {
  test("gives a new cookie and ends the old session", async () => {
    const { browser, name } = await signUp();
    const old = browser.cookie;
    const answer = await browser.send("/auth/login", { json: { username: name.toUpperCase(), password: PASSWORD } });
    expect([answer.status, answer.body.user.username]).toEqual([200, name]);
    expect(browser.cookie).not.toBe(old);
    expect((await browser.send("/auth/user")).status).toBe(200);
    const late = await send("/auth/user", { headers: { cookie: `__Host-legate=${old}` } });
    expect([late.status, late.body.code]).toEqual([401, "session_ended"]);
  });

  test("unknown names and wrong passwords get one answer, to the last header", async () => {
    const { name } = await signUp();
    const wrong = await new Browser().send("/auth/login", { json: { username: name, password: "not this one" } });
    const unknown = await new Browser().send("/auth/login", {
      json: { username: freshName(), password: "not this one" },
    });
    const odd = await new Browser().send("/auth/login", {
      json: { username: "no name at all!", password: "not this one" },
    });
    expect([wrong.status, wrong.body.code]).toEqual([401, "sign_in_failed"]);
    expect(visible(unknown)).toEqual(visible(wrong));
    expect(visible(odd)).toEqual(visible(wrong));
  });

  test("a disabled person gets that answer too, though the password is right", async () => {
    const { browser, name, id } = await signUp();
    const by = { kind: "operator" as const, id: "test", reason: "left" };
    await edge.ask(id, (authority) => authority.disable({ by, wait: false }));
    const right = await new Browser().send("/auth/login", { json: { username: name, password: PASSWORD } });
    const wrong = await new Browser().send("/auth/login", { json: { username: name, password: "not this one" } });
    expect(visible(right)).toEqual(visible(wrong));
    expect((await browser.send("/auth/user")).status).toBe(401);
    await edge.ask(id, (authority) => authority.enable({ by }));
    expect((await new Browser().send("/auth/login", { json: { username: name, password: PASSWORD } })).status).toBe(
      200,
    );
  });

  test("bcrypt hashes fit once and become scrypt", async () => {
    const name = await importUser((await hash(PASSWORD, 4)).replace("$2b$", "$2a$"));
    const browser = new Browser();
    expect((await browser.send("/auth/login", { json: { username: name, password: "not this one" } })).status).toBe(
      401,
    );
    const answer = await browser.send("/auth/login", { json: { username: name, password: PASSWORD } });
    expect([answer.status, answer.body.user.tier]).toEqual([200, "pro"]);
    expect((await rowOf(name))?.["password_hash"]).toMatch(/^\$scrypt\$ln=15/);
    expect((await browser.send("/auth/login", { json: { username: name, password: PASSWORD } })).status).toBe(200);
  });

  test("bcrypt never takes a password for another that it can't tell apart", async () => {
    const seventyTwo = "x".repeat(72);
    const name = await importUser(await hash(seventyTwo, 4));
    const tryWith = async (password: string) =>
      (await new Browser().send("/auth/login", { json: { username: name, password } })).status;
    expect(await tryWith(`${seventyTwo}y`)).toBe(401);
    expect(await tryWith(`${seventyTwo}\0y`)).toBe(401);
    expect(await tryWith(seventyTwo)).toBe(200);
  });

  test("a hash that nobody can read fits nothing", async () => {
    for (const broken of [
      "",
      "$scrypt$ln=30,r=8,p=1$AAAAAAAAAAAAAAAA$AAAAAAAAAAAAAAAAAAAAAA",
      "$2b$31$abc",
      PASSWORD,
    ]) {
      const name = await importUser(broken);
      expect((await new Browser().send("/auth/login", { json: { username: name, password: PASSWORD } })).status).toBe(
        401,
      );
    }
  });

  test("carries over a tier that was changed in D1, up and down", async () => {
    const { browser, name, id } = await signUp();
    for (const tier of ["pro", "free"]) {
      await env.DB.prepare("update users set tier = ? where id = ?").bind(tier, id).run();
      const answer = await browser.send("/auth/login", { json: { username: name, password: PASSWORD } });
      expect([answer.status, answer.body.user.tier]).toEqual([200, tier]);
    }
  });

  test("D1 or the object out of reach: 503, and the reason stays inside", async () => {
    const { name } = await signUp();
    const body = { json: { username: name, password: PASSWORD } };
    for (const path of ["/auth/login", "/auth/register"]) {
      const answer = await new Browser().send(path, { ...body, edge: storageDown });
      expect([answer.status, answer.body.code]).toEqual([503, "storage_unavailable"]);
      expect(JSON.stringify(answer.body)).not.toContain("password_hash");
    }
    const answer = await new Browser().send("/auth/login", { ...body, edge: authorityDown });
    expect([answer.status, answer.body.code]).toEqual([503, "authority_unavailable"]);
    expect(answer.headers.get("retry-after")).toBe("1");
    expect(answer.headers.getSetCookie()).toEqual([]);
  });
});

// Each try costs a hash, as it does outside: tens of them take a while on a busy machine.
describe("limits", { timeout: 60_000 }, () => {
  const wrong = (username: string) => ({ json: { username, password: "not this one" } });

  /** Tries until refused, each from another address. */
  async function attack(username: string): Promise<number> {
    for (let tries = 0; tries < 60; tries++) {
      const answer = await new Browser().send("/auth/login", wrong(username));
      if (answer.status === 429) {
        expect(Number(answer.headers.get("retry-after"))).toBeGreaterThan(0);
        return tries;
      }
    }
    throw new Error("sixty tries and no end");
  }

  test("strangers are stopped at a name, the person's own device is not, nor are other names", async () => {
    const { browser, name } = await signUp();
    const other = await signUp();
    expect(await attack(name)).toBeLessThanOrEqual(10);
    const right = { json: { username: name, password: PASSWORD } };
    expect((await new Browser().send("/auth/login", right)).status).toBe(429);
    expect((await browser.send("/auth/login", right)).status).toBe(200);
    expect(
      (await new Browser().send("/auth/login", { json: { username: other.name, password: PASSWORD } })).status,
    ).toBe(200);
    // Another person's device is a stranger's here.
    expect((await other.browser.send("/auth/login", right)).status).toBe(429);
  });

  test("a known device has an end too, and right passwords use nothing up", async () => {
    const { browser, name } = await signUp();
    for (let i = 0; i < 12; i++)
      expect((await browser.send("/auth/login", { json: { username: name, password: PASSWORD } })).status).toBe(200);
    const told = new Set<number>();
    for (let i = 0; i < 12; i++) told.add((await browser.send("/auth/login", wrong(name))).status);
    expect(told).toEqual(new Set([401, 429]));
    expect((await new Browser().send("/auth/login", { json: { username: name, password: PASSWORD } })).status).toBe(
      200,
    );
  });

  test("an address is stopped whatever names it tries, hosts of one IPv6 network together", async () => {
    const browser = new Browser();
    const network = browser.address.replace(/::1$/, "");
    let refused = 0;
    for (let i = 0; i < 60 && refused === 0; i++) {
      const headers = { "cf-connecting-ip": `${network}:${(i + 1).toString(16)}::2` };
      const answer = await browser.send("/auth/login", { ...wrong(freshName()), headers });
      if (answer.status === 429) refused = i;
    }
    expect(refused).toBeGreaterThan(0);
  });

  test("a limiter out of reach lets nobody in", async () => {
    const { name } = await signUp();
    const down: Edge = {
      ...edge,
      limiter: () => {
        throw new Error("overloaded");
      },
    };
    const answer = await new Browser().send("/auth/login", {
      json: { username: name, password: PASSWORD },
      edge: down,
    });
    expect(answer.status).toBe(503);
  });

  test("a forged device cookie is a stranger's", async () => {
    const { browser, name } = await signUp();
    const good = browser.cookies.get("__Host-legate-device") ?? "";
    await attack(name);
    const forged = [
      good.replace(/^./, (c) => (c === "A" ? "B" : "A")),
      `${good.slice(0, -1)}_`,
      good.split(".")[0] ?? "",
      "x".repeat(900),
    ];
    for (const value of forged) {
      const headers = { cookie: `__Host-legate-device=${value}` };
      const answer = await new Browser().send("/auth/login", { json: { username: name, password: PASSWORD }, headers });
      expect(answer.status).toBe(429);
    }
    const twice = { cookie: `__Host-legate-device=${good}; __Host-legate-device=${good}` };
    expect((await new Browser().send("/auth/login", { ...wrong(name), headers: twice })).status).toBe(429);
  });
});

describe("signing out", () => {
  test("ends the session at the object and clears the cookie", async () => {
    const { browser } = await signUp();
    const old = browser.cookie;
    const answer = await browser.send("/auth/logout", { method: "POST" });
    expect([answer.status, answer.body]).toEqual([204, null]);
    expect(browser.cookie).toBe("");
    const late = await send("/auth/user", { headers: { cookie: `__Host-legate=${old}` } });
    expect([late.status, late.body.code]).toEqual([401, "session_ended"]);
    const again = await send("/auth/logout", {
      method: "POST",
      headers: { cookie: `__Host-legate=${old}`, "sec-fetch-site": "same-origin" },
    });
    expect(again.status).toBe(204);
  });

  test("needs the cookie, and to have asked", async () => {
    const { browser } = await signUp();
    const foreign = await browser.send("/auth/logout", { method: "POST", headers: { "sec-fetch-site": "cross-site" } });
    expect([foreign.status, foreign.body.code]).toEqual([403, "origin_not_allowed"]);
    expect((await send("/auth/logout", { method: "POST" })).status).toBe(401);
    const asBearer = await send("/auth/user", { headers: { authorization: `Bearer ${browser.cookie}` } });
    expect([asBearer.status, asBearer.body.code]).toEqual([401, "invalid_token"]);
    expect((await browser.send("/auth/user")).status).toBe(200);
  });
});

test.each(["/auth/login", "/auth/register"])("%s takes no foreign page's word (login CSRF)", async (path) => {
  const json = { username: freshName(), password: PASSWORD };
  for (const headers of [
    { origin: "https://evil.test", "sec-fetch-site": "cross-site" },
    { origin: "https://evil.test" },
    { origin: "null" },
    { "sec-fetch-site": "cross-site" },
    { "sec-fetch-site": "same-site" },
  ]) {
    const answer = await send(path, { json, headers });
    expect([answer.status, answer.body.code]).toEqual([403, "origin_not_allowed"]);
  }
});
