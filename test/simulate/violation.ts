/** A promise that did not hold: which one, and what was seen. */
export class Violation extends Error {
  readonly invariant: string;

  constructor(invariant: string, seen: string) {
    super(`${invariant}: ${seen}`);
    this.invariant = invariant;
  }
}

/** @throws Violation unless what must hold does */
export function must(holds: boolean, invariant: string, seen: () => string): asserts holds {
  if (!holds) throw new Violation(invariant, seen());
}
