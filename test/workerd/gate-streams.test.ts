// What streams through the gate: events as they are written, bodies that break off, clients that leave, and sockets.
import { createExecutionContext, waitOnExecutionContext } from "cloudflare:test";
import { describe, expect, test } from "vitest";
import { serve } from "../../worker/serve.ts";
import { HOST, UPGRADE, bearer, budgetOf, edge, identityOf, open, send, watched } from "../support/workerd/gate.ts";

describe("streams", () => {
  const encode = (text: string) => new TextEncoder().encode(text);

  test("the first event is out before the last is written, and the cost is settled at the end", async () => {
    const { readable, writable } = new TransformStream<Uint8Array, Uint8Array>();
    const producer = writable.getWriter();
    const headers = { "content-type": "text/event-stream", "legate-cost": "30" };
    const { gate, last } = watched(
      { transport: "sse", cost: { most: 100 } },
      () => new Response(readable, { headers }),
    );
    const given = await open();
    const ctx = createExecutionContext();
    const accept = { accept: "text/event-stream" };
    const answer = await serve(new Request(`${HOST}/agents/seen`, bearer(given.token, accept)), gate, ctx);
    expect(answer.headers.get("content-type")).toBe("text/event-stream");
    expect(await identityOf(last().request)).toMatchObject({ level: "strict" });
    const reader = (answer.body as ReadableStream<Uint8Array>).getReader();
    const first = reader.read();
    await producer.write(encode("data: 1\n\n"));
    expect(new TextDecoder().decode((await first).value)).toBe("data: 1\n\n");
    expect(await budgetOf(given)).toEqual({ settled: 0, held: 100 });
    const second = reader.read();
    await producer.write(encode("data: 2\n\n"));
    expect(new TextDecoder().decode((await second).value)).toBe("data: 2\n\n");
    const finished = reader.read();
    await producer.close();
    expect((await finished).done).toBe(true);
    await waitOnExecutionContext(ctx);
    expect(await budgetOf(given)).toEqual({ settled: 30, held: 0 });
  });

  test("a client that leaves: settled, and the agent's stream is cancelled", async () => {
    let cancelled = false;
    const endless = () =>
      new Response(
        new ReadableStream({
          pull: (controller) => controller.enqueue(encode("data: tick\n\n")),
          cancel: () => void (cancelled = true),
        }),
      );
    const { gate } = watched({ cost: { most: 100 } }, endless);
    const given = await open();
    const ctx = createExecutionContext();
    const answer = await serve(new Request(`${HOST}/agents/seen`, bearer(given.token)), gate, ctx);
    const reader = (answer.body as ReadableStream<Uint8Array>).getReader();
    await reader.read();
    await reader.cancel();
    await waitOnExecutionContext(ctx);
    expect(cancelled).toBe(true);
    expect(await budgetOf(given)).toEqual({ settled: 100, held: 0 });
  });

  test("a stream that breaks off is settled too", async () => {
    const broken = () =>
      new Response(
        new ReadableStream({
          start: (controller) => controller.enqueue(encode("data: 1\n\n")),
          pull: (controller) => controller.error(new Error("gone")),
        }),
        { headers: { "legate-cost": "9" } },
      );
    const { gate } = watched({ cost: { most: 100 } }, broken);
    const given = await open();
    const ctx = createExecutionContext();
    const answer = await serve(new Request(`${HOST}/agents/seen`, bearer(given.token)), gate, ctx);
    await answer.text().catch(() => undefined);
    await waitOnExecutionContext(ctx);
    expect(await budgetOf(given)).toEqual({ settled: 9, held: 0 });
  });
});

describe("sockets", () => {
  const echo = () => {
    const [client, server] = Object.values(new WebSocketPair()) as [WebSocket, WebSocket];
    server.accept();
    server.addEventListener("message", ({ data }) => server.send(`echo ${String(data)}`));
    const headers = { "sec-websocket-protocol": "evil", "set-cookie": "a=b", "legate-receipt": "x" };
    return new Response(null, { status: 101, webSocket: client, headers });
  };

  test("the upgrade goes through; only `legate` is echoed; opening costs nothing", async () => {
    const { gate, last } = watched({ transport: "websocket", cost: { most: 100 } }, echo);
    const given = await open();
    const offered = { ...UPGRADE, "sec-websocket-protocol": "legate, chat" };
    const answer = await send(gate, "/agents/seen", bearer(given.token, offered));
    expect(answer.status).toBe(101);
    expect([...answer.headers]).toEqual([["sec-websocket-protocol", "legate"]]);
    expect(last().request.headers.get("sec-websocket-protocol")).toBeNull();
    expect(last().request.headers.get("upgrade")).toBe("websocket");
    expect(await identityOf(last().request)).toMatchObject({ level: "strict", held: 100 });
    const socket = answer.webSocket as WebSocket;
    const heard = new Promise((resolve) => socket.addEventListener("message", ({ data }) => resolve(data)));
    socket.accept();
    socket.send("hello");
    expect(await heard).toBe("echo hello");
    socket.close();
    expect(await budgetOf(given)).toEqual({ settled: 0, held: 0 });
  });

  test("nothing is echoed that was not offered", async () => {
    const { gate } = watched({ transport: "websocket" }, echo);
    const answer = await send(gate, "/agents/seen", bearer((await open()).token, UPGRADE));
    expect([...answer.headers]).toEqual([]);
    answer.webSocket?.accept();
    answer.webSocket?.close();
  });

  test("a page of ours opens one with a cookie", async () => {
    const { gate } = watched({ transport: "websocket" }, echo);
    const { cookie } = await open();
    const headers = { cookie: `__Host-legate=${cookie}`, origin: edge.issuer, ...UPGRADE };
    const answer = await send(gate, "/agents/seen", { headers });
    expect(answer.status).toBe(101);
    answer.webSocket?.accept();
    answer.webSocket?.close();
  });

  test("an agent that does not upgrade is answered over HTTP", async () => {
    const { gate } = watched({ transport: "websocket" }, () => new Response("no sockets today", { status: 409 }));
    const answer = await send(gate, "/agents/seen", bearer((await open()).token, UPGRADE));
    expect([answer.status, await answer.text()]).toEqual([409, "no sockets today"]);
  });
});
