/** `/holds`: for resource servers, in JSON. Handlers are loaded when one is called. */
import type { ClientRoute } from "../call.ts";

const holds = () => import("./holds.ts");

export const HOLDS: ClientRoute[] = [
  { method: "POST", path: "/holds", handler: async (call, caller) => (await holds()).hold(call, caller) },
  {
    method: "POST",
    path: "/holds/:id/settle",
    handler: async (call, caller) => (await holds()).settle(call, caller),
  },
  { method: "POST", path: "/holds/:id/void", handler: async (call, caller) => (await holds()).voidHold(call, caller) },
];
