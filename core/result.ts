/**
 * A decision as a value. Nothing in Legate throws across a boundary: what can be refused returns a `Result`,
 * and its error arm carries the evidence. `assertNever` makes a forgotten arm of a union a compile error.
 */

export type Ok<T> = { readonly ok: true; readonly value: T };
export type Err<E> = { readonly ok: false; readonly denial: E };
export type Result<T, E> = Ok<T> | Err<E>;

export function ok<T>(value: T): Ok<T> {
  return { ok: true, value };
}

export function err<E>(denial: E): Err<E> {
  return { ok: false, denial };
}

/** Ends an exhaustive switch: compiles only when every arm was handled, and says which was not if one slips through. */
export function assertNever(value: never): never {
  throw new TypeError(`unhandled case: ${JSON.stringify(value)}`);
}
