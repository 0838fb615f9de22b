/**
 * Looking things up without a language model: words are cut to their stems, rare words weigh more than common ones, and
 * the facts that share the most weight with a question answer it. The same question always has the same answer.
 */
import type { Source } from "./data.ts";

export interface Finding {
  readonly fact: string;
  readonly source: string;
  readonly score: number;
}

const FINDINGS_MAX = 3;
const SCORE_MIN = 0.5; // below it, facts share only a common word with the question

const COMMON = new Set(
  (
    "a about all also an and any are as at be because been but by can did do does each for from had has have how i if " +
    "in into is it its know many me more most much of on one or other out should so some tell than that the their them " +
    "then there they this to was were what when where which while who why will with would you your"
  ).split(" "),
);

/** Crude on purpose: plurals and a few endings, enough for English questions about these facts. */
function stem(word: string): string {
  if (word.length > 5 && word.endsWith("ies")) return `${word.slice(0, -3)}y`;
  if (word.length > 5 && word.endsWith("ing")) return word.slice(0, -3);
  if (word.length > 4 && word.endsWith("ed")) return word.slice(0, -2);
  return word.length > 3 && word.endsWith("s") && !word.endsWith("ss") ? word.slice(0, -1) : word;
}

/** The words of a text that say something, as stems. */
export function termsOf(text: string): Set<string> {
  const words = text.toLowerCase().match(/[\p{L}\p{N}]+/gu) ?? [];
  return new Set(words.filter((word) => !COMMON.has(word)).map(stem));
}

interface IndexedFact {
  readonly fact: string;
  readonly source: string;
  readonly terms: ReadonlySet<string>;
}

export class Library {
  readonly #facts: readonly IndexedFact[];
  readonly #weight = new Map<string, number>();

  constructor(sources: readonly Source[]) {
    this.#facts = sources.flatMap(({ title, facts }) =>
      facts.map((fact) => ({ fact, source: title, terms: termsOf(fact) })),
    );
    const counts = new Map<string, number>();
    for (const { terms } of this.#facts) for (const term of terms) counts.set(term, (counts.get(term) ?? 0) + 1);
    for (const [term, count] of counts) this.#weight.set(term, Math.log(this.#facts.length / count));
  }

  /** @returns the best answers first; none where nothing here is about the question */
  lookup(question: string): readonly Finding[] {
    const asked = [...termsOf(question)];
    return this.#facts
      .map(({ fact, source, terms }) => {
        const shared = asked.filter((term) => terms.has(term));
        const weight = shared.reduce((sum, term) => sum + (this.#weight.get(term) ?? 0), 0);
        return { fact, source, score: Math.round((weight / Math.sqrt(terms.size)) * 100) / 100 };
      })
      .filter(({ score }) => score >= SCORE_MIN)
      .sort((a, b) => b.score - a.score || a.fact.localeCompare(b.fact))
      .slice(0, FINDINGS_MAX);
  }
}
