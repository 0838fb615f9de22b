/**
 * One POST to a token service: no redirect is followed, the deadline covers the whole body, and a body that grows too
 * long is let go of. What goes wrong is a value; nothing that was sent or received is ever in it.
 */
import { classify, DROPPED, LATE, TOO_LONG, type ExchangeFailure } from "../../../core/credential/failure.ts";
import { EXCHANGE_ANSWER_MAX_BYTES, EXCHANGE_DEADLINE_MS } from "../../../core/limits.ts";
import { err, ok, type Result } from "../../../core/result.ts";

export interface Posted {
  readonly status: number;
  readonly text: string;
}

export async function post(
  url: string,
  body: string,
  headers: Readonly<Record<string, string>>,
): Promise<Result<Posted, ExchangeFailure>> {
  // A timer of our own, cleared at the end: that of AbortSignal.timeout keeps an object from being evicted (2026-11).
  const abort = new AbortController();
  let timer: ReturnType<typeof setTimeout> | undefined;
  const late = new Promise<Result<Posted, ExchangeFailure>>((resolve) => {
    timer = setTimeout(() => {
      resolve(err(LATE));
      abort.abort();
    }, EXCHANGE_DEADLINE_MS);
  });
  try {
    const init = { method: "POST", body, headers: { ...headers }, redirect: "manual", signal: abort.signal } as const;
    return await Promise.race([send(url, init), late]);
  } finally {
    clearTimeout(timer);
  }
}

async function send(url: string, init: RequestInit): Promise<Result<Posted, ExchangeFailure>> {
  try {
    const answer = await fetch(url, init);
    if (answer.status >= 300 && answer.status < 400) {
      await answer.body?.cancel();
      return err(classify(null, answer.status));
    }
    const text = await boundedText(answer);
    return text === null ? err(TOO_LONG) : ok({ status: answer.status, text });
  } catch {
    return err(DROPPED);
  }
}

async function boundedText(answer: Response): Promise<string | null> {
  if (answer.body === null) return "";
  const decoder = new TextDecoder();
  let text = "";
  let length = 0;
  for await (const chunk of answer.body as ReadableStream<Uint8Array>) {
    length += chunk.byteLength;
    if (length > EXCHANGE_ANSWER_MAX_BYTES) return null; // leaving the loop cancels the stream
    text += decoder.decode(chunk, { stream: true });
  }
  return text + decoder.decode();
}

/** @returns the answer's JSON object, or null */
export function jsonOf(text: string): Readonly<Record<string, unknown>> | null {
  try {
    const value: unknown = JSON.parse(text);
    return typeof value === "object" && value !== null && !Array.isArray(value)
      ? (value as Record<string, unknown>)
      : null;
  } catch {
    return null;
  }
}

/** RFC 6749 §5.2, or Google's `{"error": {"status": …}}`. */
export function jsonErrorCode(text: string): string | null {
  const error = jsonOf(text)?.["error"];
  if (typeof error === "string") return error;
  if (typeof error !== "object" || error === null) return null;
  const { status } = error as { status?: unknown };
  return typeof status === "string" ? status : null;
}
