/**
 * Answers questions from the sources that the catalogue lists. It asks the catalogue anew for every question, on behalf
 * of whoever asks: over HTTP at `GET …/lookup?q=…`, over a WebSocket with `{"question":"…"}`.
 */
import { Agent, type Connection, type WSMessage } from "agents";
import { protect, type ActorLink } from "../../sdk/agent.ts";
import { SOURCES } from "./data.ts";
import { Library, type Finding } from "./lookup.ts";

const COST_PER_LOOKUP = 50;
const QUESTION_LENGTH_MAX = 500;

export interface Answer {
  readonly question: string;
  readonly findings: readonly Finding[];
  /** The actor chain as each agent on the way saw it, root first. */
  readonly chain: { readonly researcher: readonly ActorLink[]; readonly catalog: readonly ActorLink[] };
}

interface Catalogue {
  readonly sources: readonly { readonly id: string }[];
  readonly calledBy: readonly ActorLink[];
}

/** Another agent's no, as it was said. */
class Refusal {
  readonly status: number;
  readonly body: unknown;
  constructor(status: number, body: unknown) {
    this.status = status;
    this.body = body;
  }
}

export class Researcher extends protect(Agent<AgentsEnv>) {
  override async onRequest(request: Request): Promise<Response> {
    const url = new URL(request.url);
    if (request.method !== "GET" || !url.pathname.endsWith("/lookup"))
      return Response.json({ error: "Ask GET …/lookup?q=<question>." }, { status: 404 });
    const question = readQuestion(url.searchParams.get("q"));
    if (question === null) return Response.json({ error: "Ask with ?q=<question>." }, { status: 400 });
    const answer = await this.#answer(question);
    // What the catalogue refused is the caller's to know: a missing scope, a spent budget. Our own part costs nothing then.
    if (answer instanceof Refusal)
      return Response.json(answer.body, { status: answer.status, headers: { "legate-cost": "0" } });
    return Response.json(answer, { headers: { "legate-cost": String(COST_PER_LOOKUP) } });
  }

  override messageCost(): number {
    return COST_PER_LOOKUP;
  }

  override async onMessage(connection: Connection, message: WSMessage): Promise<void> {
    const question = readQuestion(fieldOf(message, "question"));
    const reply = question === null ? { error: 'Send {"question":"…"}.' } : await this.#answer(question);
    connection.send(JSON.stringify(reply instanceof Refusal ? reply.body : reply));
  }

  async #answer(question: string): Promise<Answer | Refusal> {
    const response = await this.legateFetch("/agents/catalog/default/sources");
    if (!response.ok) return new Refusal(response.status, await response.json());
    const { sources, calledBy } = await response.json<Catalogue>();
    const listed = new Set(sources.map(({ id }) => id));
    const library = new Library(SOURCES.filter(({ id }) => listed.has(id)));
    return {
      question,
      findings: library.lookup(question),
      chain: { researcher: this.caller.actors, catalog: calledBy },
    };
  }
}

function readQuestion(value: unknown): string | null {
  if (typeof value !== "string") return null;
  const question = value.trim();
  return question === "" || question.length > QUESTION_LENGTH_MAX ? null : question;
}

function fieldOf(message: WSMessage, name: string): unknown {
  try {
    return typeof message === "string" ? (JSON.parse(message) as Record<string, unknown> | null)?.[name] : undefined;
  } catch {
    return undefined;
  }
}
