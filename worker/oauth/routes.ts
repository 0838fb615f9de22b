/** OAuth, by class of caller. Handlers are loaded when one is called. */
import type { ClientRoute, SessionRoute } from "../call.ts";

const clients = () => import("./clients.ts");
const statements = () => import("./introspection.ts");

export const OAUTH_CLIENT: ClientRoute[] = [
  {
    method: "POST",
    path: "/oauth/token",
    handler: async (call, caller) => (await import("./token.ts")).token(call, caller),
  },
  {
    method: "POST",
    path: "/oauth/introspect",
    handler: async (call, caller) => (await statements()).introspect(call, caller),
  },
  { method: "POST", path: "/oauth/revoke", handler: async (call, caller) => (await statements()).revoke(call, caller) },
];

export const OAUTH_SESSION: SessionRoute[] = [
  {
    method: "POST",
    path: "/oauth/register",
    accepts: ["cookie"],
    handler: async (call, caller) => (await clients()).register(call, caller),
  },
  {
    method: "GET",
    path: "/oauth/clients",
    accepts: ["cookie"],
    handler: async (call, caller) => (await clients()).list(call, caller),
  },
  {
    method: "GET",
    path: "/oauth/clients/:id",
    accepts: ["cookie"],
    handler: async (call, caller) => (await clients()).read(call, caller),
  },
  {
    method: "PATCH",
    path: "/oauth/clients/:id",
    accepts: ["cookie"],
    handler: async (call, caller) => (await clients()).setBudget(call, caller),
  },
  {
    method: "DELETE",
    path: "/oauth/clients/:id",
    accepts: ["cookie"],
    handler: async (call, caller) => (await clients()).remove(call, caller),
  },
];
