/**
 * Where a page ended, as a text that only this deployment can write: the sort key of its last row under a MAC. Nothing
 * secret is in it; the MAC keeps others' values out of a query's place and the format ours to change.
 */
import { decodeBase64url, encodeBase64url } from "../../core/base64url.ts";
import type { Denial } from "../../core/denial.ts";
import { err, ok, type Result } from "../../core/result.ts";
import type { SealKey } from "../../core/token/keyring.ts";

type Place = readonly (string | number)[];

const encoder = new TextEncoder();

/** @param list which list it belongs to: a cursor of one is none of another */
export async function sealCursor(key: SealKey, list: string, place: Place): Promise<string> {
  const payload = encodeBase64url(encoder.encode(JSON.stringify(place)));
  return `${payload}.${await key.seal(`${list}.${payload}`)}`;
}

export async function openCursor<P extends Place>(
  key: SealKey,
  list: string,
  text: string,
): Promise<Result<P, Denial>> {
  const [payload = "", seal = "", ...rest] = text.split(".");
  const bytes = decodeBase64url(payload);
  if (bytes === null || rest.length > 0 || !(await key.isSeal(seal, `${list}.${payload}`)))
    return err({ reason: "request_invalid", detail: '"cursor": not one that this list has answered.' });
  return ok(JSON.parse(new TextDecoder().decode(bytes)) as P);
}
