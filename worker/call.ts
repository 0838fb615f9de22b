/**
 * One request on its way through the edge, and the classes of caller that routes belong to (STYLE.md §3.12). A handler
 * gets a caller that its class's wrapper has proven; it cannot be reached in another way. What it answers is a value:
 * a response, or a denial that respond.ts alone turns into one.
 */
import type { Denial } from "../core/denial.ts";
import type { EpochMs } from "../core/ids.ts";
import type { Result } from "../core/result.ts";
import type { VerifiedToken } from "../core/token/verify.ts";
import type { AuthenticatedClient, PersonView } from "../core/wire/answers.ts";
import type { TicketTarget } from "../core/wire/questions.ts";
import type { Edge } from "./env.ts";

export interface Call {
  /** Stripped of every header that only Legate may set (inbound.ts). */
  readonly request: Request;
  readonly url: URL;
  readonly edge: Edge;
  readonly ctx: ExecutionContext;
  /** Named segments of the route's path, percent-decoded by nobody: ids need none. */
  readonly params: Readonly<Record<string, string>>;
  readonly now: EpochMs;
  /** What Cloudflare Access said of the caller, as it came: only operators' routes look at it, and they verify it. */
  readonly accessJwt: string | null;
}

export type Answer = Result<Response, Denial>;

/** `client_assertion` was consumed in the object of the agent's owner, and noted there for the subject's user. */
export interface ClientCaller {
  readonly client: AuthenticatedClient;
  readonly form: ReadonlyMap<string, string>;
  /** `subject_token` (exchange) or `token` (introspection, revocation), verified with the issuer's own key; null when absent. */
  readonly subject: Result<VerifiedToken, Denial> | null;
}

/**
 * A person's cookie, or a token in `Authorization: Bearer`, verified by MAC; the object is asked by the handler. Or the
 * token that a one-use ticket stood for, from the object itself.
 */
export interface SessionCaller {
  readonly via: "cookie" | "bearer" | "ticket";
  readonly token: VerifiedToken;
}

/** An operator, as the object of that user said just now. */
export interface OperatorCaller {
  readonly operator: PersonView;
  readonly via: "cookie" | "key" | "access";
}

export type Handler<Caller> = (call: Call, caller: Caller) => Promise<Answer>;

export interface Route<Caller> {
  readonly method: "GET" | "HEAD" | "POST" | "PUT" | "PATCH" | "DELETE";
  /** `/sessions/:id`: exact segments; `:name` matches one segment. */
  readonly path: string;
  readonly handler: Handler<Caller>;
}

export type PublicRoute = Route<null>;
export type ClientRoute = Route<ClientCaller>;
export interface SessionRoute extends Route<SessionCaller> {
  /** Which proofs the row takes. */
  readonly accepts: readonly SessionCaller["via"][];
  /** Where it takes tickets: what one must have been bought for. */
  readonly ticketFor?: (call: Call) => TicketTarget | null;
}
export type OperatorRoute = Route<OperatorCaller>;
