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

export class Researcher extends protect(Agent<AgentsEnv>) {
  override async onRequest(request: Request): Promise<Response> {
    const url = new URL(request.url);
    if (request.method !== "GET" || !url.pathname.endsWith("/lookup"))
      return Response.json({ error: "Ask GET …/lookup?q=<question>." }, { status: 404 });
    const question = readQuestion(url.searchParams.get("q"));
    if (question === null) return Response.json({ error: "Ask with ?q=<question>." }, { status: 400 });
    const answer = await this.#answer(question);
    return Response.json(answer, { headers: { "legate-cost": String(COST_PER_LOOKUP) } });
  }

  override messageCost(): number {
    return COST_PER_LOOKUP;
  }

  override async onMessage(connection: Connection, message: WSMessage): Promise<void> {
    const question = readQuestion(fieldOf(message, "question"));
    const reply = question === null ? { error: 'Send {"question":"…"}.' } : await this.#answer(question);
    connection.send(JSON.stringify(reply));
  }

  async #answer(question: string): Promise<Answer> {
    const { sources, calledBy } = await this.#catalogue();
    const listed = new Set(sources.map(({ id }) => id));
    const library = new Library(SOURCES.filter(({ id }) => listed.has(id)));
    return {
      question,
      findings: library.lookup(question),
      chain: { researcher: this.caller.actors, catalog: calledBy },
    };
  }

  async #catalogue(): Promise<Catalogue> {
    const response = await this.legateFetch("/agents/catalog/default/sources");
    if (!response.ok) throw new Error(`the catalogue answered ${response.status}`);
    return response.json<Catalogue>();
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
