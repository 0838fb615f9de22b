/**
 * Good tokens, changed in every way an attacker has: none may be accepted, and each must come back as a denial, never as
 * a throw. `MUTATIONS` says how many in all (2,000 unless it does), spread over the classes; `SEED` replays a failure.
 */
import { describe, expect, test } from "vitest";
import { verifyToken, type Verifier } from "../../core/token/verify.ts";
import { KEYS, NOW } from "../support/deployment.ts";
import { dice, goodToken, type Dice } from "../support/good-token.ts";
import { CLASSES } from "../support/mutations.ts";

const SEED = process.env["SEED"] ?? String(Math.floor(Math.random() * 2 ** 32));
const TOTAL = Number(process.env["MUTATIONS"] ?? 2_000);

const names = Object.keys(CLASSES);
const each = Math.ceil(TOTAL / names.length);
const verifier: Verifier = KEYS.session.verifier;

describe(`${each * names.length} mutations, SEED=${SEED}`, () => {
  test("good tokens are good", async () => {
    for (let i = 0; i < 100; i++) {
      const result = await verifyToken(await goodToken(dice(`${SEED}/good/${i}`)), verifier, NOW);
      expect(result.ok).toBe(true);
    }
  });

  test.each(names)(`${each} × %s: none accepted`, { timeout: 300_000 }, async (name) => {
    const reasons: Record<string, number> = {};
    for (let i = 0; i < each; i++) {
      const mutant = await (CLASSES[name] as (dice: Dice) => string | Promise<string>)(dice(`${SEED}/${name}/${i}`));
      const where = `SEED=${SEED}, ${name}, number ${i}: ${JSON.stringify(mutant)}`;
      const result = await verifyToken(mutant, verifier, NOW).catch((error: unknown) => {
        throw new Error(`thrown at ${where}`, { cause: error });
      });
      if (result.ok) throw new Error(`accepted at ${where}`);
      const { denial } = result;
      if (denial.reason !== "token_invalid" && denial.reason !== "token_expired")
        throw new Error(`${denial.reason} at ${where}`);
      const fault = denial.reason === "token_invalid" ? denial.fault : denial.reason;
      reasons[fault] = (reasons[fault] ?? 0) + 1;
    }
    if (process.env["MUTATIONS"] !== undefined)
      console.log(
        `${name}: ${each} refused (${Object.entries(reasons)
          .map(([fault, count]) => `${fault} ${count}`)
          .join(", ")})`,
      );
  });
});
