// What Legate says on sockets, told apart from what agents say; tickets among subprotocols; and which closes are final.
import { describe, expect, test } from "vitest";
import { controlFrame, readControlFrame, readRenewFrame, ticketIn } from "../../core/wire/frames.ts";
import { onControlFrame, shouldReconnectOnClose, type ControlFrame } from "../../sdk/client.ts";

describe("control frames", () => {
  const frame: ControlFrame = { type: "legate.expiring", at: 1_800_000_000_000, connection: "connection" };

  test("are read as they were written", () => {
    expect(readControlFrame(controlFrame(frame))).toEqual(frame);
  });

  test.each([
    ["an agent's own", '{"type":"answer"}'],
    ["text", "legate.expiring"],
    ["text that looks like one", '"legate.expiring"'],
    ["broken", '{"type":"legate.expiring"'],
    ["an unknown one", '{"type":"legate.unheard"}'],
    ["null", "null"],
    ["bytes", new Uint8Array([123])],
  ])("are not %s", (_, data) => {
    expect(readControlFrame(data)).toBe(null);
  });

  test("reach who listens for them, and nothing else does", () => {
    const listeners: ((event: { readonly data: unknown }) => void)[] = [];
    const socket = {
      addEventListener: (_: "message", listener: (event: { readonly data: unknown }) => void) =>
        void listeners.push(listener),
      send: () => undefined,
    };
    const seen: ControlFrame[] = [];
    onControlFrame(socket, (told) => seen.push(told));
    for (const data of ['{"type":"answer"}', controlFrame(frame)]) for (const listener of listeners) listener({ data });
    expect(seen).toEqual([frame]);
  });
});

test("a renewal has a ticket, and the ticket is text", () => {
  expect(readRenewFrame('{"type":"legate.renew","ticket":"ticket.x"}')).toEqual({
    type: "legate.renew",
    ticket: "ticket.x",
  });
  for (const data of ['{"type":"legate.renew"}', '{"type":"legate.renew","ticket":1}', '{"type":"renew"}'])
    expect(readRenewFrame(data)).toBe(null);
});

test.each([
  [null, null],
  ["legate", null],
  ["legate, ticket.a", "ticket.a"],
  ["ticket.a,legate", "ticket.a"],
  ["legate, ticket.a, ticket.b", undefined],
])("the one ticket in %j is %j", (offered, ticket) => {
  expect(ticketIn(offered)).toBe(ticket);
});

test.each([
  [1000, true],
  [1006, true],
  [1008, false],
  [1012, true],
  [1013, true],
  [3999, true],
  [4000, false],
  [4403, false],
  [4999, false],
])("after %i a client comes back: %j", (code, comesBack) => {
  expect(shouldReconnectOnClose({ code })).toBe(comesBack);
});
