/**
 * Tokens of resource servers: verified with the key of an audience that the authenticated client speaks for, chosen
 * before the token is read. That client holds the key too and could have written anything: ids need their tags before an
 * object is touched, and the object takes rights and caps from the grant's row and the blocks alone (DESIGN.md §3).
 */
import { parseNodePath, parseUserId, toEpochSeconds } from "../../core/ids.ts";
import { audienceTokenKey } from "../../core/token/keyring.ts";
import { verifyToken, type VerifiedToken } from "../../core/token/verify.ts";
import type { Call, ClientCaller } from "../call.ts";

/** @returns null where the client speaks for no audience, or the token is for none of its own */
export async function verifyForAudience(
  { edge, now }: Call,
  { client }: ClientCaller,
  text: string,
): Promise<{ readonly audience: string; readonly token: VerifiedToken | null } | null> {
  for (const { name, client: speaker } of edge.config.audiences.values()) {
    if (speaker !== client.agent.id) continue;
    const { verifier } = await audienceTokenKey(edge.secrets, edge.issuer, name);
    const verified = await verifyToken(text, verifier, toEpochSeconds(now));
    if (!verified.ok) continue;
    const token = verified.value;
    const isOurs = parseUserId(token.subject, edge.idMac) !== null && parseNodePath(token.grant, edge.idMac) !== null;
    return { audience: name, token: isOurs && token.delegatedTo === null ? token : null };
  }
  return null;
}
