// Hashes of bcrypt that others made: the published vectors, and what bcryptjs makes of passwords of every length.
import { hash } from "bcryptjs";
import * as fc from "fast-check";
import { describe, expect, test } from "vitest";
import { bcryptFits } from "../../worker/auth/bcrypt.ts";

/** From the test of crypt_blowfish 1.3 (Openwall, public domain). */
const PUBLISHED = [
  ["U*U", "$2a$05$CCCCCCCCCCCCCCCCCCCCC.E5YPO9kmyuRGyh0XouQYb4YMJKvyOeW"],
  ["U*U*", "$2a$05$CCCCCCCCCCCCCCCCCCCCC.VGOzA784oUp/Z0DY336zx7pLYAy0lwK"],
  ["U*U*U", "$2a$05$XXXXXXXXXXXXXXXXXXXXXOAcXxm9kjPGEMsLznoKqmqw7tc8WCx4a"],
  ["", "$2a$05$CCCCCCCCCCCCCCCCCCCCC.7uG0VCzI2bS7j6ymqJi9CdcdxiRTWNy"],
] as const;

describe("bcrypt", () => {
  test.each(PUBLISHED)("%j fits its published hash, and nothing else does", async (password, stored) => {
    expect(await bcryptFits(password, stored)).toBe(true);
    expect(await bcryptFits(`${password}x`, stored)).toBe(false);
    expect(await bcryptFits(password, `${stored.slice(0, -2)}${stored.endsWith("ee") ? "aa" : "ee"}`)).toBe(false);
  });

  test("what bcryptjs made fits, of any text up to 72 bytes, and no longer text that begins with it", async () => {
    const text = fc.string({ unit: "grapheme", maxLength: 72 }).filter((password) => !password.includes("\0"));
    const made = fc.asyncProperty(text, async (password) => {
      const stored = await hash(password, 4);
      const isShort = Buffer.byteLength(password) <= 72;
      expect(await bcryptFits(password, stored)).toBe(isShort);
      expect(await bcryptFits(`${password}y`, stored)).toBe(false);
      expect(await bcryptFits(`${password}\0y`, stored)).toBe(false);
    });
    await fc.assert(made, { numRuns: 60 });
  });
});
