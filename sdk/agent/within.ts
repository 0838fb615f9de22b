/** Waiting for answers from outside, with an end. */

export const ANSWER_WITHIN_MS = 5_000;

/** What `within` answers when it has none. */
export const SILENCE = Symbol("no answer");

/** Waits for an answer from outside; a failure on the way is no answer either. */
export async function within<T>(milliseconds: number, ask: () => Promise<T>): Promise<T | typeof SILENCE> {
  let timer: ReturnType<typeof setTimeout> | undefined;
  const late = new Promise<typeof SILENCE>((resolve) => {
    timer = setTimeout(resolve, milliseconds, SILENCE);
  });
  try {
    return await Promise.race([ask(), late]);
  } catch {
    return SILENCE;
  } finally {
    clearTimeout(timer);
  }
}
