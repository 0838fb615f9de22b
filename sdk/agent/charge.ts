/** Charges on the way: one charge each, though an answer may be lost. */
import type { Denial } from "../../core/denial.ts";
import type { Micros } from "../../core/ids.ts";
import type { Result } from "../../core/result.ts";
import { err } from "../../core/result.ts";
import type { AuthorityServiceRpc, ChargeProof } from "../../core/wire/agents.ts";
import type { Charged } from "../../core/wire/answers.ts";
import { ANSWER_WITHIN_MS, SILENCE, within } from "./within.ts";

/** A charge whose answer was lost is told again under its own id. */
export async function chargeOnce(
  authority: Pick<AuthorityServiceRpc, "charge">,
  proof: ChargeProof,
  micros: number,
): Promise<Result<Charged, Denial>> {
  const question = { ...proof, id: crypto.randomUUID(), micros: micros as Micros };
  for (let tries = 0; tries < 2; tries++) {
    const answer = await within(ANSWER_WITHIN_MS, () => authority.charge(question));
    if (answer !== SILENCE) return answer;
  }
  return err({ reason: "authority_unavailable" });
}
