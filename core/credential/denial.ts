/** Refusals around credentials of clouds, and what the world sees of them; a part of the table in core/denial.ts. */
import type { WireDenial } from "../denial.ts";

export type CredentialDenial =
  /** The node ends sooner than any credential could: there is no shorter one. */
  | { readonly reason: "credential_too_short"; readonly leastSeconds: number; readonly leftSeconds: number }
  /** The other side refused, or could not be asked; `code` is its own where that is a known one. */
  | {
      readonly reason: "exchange_failed";
      readonly kind: "permanent" | "retry";
      readonly code: string;
      readonly retryAfterMs: number;
    };

export function credentialWire(denial: CredentialDenial): [number, string, string, string, Partial<WireDenial>] {
  if (denial.reason === "credential_too_short") {
    const { leastSeconds, leftSeconds } = denial;
    const error = "This session or delegation ends before the shortest credential would.";
    return [403, "credential_too_short", error, "access_denied", { evidence: { leastSeconds, leftSeconds } }];
  }
  const more = {
    retryAfterSeconds: Math.max(1, Math.ceil(denial.retryAfterMs / 1000)),
    evidence: { reason: denial.code },
  };
  return denial.kind === "permanent"
    ? [502, "exchange_refused", "The cloud refused the exchange; the code in `reason` says why.", "access_denied", more]
    : [
        503,
        "exchange_unavailable",
        "The cloud's token service is out of reach; try again after the time in Retry-After.",
        "temporarily_unavailable",
        more,
      ];
}
