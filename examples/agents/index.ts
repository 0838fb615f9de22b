// The agents' Worker: three agents that Legate protects. It has no address of its own.
export { Catalog } from "./catalog.ts";
export { Planner } from "./planner.ts";
export { Researcher } from "./researcher.ts";

export default {
  fetch: () => new Response("Not found", { status: 404 }),
} satisfies ExportedHandler<AgentsEnv>;
