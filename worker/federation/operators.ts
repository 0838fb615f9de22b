/**
 * Cloudflare Access in front of the operators' routes: its JWT says who stands there, the configuration which operator
 * that is, and that person's object whether they still are one. Nobody is made an operator by it.
 */
import type { Denial } from "../../core/denial.ts";
import { err, type Result } from "../../core/result.ts";
import type { PersonView } from "../../core/wire/answers.ts";
import type { Edge } from "../env.ts";
import { verifyForeign } from "./foreign.ts";

/** @param jwt `Cf-Access-Jwt-Assertion`, as it came; removed from every request before anything else sees it */
export async function accessOperator(edge: Edge, jwt: string): Promise<Result<PersonView, Denial>> {
  const verified = await verifyForeign(jwt, edge, "operators");
  if (!verified.ok) return err({ reason: "operator_required" });
  return edge.ask(verified.value.subject.user, (authority) => authority.person());
}
