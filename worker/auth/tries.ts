/**
 * Counts a sign-in before its password is hashed, at the limiters that its name and address, or its device, belong to. A
 * limiter that can't be asked lets nobody in. What limiters are told are digests.
 */
import { createHash } from "node:crypto";
import type { Denial } from "../../core/denial.ts";
import { err, ok, type Result } from "../../core/result.ts";
import { limiterOf, type AllowanceKind } from "../../core/signin.ts";
import type { Call } from "../call.ts";
import { knownDevice } from "./cookies.ts";
import { originOf } from "../inbound.ts";

export interface CountedTry {
  /** The password was right: the try is given back. */
  refund(): Promise<void>;
}

interface Key {
  readonly kind: AllowanceKind;
  readonly text: string;
}

/** Who has an IPv6 address has 2^64 of them: the network counts, not the host. */
function networkOf(address: string): string {
  if (!address.includes(":")) return address;
  const [head = "", tail] = address.toLowerCase().split("::");
  const left = head.split(":").filter((group) => group !== "");
  const right = (tail ?? "").split(":").filter((group) => group !== "");
  const zeros = tail === undefined ? [] : Array<string>(Math.max(0, 8 - left.length - right.length)).fill("0");
  return [...left, ...zeros, ...right]
    .slice(0, 4)
    .map((group) => group.replace(/^0+(?=.)/, ""))
    .join(":");
}

async function keysOf(call: Call, username: string): Promise<readonly Key[]> {
  const name = username.toLowerCase();
  const device = await knownDevice(call.request, name, call.edge);
  if (device !== null) return [{ kind: "device", text: `${device}\n${name}` }];
  // The address first: one that is refused uses up nothing of the name's.
  return [
    { kind: "address", text: networkOf(originOf(call.request).ip ?? "") },
    { kind: "name", text: name },
  ];
}

/** @returns the try, or `rate_limited`, or `storage_unavailable` where a limiter is out of reach */
export async function countSignIn(call: Call, username: string): Promise<Result<CountedTry, Denial>> {
  const counted: (() => Promise<void>)[] = [];
  try {
    for (const { kind, text } of await keysOf(call, username)) {
      const digest = createHash("sha256").update(`${kind}\n${text}`).digest();
      const key = digest.toString("base64url");
      const limiter = call.edge.limiter(limiterOf(digest));
      const refusal = await limiter.attempt(kind, key);
      if (refusal !== null) return err({ reason: "rate_limited", retryAfterMs: refusal.retryAfterMs });
      counted.push(() => limiter.refund(kind, key));
    }
  } catch {
    return err({ reason: "storage_unavailable" });
  }
  return ok({
    async refund() {
      try {
        await Promise.all(counted.map((giveBack) => giveBack()));
      } catch {
        // the try stays counted: the person waits a minute longer at worst
      }
    },
  });
}
