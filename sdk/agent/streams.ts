/**
 * The streams of one protected object: answers that are written as they come. Each is registered with the authority like
 * a socket, before its first byte leaves, and cut when the authority says so: the agent's side is cancelled, the client's
 * is told in a last event where it reads events, and ended. They live in memory alone, as the streams themselves do.
 */
import { denialToWire, type Denial } from "../../core/denial.ts";
import type { ConnectionId } from "../../core/ids.ts";
import { err, ok, type Result } from "../../core/result.ts";
import { controlFrame } from "../../core/wire/frames.ts";
import type { AuthorityServiceRpc } from "../../core/wire/agents.ts";
import type { Opened } from "./envelope.ts";
import { SILENCE, within, ANSWER_WITHIN_MS } from "./within.ts";

/** A client that does not read keeps nobody waiting longer. */
const LAST_WORD_MS = 250;
const STREAM_TYPES = ["text/event-stream", "application/x-ndjson", "application/jsonl", "application/json-seq"];

interface Open {
  readonly reader: ReadableStreamDefaultReader<Uint8Array>;
  readonly writer: WritableStreamDefaultWriter<Uint8Array>;
  readonly isEvents: boolean;
  cutWith: { readonly code: number; readonly reason: string } | null;
}

export interface StreamHost {
  readonly ctx: DurableObjectState;
  readonly authority: Pick<AuthorityServiceRpc, "register" | "disconnect">;
}

/** Whether an answer is written as it comes; one that the client asked for as events counts as such. */
export function isStream(request: Request, response: Response): boolean {
  if (response.body === null || response.webSocket !== null) return false;
  const type = response.headers.get("content-type")?.split(";", 1)[0]?.trim().toLowerCase() ?? "";
  return STREAM_TYPES.includes(type) || (request.headers.get("accept") ?? "").includes("text/event-stream");
}

export class Streams {
  readonly #host: StreamHost;
  readonly #open = new Map<string, Open>();
  /** Cut while their registration was on its way. */
  readonly #registering = new Map<string, { isCut: boolean }>();

  constructor(host: StreamHost) {
    this.#host = host;
  }

  /** @returns the answer, led through a place where it can be cut; or why it must not be served */
  async serve(response: Response, { envelope }: Opened): Promise<Result<Response, Denial>> {
    const { body } = response;
    if (body === null) return ok(response);
    const id = crypto.randomUUID() as string as ConnectionId;
    const registering = { isCut: false };
    this.#registering.set(id, registering);
    const question = {
      identity: envelope,
      connection: id,
      object: this.#host.ctx.id.name ?? "",
      kind: "stream" as const,
    };
    const answer = await within(ANSWER_WITHIN_MS, () => this.#host.authority.register(question));
    this.#registering.delete(id);
    const denial = answer === SILENCE ? { reason: "authority_unavailable" as const } : answer.ok ? null : answer.denial;
    if (denial !== null || registering.isCut || answer === SILENCE || !answer.ok) {
      await body.cancel(denial === null ? "ended" : denialToWire(denial).code).catch(() => undefined);
      return err(denial ?? { reason: "credentials_missing" });
    }
    const { readable, writable } = new IdentityTransformStream();
    const isEvents = response.headers.get("content-type")?.startsWith("text/event-stream") ?? false;
    const open: Open = { reader: body.getReader(), writer: writable.getWriter(), isEvents, cutWith: null };
    this.#open.set(id, open);
    this.#host.ctx.waitUntil(this.#pump(id, open, answer.value.handle));
    return ok(new Response(readable, response));
  }

  /** @returns how many of them were open here */
  close(connections: readonly ConnectionId[], code: number, reason: string): number {
    let closed = 0;
    for (const id of connections) {
      const registering = this.#registering.get(id);
      if (registering !== undefined) registering.isCut = true;
      const open = this.#open.get(id);
      if (open === undefined || open.cutWith !== null) continue;
      open.cutWith = { code, reason };
      void open.reader.cancel(reason).catch(() => undefined);
      // Nothing that the agent has written since may wait in front of the end.
      setTimeout(() => void open.writer.abort(reason).catch(() => undefined), LAST_WORD_MS);
      closed++;
    }
    return closed;
  }

  open(connections: readonly ConnectionId[]): ConnectionId[] {
    return connections.filter((id) => this.#open.has(id) || this.#registering.has(id));
  }

  async #pump(id: string, open: Open, handle: string): Promise<void> {
    const { reader, writer } = open;
    try {
      for (;;) {
        const { done, value } = await reader.read();
        if (done || open.cutWith !== null) break;
        await writer.write(value);
      }
      if (open.cutWith !== null && open.isEvents) await writer.write(lastEvent(open.cutWith));
      await writer.close();
    } catch (error) {
      // The agent failed, or the client has left: each end learns of the other's.
      await Promise.allSettled([reader.cancel(error), writer.abort(error)]);
    } finally {
      this.#open.delete(id);
    }
    if (open.cutWith === null)
      await within(ANSWER_WITHIN_MS, () => this.#host.authority.disconnect({ handle, code: 1000 }));
  }
}

/** Begins with an empty line, for the agent may have been in the middle of an event. */
function lastEvent({ code, reason }: { readonly code: number; readonly reason: string }): Uint8Array {
  const frame = controlFrame({ type: "legate.terminated", reason, decision: String(code) });
  return new TextEncoder().encode(`\n\nevent: legate.terminated\ndata: ${frame}\n\n`);
}
