/** A person's sessions, and a token's own node. Handlers are loaded when one is called. */
import { parseNodePath } from "../../core/ids.ts";
import type { SessionRoute } from "../call.ts";

const sessions = () => import("./sessions.ts");

export const SESSIONS: SessionRoute[] = [
  {
    method: "POST",
    path: "/sessions",
    accepts: ["cookie"],
    handler: async (call, caller) => (await sessions()).open(call, caller),
  },
  {
    method: "GET",
    path: "/sessions",
    accepts: ["cookie", "bearer"],
    handler: async (call, caller) => (await sessions()).list(call, caller),
  },
  // Before `:id`, which it would match.
  {
    method: "GET",
    path: "/sessions/current",
    accepts: ["cookie", "bearer"],
    handler: async (call, caller) => (await import("./leash.ts")).leash(call, caller),
  },
  {
    method: "POST",
    path: "/sessions/ticket",
    accepts: ["cookie", "bearer"],
    handler: async (call, caller) => (await import("./tickets.ts")).buy(call, caller),
  },
  {
    method: "GET",
    path: "/sessions/:id/socket",
    accepts: ["cookie", "bearer", "ticket"],
    ticketFor: (call) => {
      const path = parseNodePath(call.params["id"] ?? "", call.edge.idMac);
      return path === null ? null : `channel ${path}`;
    },
    handler: async (call, caller) => (await import("./channel.ts")).open(call, caller),
  },
  {
    method: "GET",
    path: "/sessions/:id",
    accepts: ["cookie", "bearer"],
    handler: async (call, caller) => (await sessions()).read(call, caller),
  },
  {
    method: "PATCH",
    path: "/sessions/:id",
    accepts: ["cookie", "bearer"],
    handler: async (call, caller) => (await sessions()).setCap(call, caller),
  },
  {
    method: "DELETE",
    path: "/sessions/:id",
    accepts: ["cookie", "bearer"],
    handler: async (call, caller) => (await sessions()).end(call, caller),
  },
];
