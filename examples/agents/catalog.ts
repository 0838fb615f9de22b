/** The catalogue of sources, one for all users. Its entry lets nobody read it but the researcher (legate.config.ts). */
import { Agent } from "agents";
import { protect } from "../../sdk/agent.ts";
import { SOURCES } from "./data.ts";

const COST = 5;

export class Catalog extends protect(Agent<AgentsEnv>) {
  override onRequest(request: Request): Response {
    if (request.method !== "GET" || !new URL(request.url).pathname.endsWith("/sources"))
      return Response.json({ error: "Ask GET …/sources." }, { status: 404 });
    const sources = SOURCES.map(({ id, title, facts }) => ({ id, title, facts: facts.length }));
    return Response.json({ sources, calledBy: this.caller.actors }, { headers: { "legate-cost": String(COST) } });
  }
}
