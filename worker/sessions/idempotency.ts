/**
 * `Idempotency-Key`: the caller's own name for one act. What goes to the object is the key, whose it is, and a digest of
 * everything the act is made of; the object tells the same effect again for the same digest (DESIGN.md §4).
 */
import { createHash } from "node:crypto";
import { canonicalJson, type Json } from "../../core/audit/canonical.ts";
import type { Denial } from "../../core/denial.ts";
import { IDEMPOTENCY_KEY_LENGTH_MAX } from "../../core/limits.ts";
import { err, ok, type Result } from "../../core/result.ts";
import { HEADER } from "../../core/wire/http.ts";
import type { Idempotency } from "../../core/wire/questions.ts";
import type { Call } from "../call.ts";

const KEY_PATTERN = new RegExp(`^[\\x21-\\x7e]{1,${IDEMPOTENCY_KEY_LENGTH_MAX}}$`);

/**
 * @param whose the node or person that the key belongs to
 * @param body as it was read, defaults and all; null where the route takes none
 * @returns null where no key was sent
 */
export function idempotencyOf(call: Call, whose: string, body: Json): Result<Idempotency | null, Denial> {
  const key = call.request.headers.get(HEADER.idempotencyKey);
  if (key === null) return ok(null);
  if (!KEY_PATTERN.test(key)) {
    const detail = `Idempotency-Key: 1 to ${IDEMPOTENCY_KEY_LENGTH_MAX} visible ASCII characters.`;
    return err({ reason: "request_invalid", detail });
  }
  const { method } = call.request;
  // The family of routes, not the path: another session under the same key is another argument, and so a conflict.
  const route = `${method} /${call.url.pathname.split("/")[1] ?? ""}`;
  const act = canonicalJson([method, call.url.pathname, call.url.search, body]);
  return ok({ scope: `${whose} ${route}`, key, digest: createHash("sha256").update(act).digest("base64url") });
}
