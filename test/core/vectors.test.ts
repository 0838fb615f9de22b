// The vectors are a product: core reads them here, sdk/verify in verify-sdk.test.ts, others from the repository.
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import { decodeBase64url, encodeBase64url } from "../../core/base64url.ts";
import type { EpochSeconds } from "../../core/ids.ts";
import { headerSegment } from "../../core/token/format.ts";
import { deriveBytes, importMacKey, keyIdOf, parseSecret, type MacKey } from "../../core/token/mac.ts";
import { verifyToken, type Verifier } from "../../core/token/verify.ts";
import { makeVectors, VECTORS_DIR } from "../../scripts/vectors.ts";
import { viewOf, type TokenVectors } from "../../scripts/vectors/shared.ts";

const read = (name: string): string => readFileSync(join(VECTORS_DIR, name), "utf8");
const vectors = JSON.parse(read("tokens.json")) as TokenVectors;

// From the file's own keys, not from the deployment that made it.
const verifiers = new Map<string, Verifier>();
for (const [name, { audience, lifeMaxSeconds, keys }] of Object.entries(vectors.verifiers)) {
  const imported = new Map<string, MacKey>();
  for (const line of keys) {
    const [kid, key] = line.split(".") as [string, string];
    imported.set(headerSegment(kid), await importMacKey(decodeBase64url(key) as Uint8Array<ArrayBuffer>));
  }
  verifiers.set(name, { issuer: vectors.issuer, audience, keys: imported, lifeMaxSeconds });
}
const verify = (token: string, verifier: string, now: number) =>
  verifyToken(token, verifiers.get(verifier) as Verifier, now as EpochSeconds);

test("scripts/vectors.ts writes the very bytes that are committed", async () => {
  for (const [name, text] of Object.entries(await makeVectors()))
    expect(read(name) === text, `test/vectors/${name}`).toBe(true);
});

test("docs/token.md shows the tokens that are in the file", () => {
  const page = readFileSync(join(VECTORS_DIR, "../../docs/token.md"), "utf8");
  for (const name of ["plain", "bearer"]) {
    const vector = vectors.valid.find((each) => each.name === name);
    const [, , ...rest] = (vector?.token ?? "").split(".");
    const block = rest.length > 1 ? Buffer.from(rest[0] as string, "base64url").toString() : "";
    for (const shown of [rest.at(-1) as string, block, vector?.expect.node ?? "?"]) expect(page).toContain(shown);
  }
  for (const line of vectors.verifiers.session.keys.slice(0, 1)) expect(page).toContain(line.split(".")[1]);
});

describe("valid tokens", () => {
  test.each(vectors.valid)("$name: $picture", async ({ token, verifier, now, expect: expected }) => {
    const result = await verify(token, verifier, now);
    expect(result.ok && JSON.parse(JSON.stringify(viewOf(result.value)))).toEqual(expected);
  });

  test.each(vectors.valid)("$name: no other verifier takes it", async ({ token, verifier, now }) => {
    for (const other of verifiers.keys()) {
      if (other !== verifier)
        expect(await verify(token, other, now)).toMatchObject({ ok: false, denial: { reason: "token_invalid" } });
    }
  });
});

describe("invalid tokens", () => {
  test.each(vectors.invalid)("$name", async ({ token, verifier, now, expect: expected }) => {
    expect(await verify(token, verifier, now)).toMatchObject({ ok: false, denial: expected });
  });
  test("names are unique, so that one that fails is found", () => {
    const names = [...vectors.valid, ...vectors.invalid].map(({ name }) => name);
    expect(names.filter((name, i) => names.indexOf(name) !== i)).toEqual([]);
  });
});

describe("keys", () => {
  const { secrets } = JSON.parse(read("keys.json")) as {
    secrets: { name: string; secret: string; kid: string; derived: { label: string; key: string }[] }[];
  };
  test.each(secrets)("$name", async ({ secret: text, kid, derived }) => {
    const secret = parseSecret(text);
    if (secret === null) throw new Error("the vector's secret is refused");
    expect(await keyIdOf(secret)).toBe(kid);
    for (const { label, key } of derived)
      expect(encodeBase64url((await deriveBytes(secret, label)).revealBytes())).toBe(key);
    expect(new Set(derived.map(({ key }) => key)).size).toBe(derived.length);
  });
});
