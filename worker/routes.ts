/**
 * Every way in, in four tables by class of caller (DESIGN.md §5); `/agents/*` is the gate's. A table names where its
 * families of routes are, not the routes: a family is loaded when its first path is asked for, which keeps the cold
 * start of a call to an agent small. The class's wrapper is bound to a row here, so that none can be reached without it.
 */
import type { Answer, Call, ClientRoute, OperatorRoute, PublicRoute, Route, SessionRoute } from "./call.ts";
import { asClient, asOperator, asPublic, asSession } from "./callers.ts";
import { ok } from "../core/result.ts";
import { asFederated } from "./federation/bearer.ts";
import { json } from "./respond.ts";

/** The rows whose paths begin like that. */
interface Family<Row> {
  readonly prefix: string;
  readonly rows: (pathname: string) => Promise<readonly Row[]>;
}

const HEALTH: PublicRoute = {
  method: "GET",
  path: "/healthz",
  handler: async () => ok(json({ status: "ok" })),
};

const PUBLIC: readonly Family<PublicRoute>[] = [
  { prefix: "/healthz", rows: async () => [HEALTH] },
  { prefix: "/.well-known/", rows: async () => (await import("./discovery.ts")).DISCOVERY },
  { prefix: "/auth/", rows: async () => (await import("./auth/routes.ts")).AUTH_PUBLIC },
];

const CLIENT: readonly Family<ClientRoute>[] = [
  { prefix: "/oauth/", rows: async () => (await import("./oauth/routes.ts")).OAUTH_CLIENT },
  { prefix: "/holds", rows: async () => (await import("./holds/routes.ts")).HOLDS },
];

const SESSION: readonly Family<SessionRoute>[] = [
  { prefix: "/auth/", rows: async () => (await import("./auth/routes.ts")).AUTH_SESSION },
  { prefix: "/oauth/", rows: async () => (await import("./oauth/routes.ts")).OAUTH_SESSION },
  { prefix: "/sessions", rows: async () => (await import("./sessions/routes.ts")).SESSIONS },
];

const FEDERATED: readonly Family<SessionRoute>[] = [
  {
    prefix: "/federation/",
    rows: async (pathname) => (await import("./federation/routes.ts")).federationRows(pathname),
  },
];

const OPERATOR: readonly Family<OperatorRoute>[] = [
  { prefix: "/admin/", rows: async () => (await import("./admin/routes.ts")).ADMIN },
];

/** A row with its class's wrapper around it. */
export interface Way {
  readonly method: Route<never>["method"];
  readonly path: string;
  go(call: Call): Promise<Answer>;
}

async function waysOf<Row extends { readonly method: Way["method"]; readonly path: string }>(
  families: readonly Family<Row>[],
  pathname: string,
  wrap: (call: Call, row: Row) => Promise<Answer>,
): Promise<Way[]> {
  const found: Way[] = [];
  for (const { prefix, rows } of families) {
    if (!pathname.startsWith(prefix)) continue;
    for (const row of await rows(pathname))
      found.push({ method: row.method, path: row.path, go: (call) => wrap(call, row) });
  }
  return found;
}

/** All ways whose family a path belongs to; `match.ts` says which of them it is. */
export async function waysTo(pathname: string): Promise<readonly Way[]> {
  return [
    ...(await waysOf(PUBLIC, pathname, asPublic)),
    ...(await waysOf(CLIENT, pathname, asClient)),
    ...(await waysOf(SESSION, pathname, asSession)),
    ...(await waysOf(FEDERATED, pathname, asFederated)),
    ...(await waysOf(OPERATOR, pathname, asOperator)),
  ];
}
