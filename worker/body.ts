/**
 * Reading bodies: bounded while they stream, of the expected type, of bounded depth, and of exactly the shape that the
 * handler names. Mistakes are told in a sentence that names the member.
 */
import type * as z from "zod/mini";
import type { Denial } from "../core/denial.ts";
import { BODY_MAX_BYTES, JSON_DEPTH_MAX } from "../core/limits.ts";
import { err, ok, type Result } from "../core/result.ts";

function mediaTypeOf(request: Request): string {
  return (request.headers.get("content-type") ?? "").split(";", 1)[0]?.trim().toLowerCase() ?? "";
}

async function readText(request: Request): Promise<Result<string, Denial>> {
  if (Number(request.headers.get("content-length") ?? 0) > BODY_MAX_BYTES) return err({ reason: "body_too_large" });
  if (request.body === null) return ok("");
  const chunks: Uint8Array[] = [];
  let length = 0;
  for await (const chunk of request.body) {
    length += chunk.byteLength;
    if (length > BODY_MAX_BYTES) return err({ reason: "body_too_large" });
    chunks.push(chunk);
  }
  const bytes = new Uint8Array(length);
  let at = 0;
  for (const chunk of chunks) {
    bytes.set(chunk, at);
    at += chunk.byteLength;
  }
  try {
    return ok(new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }).decode(bytes));
  } catch {
    return err({ reason: "request_invalid", detail: "The body is not UTF-8." });
  }
}

const NOT_AN_OBJECT: Denial = { reason: "request_invalid", detail: "The body: missing, or of the wrong type." };

/** Nesting is counted in the text, before a parser recurses into it. */
function isTooDeep(text: string): boolean {
  let depth = 0;
  let inString = false;
  for (let i = 0; i < text.length; i++) {
    const c = text[i];
    if (inString) {
      if (c === "\\") i++;
      else if (c === '"') inString = false;
    } else if (c === '"') inString = true;
    else if (c === "{" || c === "[") {
      if (++depth > JSON_DEPTH_MAX) return true;
    } else if (c === "}" || c === "]") depth--;
  }
  return false;
}

/**
 * @param schema a strict zod object: an unknown member is a mistake
 * @param orEmpty what an absent body means, where a route allows one
 * @returns the body, or `media_type_unsupported`, `body_too_large`, `request_invalid`
 */
export async function readJson<S extends z.ZodMiniType>(
  request: Request,
  schema: S,
  orEmpty?: unknown,
): Promise<Result<z.output<S>, Denial>> {
  const value = await readJsonValue(request, orEmpty);
  return value.ok ? check(schema, value.value) : value;
}

async function readJsonValue(request: Request, orEmpty?: unknown): Promise<Result<unknown, Denial>> {
  const type = mediaTypeOf(request);
  const text = await readText(request);
  if (!text.ok) return text;
  if (text.value === "" && orEmpty !== undefined) return ok(orEmpty);
  if (type !== "application/json") return err({ reason: "media_type_unsupported", expected: "application/json" });
  if (isTooDeep(text.value))
    return err({ reason: "request_invalid", detail: `The body is nested deeper than ${JSON_DEPTH_MAX} levels.` });
  try {
    return ok(JSON.parse(text.value) as unknown);
  } catch {
    return err({ reason: "request_invalid", detail: "The body is not well-formed JSON." });
  }
}

/** @returns the value as the schema types it, or its first mistake as a sentence */
export function check<S extends z.ZodMiniType>(schema: S, value: unknown): Result<z.output<S>, Denial> {
  const parsed = schema.safeParse(value);
  if (parsed.success) return ok(parsed.data);
  const issue = parsed.error.issues[0];
  const place = issue === undefined || issue.path.length === 0 ? "The body" : `"${issue.path.join(".")}"`;
  return err({ reason: "request_invalid", detail: `${place}: ${describe(issue)}` });
}

function describe(issue: { code?: string; message?: string; keys?: string[] } | undefined): string {
  if (issue?.code === "unrecognized_keys")
    return `unknown member ${(issue.keys ?? []).map((key) => `"${key.slice(0, 40)}"`).join(", ")}.`;
  const message = issue?.message ?? "";
  return message === "" || message === "Invalid input" ? "missing, or of the wrong type." : `${message}.`;
}

/** @returns the members of an `application/x-www-form-urlencoded` body, none of them twice (RFC 6749 §3.2) */
export async function readForm(request: Request): Promise<Result<ReadonlyMap<string, string>, Denial>> {
  if (mediaTypeOf(request) !== "application/x-www-form-urlencoded") {
    return err({ reason: "media_type_unsupported", expected: "application/x-www-form-urlencoded" });
  }
  const text = await readText(request);
  if (!text.ok) return text;
  const form = new Map<string, string>();
  for (const [name, value] of new URLSearchParams(text.value)) {
    if (form.has(name)) return err({ reason: "request_invalid", detail: `"${name.slice(0, 40)}" stands twice.` });
    form.set(name, value);
  }
  return ok(form);
}

/**
 * The members of a request that a client authenticates in its body: a form (RFC 7521 §4.2), or under `/holds` a flat
 * JSON object of the same names.
 */
export async function readFields(
  request: Request,
  isJson: boolean,
): Promise<Result<ReadonlyMap<string, string>, Denial>> {
  if (!isJson) return readForm(request);
  const body = await readJsonValue(request);
  if (!body.ok) return body;
  if (typeof body.value !== "object" || body.value === null || Array.isArray(body.value)) return err(NOT_AN_OBJECT);
  const fields = new Map<string, string>();
  for (const [name, value] of Object.entries(body.value)) {
    if (typeof value !== "string" && typeof value !== "number")
      return err({ reason: "request_invalid", detail: `"${name.slice(0, 40)}": neither text nor a number.` });
    fields.set(name, String(value));
  }
  return ok(fields);
}
