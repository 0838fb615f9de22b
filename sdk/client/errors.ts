/** The one error of the client: Legate's stable code, the status it came with, and what was told besides. */

export class LegateError extends Error {
  override readonly name = "LegateError";
  /** Stable: `budget_exhausted`, `session_ended`, …; under `/oauth/` the codes of RFC 6749. */
  readonly code: string;
  /** 0 where there was no answer. */
  readonly status: number;
  /** Null where waiting does not help. */
  readonly retryAfterSeconds: number | null;
  /** What else the answer said: `node`, `remaining`, `cost`, … */
  readonly evidence: Readonly<Record<string, unknown>>;

  constructor(
    code: string,
    message: string,
    more: {
      status?: number;
      retryAfterSeconds?: number | null;
      evidence?: Record<string, unknown>;
      cause?: unknown;
    } = {},
  ) {
    super(message, more.cause === undefined ? {} : { cause: more.cause });
    this.code = code;
    this.status = more.status ?? 0;
    this.retryAfterSeconds = more.retryAfterSeconds ?? null;
    this.evidence = more.evidence ?? {};
  }

  /** Reads a refusal, in Legate's shape or RFC 6749's. */
  static async fromResponse(response: Response): Promise<LegateError> {
    const body = await readObject(response);
    const { success: _, error, error_description: description, code, ...evidence } = body;
    const retryAfter = Number(response.headers.get("retry-after") ?? Number.NaN);
    return new LegateError(
      text(code) ?? (description === undefined ? null : text(error)) ?? "unexpected_answer",
      text(description) ?? text(error) ?? `The answer was ${response.status}.`,
      { status: response.status, retryAfterSeconds: Number.isFinite(retryAfter) ? retryAfter : null, evidence },
    );
  }
}

function text(value: unknown): string | null {
  return typeof value === "string" ? value : null;
}

/** @returns the JSON object that a response carries; an empty one for anything else */
export async function readObject(response: Response): Promise<Record<string, unknown>> {
  try {
    const value: unknown = await response.json();
    return typeof value === "object" && value !== null && !Array.isArray(value)
      ? (value as Record<string, unknown>)
      : {};
  } catch {
    return {};
  }
}
