/**
 * Plans a piece of research and has the researcher do each step, on behalf of whoever asked. `POST …/chat {"goal"}`
 * answers with server-sent events: `plan`, a `result` for each step as it comes, `done`. `POST …/stop` ends the chats
 * that run here; `GET …/history` lists the last ones, from the object's own SQLite.
 */
import { Agent } from "agents";
import { protect, type ActorLink } from "../../sdk/agent.ts";
import { planFor, type Step } from "./plan.ts";
import type { Answer } from "./researcher.ts";

const COST_PER_PLAN = 100;
const COST_PER_STEP = 100;
const GOAL_LENGTH_MAX = 1_000;
const HISTORY_ROWS = 20;

interface HistoryRow {
  readonly at: number;
  readonly session: string;
  readonly goal: string;
  readonly steps: number;
  readonly state: string;
}

export class Planner extends protect(Agent<AgentsEnv>) {
  readonly #running = new Set<AbortController>();

  override onStart(): void {
    void this.sql`CREATE TABLE IF NOT EXISTS chats
      (at INTEGER NOT NULL, session TEXT NOT NULL, goal TEXT NOT NULL, steps INTEGER NOT NULL, state TEXT NOT NULL)`;
  }

  override async onRequest(request: Request): Promise<Response> {
    const action = new URL(request.url).pathname.split("/").at(-1);
    switch (`${request.method} ${action}`) {
      case "POST chat":
        return this.#chat(await readGoal(request), request.signal);
      case "POST stop":
        return this.#stop();
      case "GET history":
        return this.#history();
      default:
        return Response.json({ error: "Ask POST …/chat, POST …/stop or GET …/history." }, { status: 404 });
    }
  }

  #chat(goal: string | null, left: AbortSignal): Response {
    if (goal === null) return Response.json({ error: 'Send {"goal":"…"}.' }, { status: 400 });
    const stop = new AbortController();
    this.#running.add(stop);
    const events = new TransformStream<Uint8Array, Uint8Array>();
    this.ctx.waitUntil(this.#work(goal, events.writable.getWriter(), AbortSignal.any([stop.signal, left]), stop));
    return new Response(events.readable, {
      headers: { "content-type": "text/event-stream", "cache-control": "no-store" },
    });
  }

  /** Writes the events of one chat; whatever ends it, its cost is posted and its row written once. */
  async #work(
    goal: string,
    writer: WritableStreamDefaultWriter<Uint8Array>,
    signal: AbortSignal,
    running: AbortController,
  ): Promise<void> {
    const steps = planFor(goal);
    let done = 0;
    let state = "done";
    try {
      await writer.write(event("plan", { goal, steps, chain: this.caller.actors }));
      for (const step of steps) {
        signal.throwIfAborted();
        await writer.write(event("result", await this.#research(step, signal)));
        done++;
      }
    } catch {
      state = signal.aborted ? "stopped" : "failed";
    }
    const cost = COST_PER_PLAN + COST_PER_STEP * done;
    this.#running.delete(running);
    void this.sql`INSERT INTO chats (at, session, goal, steps, state)
      VALUES (${Date.now()}, ${this.caller.session}, ${goal}, ${done}, ${state})`;
    await this.legateSettle(cost);
    try {
      await writer.write(event("done", { state, steps: done, cost }));
      await writer.close();
    } catch {
      // whoever asked has left
    }
  }

  async #research(step: Step, signal: AbortSignal): Promise<object> {
    const query = new URLSearchParams({ q: step.question });
    const response = await this.legateFetch(`/agents/researcher/default/lookup?${query.toString()}`, { signal });
    if (!response.ok) return { ...step, refused: await response.json<object>(), status: response.status };
    const { findings, chain } = await response.json<Answer>();
    return {
      ...step,
      findings,
      chain: { planner: this.caller.actors, ...chain } satisfies Record<string, readonly ActorLink[]>,
    };
  }

  #stop(): Response {
    const stopped = this.#running.size;
    for (const chat of this.#running) chat.abort();
    return Response.json({ stopped }, { headers: { "legate-cost": "0" } });
  }

  #history(): Response {
    const rows = this
      .sql<HistoryRow>`SELECT at, session, goal, steps, state FROM chats ORDER BY at DESC LIMIT ${HISTORY_ROWS}`;
    return Response.json({ chats: rows }, { headers: { "legate-cost": "0" } });
  }
}

function event(name: string, data: object): Uint8Array {
  return new TextEncoder().encode(`event: ${name}\ndata: ${JSON.stringify(data)}\n\n`);
}

async function readGoal(request: Request): Promise<string | null> {
  try {
    const { goal } = (await request.json()) as { readonly goal?: unknown };
    const text = typeof goal === "string" ? goal.trim() : "";
    return text === "" || text.length > GOAL_LENGTH_MAX ? null : text;
  } catch {
    return null;
  }
}
