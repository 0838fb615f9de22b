import * as fc from "fast-check";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import { decodeBase64url, encodeBase64url } from "../../core/base64url.ts";
import { VECTORS_DIR } from "../../scripts/vectors.ts";

const vectors = JSON.parse(readFileSync(join(VECTORS_DIR, "base64url.json"), "utf8")) as {
  valid: { hex: string; text: string }[];
  invalid: string[];
};
const bytesOf = (hex: string): Uint8Array => new Uint8Array(Buffer.from(hex, "hex"));

describe("base64url", () => {
  test.each(vectors.valid)("$text", ({ hex, text }) => {
    expect(encodeBase64url(bytesOf(hex))).toBe(text);
    expect(decodeBase64url(text)).toEqual(bytesOf(hex));
  });

  test.each(vectors.invalid.map((text) => ({ text })))("refuses $text", ({ text }) => {
    expect(decodeBase64url(text)).toBeNull();
  });

  test("decode(encode(bytes)) = bytes, and as Buffer spells them", () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 200 }), (bytes) => {
        const text = encodeBase64url(bytes);
        expect(text).toBe(Buffer.from(bytes).toString("base64url"));
        expect(decodeBase64url(text)).toEqual(new Uint8Array(bytes));
      }),
    );
  });

  test("what it takes, it would have written: any text at all", () => {
    const character = fc.constantFrom(..."ABCDghij0189-_+/= \n.\u0000é\u0100\ud800".split(""));
    fc.assert(
      fc.property(
        fc.oneof(fc.string({ unit: "binary", maxLength: 40 }), fc.string({ unit: character, maxLength: 12 })),
        (text) => {
          const bytes = decodeBase64url(text);
          if (bytes !== null) expect(encodeBase64url(bytes)).toBe(text);
          else
            expect(/^[A-Za-z0-9_-]*$/.test(text) && Buffer.from(text, "base64url").toString("base64url") === text).toBe(
              false,
            );
        },
      ),
      { numRuns: 2_000 },
    );
  });

  test("every last character of every length: only those without unused bits", () => {
    const alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    const taken = (prefix: string) =>
      alphabet
        .split("")
        .filter((last) => decodeBase64url(prefix + last) !== null)
        .join("");
    expect(taken("")).toBe("");
    expect(taken("A")).toBe("AQgw");
    expect(taken("AA")).toBe("AEIMQUYcgkosw048");
    expect(taken("AAA")).toBe(alphabet);
  });

  test("bytes of text decode like the text, into an array that is given too", () => {
    const into = new Uint8Array(16).fill(7);
    const ascii = new TextEncoder().encode("..aGVsbG8..");
    expect(decodeBase64url(ascii.subarray(2, 9), into)).toEqual(new TextEncoder().encode("hello"));
    expect(decodeBase64url(ascii, into)).toBeNull();
  });
});
