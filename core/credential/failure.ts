/**
 * Why an exchange failed, and what to do about it: by the code that the other side names, never by its status or its
 * words. Statuses lie (AWS throttles with 400), words change. Only where there is no code does the status speak.
 */

/** `remint`: once more with a fresh JWT. `retry`: later, after a pause. `permanent`: asking again changes nothing. */
export type FailureClass = "permanent" | "remint" | "retry";

export interface ExchangeFailure {
  readonly kind: FailureClass;
  /** The other side's code where it named a known one, or a word of ours: what a log may show. */
  readonly code: string;
}

const CLASSES: Readonly<Record<string, FailureClass>> = Object.assign(Object.create(null) as object, {
  InvalidIdentityToken: "remint", // keys that were fetched too slowly, or before a rotation
  ExpiredTokenException: "remint", // the JWT was on its way too long
  IDPCommunicationError: "retry",
  Throttling: "retry",
  ThrottlingException: "retry",
  RequestLimitExceeded: "retry",
  InternalFailure: "retry",
  InternalError: "retry",
  ServiceUnavailable: "retry",
  IDPRejectedClaim: "permanent",
  AccessDenied: "permanent",
  MalformedPolicyDocument: "permanent",
  PackedPolicyTooLarge: "permanent",
  ValidationError: "permanent",
  InvalidArgument: "permanent", // Ceph's name for ValidationError
  RegionDisabledException: "permanent",
  // RFC 6749 §5.2, RFC 8693 §2.2.2
  invalid_request: "permanent",
  invalid_client: "remint", // Azure and others: an assertion that was not accepted
  invalid_grant: "remint",
  unauthorized_client: "permanent",
  unsupported_grant_type: "permanent",
  invalid_scope: "permanent",
  invalid_target: "permanent",
  temporarily_unavailable: "retry",
  server_error: "retry",
  // google.rpc.Code, as IAM Credentials writes it
  UNAUTHENTICATED: "remint",
  PERMISSION_DENIED: "permanent",
  NOT_FOUND: "permanent",
  INVALID_ARGUMENT: "permanent",
  RESOURCE_EXHAUSTED: "retry",
  UNAVAILABLE: "retry",
  INTERNAL: "retry",
} satisfies Record<string, FailureClass>);

/**
 * @param code as the other side wrote it; null where nothing could be read
 * @param status of the answer, for where there is no code
 */
export function classify(code: string | null, status: number): ExchangeFailure {
  if (code !== null) {
    const known = CLASSES[code];
    if (known !== undefined) return { kind: known, code };
    return { kind: status >= 500 ? "retry" : "permanent", code: "unknown" };
  }
  if (status >= 300 && status < 400) return { kind: "permanent", code: "redirect" };
  return { kind: status >= 500 || status === 429 ? "retry" : "permanent", code: `http_${status}` };
}

export const DROPPED: ExchangeFailure = { kind: "retry", code: "connection" };
export const LATE: ExchangeFailure = { kind: "retry", code: "timeout" };
export const TOO_LONG: ExchangeFailure = { kind: "permanent", code: "answer_too_long" };
export const UNREADABLE: ExchangeFailure = { kind: "permanent", code: "answer_unreadable" };
export const ABSURD: ExchangeFailure = { kind: "permanent", code: "answer_absurd" };

const PERMANENT_MS = 5_000;
const FIRST_PAUSE_MS = 1_000;
const PAUSE_MAX_MS = 60_000;
/** With its share of chance. */
export const FAILURE_PAUSE_MAX_MS = 1.25 * PAUSE_MAX_MS;

/**
 * How long a failure is the answer for everyone.
 *
 * @param failures in a row, this one included
 * @param chance in [0, 1), so that many objects do not come back at one moment
 */
export function pauseMs(kind: FailureClass, failures: number, chance: number): number {
  if (kind === "permanent") return PERMANENT_MS;
  return Math.round(Math.min(PAUSE_MAX_MS, FIRST_PAUSE_MS * 2 ** Math.min(failures - 1, 10)) * (0.75 + chance / 2));
}
