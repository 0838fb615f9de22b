/**
 * Matching, on the pathname as the URL parser left it, once: exact segments, case and slashes count, nothing is decoded.
 * Where a path fits a row with a name in that place and one with a parameter, the one with the name is meant, for every
 * method: `DELETE /sessions/current` is 405, not the session "current".
 */
interface Row {
  readonly method: string;
  readonly path: string;
}

export type Match<R extends Row> =
  | { readonly kind: "found"; readonly row: R; readonly params: Readonly<Record<string, string>> }
  | { readonly kind: "method"; readonly allowed: readonly string[] }
  | { readonly kind: "none" };

/** @returns the values of a pattern's parameters, or null where the path does not fit it */
function fit(pattern: readonly string[], segments: readonly string[]): Record<string, string> | null {
  if (pattern.length !== segments.length) return null;
  const params: Record<string, string> = Object.create(null) as Record<string, string>;
  for (const [i, want] of pattern.entries()) {
    const have = segments[i] as string;
    if (want.startsWith(":") && have !== "") params[want.slice(1)] = have;
    else if (want !== have) return null;
  }
  return params;
}

export function match<R extends Row>(rows: readonly R[], method: string, pathname: string): Match<R> {
  const segments = pathname.split("/");
  let fewest = Infinity;
  let fitting: { row: R; params: Record<string, string> }[] = [];
  for (const row of rows) {
    const params = fit(row.path.split("/"), segments);
    if (params === null) continue;
    const count = Object.keys(params).length;
    if (count < fewest) fitting = [];
    if (count <= fewest) fitting.push({ row, params });
    fewest = Math.min(fewest, count);
  }
  if (fitting.length === 0) return { kind: "none" };
  const found = fitting.find(({ row }) => row.method === method);
  if (found !== undefined) return { kind: "found", ...found };
  return { kind: "method", allowed: [...new Set(fitting.map(({ row }) => row.method))] };
}
