// The agents' Worker: three agents that Legate protects. It has no address of its own.
import { Agent } from "agents";

export class Planner extends Agent<AgentsEnv> {}
export class Researcher extends Agent<AgentsEnv> {}
export class Catalog extends Agent<AgentsEnv> {}

export default {
  fetch: () => new Response("Not found", { status: 404 }),
} satisfies ExportedHandler<AgentsEnv>;
