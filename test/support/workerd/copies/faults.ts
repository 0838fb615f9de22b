/**
 * What may go wrong between one copy of the edge and the objects, as a test says: lost questions, lost answers, no way
 * through, death. Beside that it counts what is asked. One for each isolate.
 */
export const faults = {
  /** Questions that never arrive, and answers that never come back, as shares of 1. */
  losesQuestions: 0,
  losesAnswers: 0,
  isCutOff: false,
  /** Serves nobody and asks nothing, ever again: what it held is lost with it. */
  isDead: false,
};

/** Calls of the objects' methods, by method; and those that have no answer yet. */
export const asked: { readonly counts: Record<string, number>; open: number } = { counts: {}, open: 0 };

type Method = (...args: unknown[]) => Promise<unknown>;
type Methods = Readonly<Record<string, Method>>;

async function ask(stub: Methods, method: string, args: unknown[]): Promise<unknown> {
  asked.counts[method] = (asked.counts[method] ?? 0) + 1;
  if (faults.isDead || faults.isCutOff || Math.random() < faults.losesQuestions) throw new Error("did not arrive");
  asked.open++;
  try {
    const answer = await stub[method]?.(...args);
    if (faults.isDead || Math.random() < faults.losesAnswers) throw new Error("the answer was lost");
    return answer;
  } finally {
    asked.open--;
  }
}

const made = new WeakMap<DurableObjectNamespace, Env>();

/** The same `env` with objects that are reached through the faults. */
export function withFaults(env: Env): Env {
  let faulty = made.get(env.AUTHORITY);
  if (faulty !== undefined) return faulty;
  const getByName = (name: string) => {
    const stub = env.AUTHORITY.getByName(name) as unknown as Methods;
    return new Proxy(
      {},
      {
        get:
          (_, method) =>
          (...args: unknown[]) =>
            ask(stub, String(method), args),
      },
    );
  };
  faulty = { ...env, AUTHORITY: { getByName } as unknown as Env["AUTHORITY"] };
  made.set(env.AUTHORITY, faulty);
  return faulty;
}
