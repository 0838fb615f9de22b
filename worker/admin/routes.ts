/** Operators' routes. Handlers are loaded when one is called. */
import type { OperatorRoute } from "../call.ts";

const admin = () => import("./admin.ts");
const locks = () => import("./locks.ts");

export const ADMIN: OperatorRoute[] = [
  {
    method: "GET",
    path: "/admin/agents/sessions",
    handler: async (call, caller) => (await admin()).listSessions(call, caller),
  },
  {
    method: "GET",
    path: "/admin/agents/sessions/:id",
    handler: async (call, caller) => (await admin()).inspectSession(call, caller),
  },
  {
    method: "DELETE",
    path: "/admin/agents/sessions/:id",
    handler: async (call, caller) => (await admin()).terminateSession(call, caller),
  },
  {
    method: "GET",
    path: "/admin/agents/sessions/:id/stop",
    handler: async (call) => (await locks()).stopReport(call),
  },
  {
    method: "POST",
    path: "/admin/locks",
    handler: async (call, caller) => (await locks()).lock(call, caller),
  },
  {
    method: "GET",
    path: "/admin/locks",
    handler: async (call) => (await locks()).listLocks(call),
  },
  {
    method: "GET",
    path: "/admin/locks/:id",
    handler: async (call) => (await locks()).readLock(call),
  },
  {
    method: "DELETE",
    path: "/admin/locks/:id",
    handler: async (call, caller) => (await locks()).unlock(call, caller),
  },
  {
    method: "GET",
    path: "/admin/agents/audit",
    handler: async (call, caller) => (await admin()).listAudit(call, caller),
  },
  {
    method: "GET",
    path: "/admin/federation",
    handler: async (call, caller) => (await admin()).listRoles(call, caller),
  },
  {
    method: "POST",
    path: "/admin/users/:id/stop",
    handler: async (call, caller) => (await admin()).stopUser(call, caller),
  },
  {
    method: "POST",
    path: "/admin/users/:id/disable",
    handler: async (call, caller) => (await admin()).disableUser(call, caller),
  },
  {
    method: "POST",
    path: "/admin/users/:id/enable",
    handler: async (call, caller) => (await admin()).enableUser(call, caller),
  },
  {
    method: "PATCH",
    path: "/admin/agents/sessions/:id/budget",
    handler: async (call, caller) => (await admin()).changeBudget(call, caller),
  },
  {
    method: "PATCH",
    path: "/admin/clients/:id/budget",
    handler: async (call, caller) => (await admin()).changeBudget(call, caller),
  },
  {
    method: "PATCH",
    path: "/admin/users/:id/budget",
    handler: async (call, caller) => (await admin()).changeBudget(call, caller),
  },
  {
    method: "PATCH",
    path: "/admin/users/:id",
    handler: async (call, caller) => (await admin()).changeUser(call, caller),
  },
];
