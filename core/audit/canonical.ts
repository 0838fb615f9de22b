/**
 * JSON with one spelling: members sorted by code unit, no white space, `JSON.stringify`'s numbers and strings (RFC 8785
 * for the values that audit rows hold: no floats, no lone surrogates). What is hashed can be written again by others.
 */
export type Json = null | boolean | number | string | readonly Json[] | { readonly [name: string]: Json };

export function canonicalJson(value: Json): string {
  if (Array.isArray(value)) return `[${value.map(canonicalJson).join(",")}]`;
  if (typeof value === "object" && value !== null) {
    const members = value as { readonly [name: string]: Json };
    const sorted = Object.keys(members).sort();
    return `{${sorted.map((name) => `${JSON.stringify(name)}:${canonicalJson(members[name] as Json)}`).join(",")}}`;
  }
  return JSON.stringify(value);
}
