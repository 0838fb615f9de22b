// Tags of ids under the simulation's own key.
import { createHash, createHmac } from "node:crypto";

export const ID_KEY = createHash("sha256").update("legate simulated id key").digest("base64url");

export function simulatedIdMac(text: string): Uint8Array {
  return createHmac("sha256", Buffer.from(ID_KEY, "base64url")).update(text).digest();
}
