/** People's ways in. Handlers are loaded when one is called: the way of a call through the gate carries none of them. */
import type { PublicRoute, SessionRoute } from "../call.ts";

const people = () => import("./people.ts");

export const AUTH_PUBLIC: PublicRoute[] = [
  { method: "POST", path: "/auth/register", handler: async (call) => (await people()).register(call) },
  { method: "POST", path: "/auth/login", handler: async (call) => (await people()).login(call) },
];

export const AUTH_SESSION: SessionRoute[] = [
  {
    method: "POST",
    path: "/auth/logout",
    accepts: ["cookie"],
    handler: async (call, caller) => (await people()).logout(call, caller),
  },
  {
    method: "GET",
    path: "/auth/user",
    accepts: ["cookie"],
    handler: async (call, caller) => (await people()).user(call, caller),
  },
];
