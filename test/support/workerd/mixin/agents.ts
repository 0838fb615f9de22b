// An agent that shows what the mixin gives it, and fails where a test asks it to.
import { Agent, type Connection, type ConnectionContext, type WSMessage } from "agents";
import { Planner as ExamplePlanner } from "../../../../examples/agents/planner.ts";
import { protect } from "../../../../sdk/agent.ts";

export class Planner extends ExamplePlanner {}

export class Probe extends protect(Agent<Cloudflare.Env, { count: number }>) {
  override initialState = { count: 0 };

  override async onRequest(request: Request): Promise<Response> {
    const url = new URL(request.url);
    switch (url.pathname.split("/").at(-1) ?? "") {
      case "caller": {
        const before = this.caller.callId;
        await new Promise((wake) => setTimeout(wake, Number(url.searchParams.get("wait") ?? 0)));
        return Response.json({ ...this.caller, before, headers: [...request.headers.keys()] });
      }
      case "call":
        return this.legateFetch(url.searchParams.get("to") ?? "/agents/other/default/x");
      case "charge":
        return Response.json(await this.charge(30));
      case "settle":
        return Response.json(await this.legateSettle(42));
      case "own-error":
        return Response.json({ mine: true }, { status: 503 });
      case "state":
        return Response.json(this.state);
      case "broadcast":
        this.broadcast("news");
        return Response.json({ sent: true });
      default:
        throw new Error("a secret in a stack");
    }
  }

  override getConnectionTags(_connection: Connection, { request }: ConnectionContext): string[] {
    if (request.url.includes("bad-tags")) throw new Error("a secret in a stack");
    return ["all"];
  }

  override onConnect(connection: Connection): void {
    connection.setState({ mine: this.caller.callId });
    connection.send(JSON.stringify({ hello: this.caller.subject }));
  }

  override messageCost(message: WSMessage, most: number): number {
    if (message === "cost fails") throw new Error("no price");
    return message === "cheap" ? 5 : most;
  }

  override async onMessage(connection: Connection, message: WSMessage): Promise<void> {
    if (message === "charge") return connection.send(JSON.stringify(await this.charge(30)));
    if (message === "throw") throw new Error("a secret in a stack");
    const { callId, remaining } = this.caller;
    connection.send(JSON.stringify({ echo: message, callId, remaining, state: connection.state }));
  }
}

export default { fetch: () => new Response("Not found", { status: 404 }) };
