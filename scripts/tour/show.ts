/**
 * How the tour shows what goes over the wire: every request and answer of a step, with secrets cut short. A whole token,
 * password, code or assertion is never printed.
 */
import { decodeObject, splitToken } from "../../core/token/format.ts";
import { bold, cyan, dim, green, red, say, yellow } from "../lib/term.mjs";

const LINE_WIDTH_MAX = 160;
const SECRETS = new Set([
  "password",
  "bootstrap",
  "client_assertion",
  "subject_token",
  "access_token",
  "token",
  "delegation",
  "cookie",
]);
/** Said the same way in every request: nothing to learn from. */
const DULL = new Set([
  "client_assertion_type",
  "subject_token_type",
  "issued_token_type",
  "token_type_hint",
  "client_id",
]);

let steps = 0;

export function step(title: string): void {
  steps++;
  say();
  say(`${bold(cyan(String(steps).padStart(2)))}  ${bold(title)}`);
}

export function note(text: string): void {
  say(`    ${dim(text)}`);
}

export function good(text: string): void {
  say(`    ${green("✓")} ${text}`);
}

export function bad(text: string): void {
  say(`    ${red("✗")} ${text}`);
}

/** Long random parts of ids tell a reader nothing: `agt_abcd…wxyz`. */
export function shortIds(text: string): string {
  return text
    .replaceAll(/\b(usr|agt|ses|hld|rct)_[a-z2-7_]{20,}/g, (id) => `${id.slice(0, 8)}…${id.slice(-4)}`)
    .replaceAll(/(\.)([A-Za-z0-9_-]{12})(?=[."\s]|$)/g, (_, dot: string, n: string) => `${dot}${n.slice(0, 4)}…`);
}

/** The first characters of a secret and its length. */
export function shortSecret(secret: string): string {
  return `${secret.slice(0, 6)}…(${secret.length} characters)`;
}

function clip(text: string): string {
  return text.length <= LINE_WIDTH_MAX ? text : `${text.slice(0, LINE_WIDTH_MAX - 1)}…`;
}

function redact(name: string, value: unknown): unknown {
  return SECRETS.has(name) && typeof value === "string" ? shortSecret(value) : value;
}

/** JSON as one line, secrets cut. */
export function short(value: unknown): string {
  return clip(shortIds(JSON.stringify(value, redact) ?? ""));
}

export function sent(method: string, path: string, body: string | null): void {
  say(`    ${yellow("→")} ${method} ${shortIds(path)}${body === null ? "" : `  ${dim(body)}`}`);
}

export function received(status: number, what: string): void {
  say(`    ${status < 400 ? green("←") : red("←")} ${status}  ${dim(what)}`);
}

/** What a token says, claim by claim, and the blocks that narrow it; nothing that could be used. */
export function showToken(name: string, token: string): void {
  const parts = splitToken(token);
  const claims = parts === null ? undefined : decodeObject(parts.payload)?.value;
  if (parts === null || claims === undefined) throw new Error("this is no session token");
  const { sub, act, gid, scope, agents, exp } = claims;
  const inMinutes = Math.round((Number(exp) - Date.now() / 1000) / 60);
  note(`${name}: ${short({ sub, act, gid, agents, exp: `in ${inMinutes} min`, scope })}`);
  for (const block of parts.blocks) note(`  narrowed by ${short(decodeObject(block)?.value)}`);
}

/** The actor chain as a picture, root first. */
export function chainText(subject: string, actors: readonly { sub: string; proven: boolean }[]): string {
  const links = actors.map(
    ({ sub, proven }) => `${sub.replace(/^https?:\/\/[^/]+\/agents\//, "~")}${proven ? "" : " (not proven)"}`,
  );
  return shortIds([subject, ...links].join(" → "));
}

/** The body of a request, as much of it as there is to see. */
function bodyText(body: RequestInit["body"]): string | null {
  if (body instanceof URLSearchParams)
    return clip(
      shortIds(
        [...body]
          .filter(([name]) => !DULL.has(name))
          .map(
            ([name, value]) =>
              `${name}=${String(redact(name, value)).replace(/^urn:ietf:params:oauth:grant-type:/, "")}`,
          )
          .join(" "),
      ),
    );
  if (typeof body !== "string") return null;
  try {
    return short(JSON.parse(body));
  } catch {
    return `${body.length} characters`;
  }
}

/** Stands around `fetch` and shows each exchange; streams are passed on untouched. */
export function recording(inner: typeof fetch): typeof fetch {
  return async (input, init) => {
    const url = new URL(input instanceof Request ? input.url : input);
    sent(init?.method ?? "GET", url.pathname + url.search, bodyText(init?.body));
    const response = await inner(input, init);
    const type = response.headers.get("content-type") ?? "";
    if (type.startsWith("text/event-stream")) received(response.status, "text/event-stream");
    else if (type.startsWith("application/json")) received(response.status, short(await response.clone().json()));
    else received(response.status, type || "no body");
    return response;
  };
}
