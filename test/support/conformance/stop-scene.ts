// Stock clients, as their packages ship them, with tickets bought by the SDK.
import { AgentClient } from "agents/client";
import type { AgentSession } from "../../../sdk/client.ts";

export interface Seen {
  readonly client: AgentClient;
  readonly messages: string[];
  readonly closes: { code: number; reason: string }[];
  opens: number;
}

/** The subprotocols of one attempt, with a ticket of its own. */
export const ticketsOf = (session: AgentSession, slug: string, name: string) => async () => [
  ...(await session.ticket(`/agents/${slug}/${name}`)).protocols,
];

/** An unmodified AgentClient: it knows of Legate only that each attempt needs fresh subprotocols. */
export function stockClient(url: string, slug: string, name: string, protocols: () => Promise<string[]>): Seen {
  const { host } = new URL(url);
  const client = new AgentClient({ agent: slug, name, host, protocol: "ws", protocols });
  const seen: Seen = { client, messages: [], closes: [], opens: 0 };
  client.addEventListener("open", () => void seen.opens++);
  client.addEventListener("message", ({ data }) => void seen.messages.push(String(data)));
  client.addEventListener("close", ({ code, reason }) => void seen.closes.push({ code, reason }));
  return seen;
}

/** Waits for an event, with an end. */
export async function until(look: () => boolean | Promise<boolean>, withinMs = 15_000): Promise<void> {
  const deadline = Date.now() + withinMs;
  while (!(await look())) {
    if (Date.now() > deadline) throw new Error("it did not come");
    await new Promise((wake) => setTimeout(wake, 20));
  }
}
