/** Credentials of clouds, and the proxy that signs with them. Bearer alone: a person in a browser needs neither. */
import type { SessionRoute } from "../call.ts";

const PROXY_METHODS = ["GET", "HEAD", "PUT", "POST", "PATCH", "DELETE"] as const;

const CREDENTIALS: SessionRoute = {
  method: "GET",
  path: "/federation/:provider/:alias",
  accepts: ["bearer"],
  handler: async (call, caller) => (await import("./credentials.ts")).credentials(call, caller),
};

/** @returns the rows of a path: what follows `/proxy/` is the service's own, and stands in its row as it is */
export function federationRows(pathname: string): readonly SessionRoute[] {
  const rest = /^\/federation\/aws\/[^/]+(\/proxy\/.*)$/.exec(pathname)?.[1];
  if (rest === undefined) return [CREDENTIALS];
  return PROXY_METHODS.map((method) => ({
    method,
    path: `/federation/aws/:alias${rest}`,
    accepts: ["bearer"],
    handler: async (call, caller) => (await import("./proxy.ts")).proxy(call, caller),
  }));
}
