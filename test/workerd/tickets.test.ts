// Tickets: one use, one place, half a minute; and what a client may do with them on an open socket.
import { evictDurableObject } from "cloudflare:test";
import { env } from "cloudflare:workers";
import { describe, expect, test } from "vitest";
import { edge, enrol, HOST, mint, open, secondsFromNow, send, withCookie } from "../support/workerd/gate.ts";
import { connect, knock, offering, query, RESEARCHER, runDue, ticketFor, until } from "../support/workerd/sockets.ts";

describe("a ticket", () => {
  test("opens the socket it was bought for, and only `legate` is echoed", async () => {
    const { token } = await open();
    const { status, body, ticket } = await ticketFor(token, RESEARCHER);
    expect(status).toBe(201);
    expect(body["protocols"]).toEqual(["legate", ticket]);
    const { answer, client } = await knock(RESEARCHER, offering(ticket));
    expect(answer.status).toBe(101);
    expect(answer.headers.get("sec-websocket-protocol")).toBe("legate");
    client?.send({ question: "What do corals need?" });
    expect(await client?.next()).toHaveProperty("findings");
  });

  test("is used once, however many try at the same moment", async () => {
    const { token } = await open();
    const { ticket } = await ticketFor(token, RESEARCHER);
    const tries = await Promise.all(Array.from({ length: 50 }, () => knock(RESEARCHER, offering(ticket))));
    expect(tries.filter(({ status }) => status === 101)).toHaveLength(1);
    expect(tries.filter(({ status }) => status === 401)).toHaveLength(49);
  });

  test("of another place, too old, invented, or beside a token opens nothing, and teaches nothing", async () => {
    const { token, person } = await open();
    const refused = async (path: string, headers: Record<string, string>) => {
      const { answer } = await knock(path, headers);
      return [answer.status, await answer.text()];
    };
    const elsewhere = await refused("/agents/researcher/other", offering((await ticketFor(token, RESEARCHER)).ticket));
    const { ticket: late } = await ticketFor(token, RESEARCHER);
    await query(person.id, "update tickets set expires_at = ?", Date.now() - 1);
    const old = await refused(RESEARCHER, offering(late));
    const invented = await refused(RESEARCHER, offering(`ticket.${person.id}.${"A".repeat(24)}.${"A".repeat(43)}`));
    expect(elsewhere[0]).toBe(401);
    expect(old).toEqual(elsewhere);
    expect(invented).toEqual(elsewhere);
    const { ticket } = await ticketFor(token, RESEARCHER);
    expect((await refused(RESEARCHER, { ...offering(ticket), authorization: `Bearer ${token}` }))[0]).toBe(401);
    expect((await refused(`${RESEARCHER}?ticket=${ticket}`, {}))[0]).toBe(401);
    expect((await refused(RESEARCHER, { "sec-websocket-protocol": `legate, ${ticket}, ${ticket}` }))[0]).toBe(401);
  });

  test("that a cookie bought holds for its page alone; a foreign page's knock uses nothing up", async () => {
    const { cookie } = await open();
    const own = withCookie(cookie, { origin: HOST }).headers as Record<string, string>;
    const bought = await ticketFor("", RESEARCHER, { headers: { ...own, origin: edge.issuer } });
    expect(bought.status).toBe(201);
    const foreign = await knock(RESEARCHER, { ...offering(bought.ticket), origin: "https://evil.example" });
    expect(foreign.status).toBe(403);
    expect((await knock(RESEARCHER, { ...offering(bought.ticket), origin: edge.issuer })).status).toBe(101);
    const second = await ticketFor("", RESEARCHER, { headers: { ...own, origin: edge.issuer } });
    expect((await knock(RESEARCHER, offering(second.ticket))).status).toBe(403);
  });

  test("is sold for a place of the buyer's, and for no other", async () => {
    const { token, grant } = await open();
    const other = await open();
    for (const target of ["/agents/nobody/default", `/sessions/${other.grant.path}/socket`])
      expect((await ticketFor(token, target)).status, target).toBe(404);
    for (const target of ["/oauth/token", "https://elsewhere.example/agents/researcher/default", ""])
      expect((await ticketFor(token, target)).status, target).toBe(400);
    expect((await ticketFor(token, `/sessions/${grant.path}/socket`)).status).toBe(201);
  });
});

describe("an open socket", () => {
  const scene = async (lifeSeconds: number) => {
    const person = await enrol();
    const opened = await open({ person });
    const first = await mint(opened.grant, { exp: secondsFromNow(lifeSeconds) });
    const client = await connect(RESEARCHER, first);
    const [row] = await query<{ id: string; expires_at: number }>(person.id, "select id, expires_at from connections");
    return { ...opened, person, first, client, connection: String(row?.id), expires: Number(row?.expires_at) };
  };

  test("is told that it expires, and renewed by a ticket bought with a newer token", async () => {
    const { person, client, connection, token, expires } = await scene(30);
    await query(person.id, "update connections set warn_at = ?", Date.now() - 1);
    await runDue(person.id, "expiry");
    await runDue(person.id, "tell");
    expect(await client.next("legate.expiring")).toEqual({ type: "legate.expiring", at: expires, connection });
    const { ticket } = await ticketFor(token, RESEARCHER, { connection });
    client.send({ type: "legate.renew", ticket });
    const { at } = await client.next("legate.renewed");
    expect(at).toBeGreaterThan(expires + 60_000);
    expect(await query(person.id, "select expires_at from connections")).toEqual([{ expires_at: at }]);
    client.send({ question: "What do corals need?" });
    expect(await client.next()).toHaveProperty("findings");
  });

  test("takes no ticket for another connection, nor one that opens sockets, nor the same twice", async () => {
    const { client, connection, token } = await scene(30);
    const tickets = [
      (await ticketFor(token, RESEARCHER)).ticket,
      (await ticketFor(token, RESEARCHER, { connection: "another-connection" })).ticket,
      (await ticketFor(token, "/agents/researcher/other", { connection })).ticket,
      "ticket.nonsense",
    ];
    for (const ticket of tickets) {
      client.send({ type: "legate.renew", ticket });
      expect(await client.next("legate.denied")).toMatchObject({ code: "invalid_ticket" });
    }
    const { ticket } = await ticketFor(token, RESEARCHER, { connection });
    client.send({ type: "legate.renew", ticket });
    await client.next("legate.renewed");
    client.send({ type: "legate.renew", ticket });
    expect(await client.next("legate.denied")).toMatchObject({ code: "invalid_ticket" });
    expect(
      (await knock(RESEARCHER, offering((await ticketFor(token, RESEARCHER, { connection })).ticket))).status,
    ).toBe(401);
  });

  test("that is not renewed ends with its token, idle, with 4401", async () => {
    const { client } = await scene(2);
    const ends = Date.now() + 2_000;
    expect(await client.closed()).toMatchObject({ code: 4401 });
    expect(Date.now()).toBeLessThan(ends + 2_000);
  });

  test.each(["idle", "busy", "asleep"] as const)(
    "that is %s when its token ends: closed with 4401, and no message served after it",
    async (manner) => {
      const person = await enrol();
      const opened = await open({ person });
      const exp = secondsFromNow(4);
      const client = await connect(RESEARCHER, await mint(opened.grant, { exp }));
      const ends = exp * 1_000;
      const sent: number[] = [];
      const ask = () => {
        sent.push(Date.now());
        client.send({ question: `What do corals need? ${sent.length}` });
      };
      ask();
      await client.next("findings");
      if (manner === "asleep")
        await evictDurableObject(env.RESEARCHER.getByName(`${person.id}.default`), { webSockets: "hibernate" });
      // The client of a busy one goes on after its end, as one would that never hears of it.
      const asking = manner === "busy" ? setInterval(() => client.ended === null && ask(), 150) : undefined;
      expect(await client.closed()).toMatchObject({ code: 4401 });
      clearInterval(asking);
      expect(Date.now() - ends).toBeLessThan(2_000);
      const served = client.frames.flatMap(
        (frame) => /"question":"What do corals need\? (\d+)"/.exec(frame)?.[1] ?? [],
      );
      if (manner === "busy") expect(served.length).toBeGreaterThan(3);
      for (const number of served) expect(sent[Number(number) - 1]).toBeLessThan(ends);
      // Nor is it known to the authority any more: whoever has the handle is refused.
      await until(async () => ((await query(person.id, "select id from connections")).length === 0 ? true : null));
    },
  );

  test("that says nothing for too long is closed with 4408", async () => {
    const { client, person } = await scene(600);
    await query(person.id, "update connections set last_at = ?", Date.now() - 3_600_001);
    await runDue(person.id, "expiry");
    await runDue(person.id, "close");
    expect(await client.closed()).toMatchObject({ code: 4408 });
    expect(await query(person.id, "select id from connections")).toEqual([]);
  });

  test("whose close never came loses its row when its object is asked; one that is open keeps it", async () => {
    const { person, connection } = await scene(600);
    await query(person.id, "update connections set opened_at = 0");
    await query(
      person.id,
      `insert into connections select 'gone-without-a-word', path, session, slug, instance, worker, object, tier, actors,
        scope, agents, opened_at, expires_at, closing, messages, cost, last_at, kind, warn_at, charges from connections`,
    );
    await runDue(person.id, "reconcile");
    expect(await query(person.id, "select id from connections")).toEqual([{ id: connection }]);
  });
});

test("a ticket costs a session that has ended one question an isolate", async () => {
  const { token, person, grant } = await open();
  await edge.ask(person.id, (authority) =>
    authority.terminate({
      path: grant.path,
      why: "terminated",
      by: person.by,
      reach: { kind: "operator" },
      wait: false,
      idempotency: null,
    }),
  );
  let asked = 0;
  // Slices of other tests' users may be over by now, and are reported by whoever comes next.
  const count = (user: string): void => void (user === person.id && asked++);
  const counted = { ...edge, ask: ((user, question) => (count(user), edge.ask(user, question))) as typeof edge.ask };
  for (let i = 0; i < 5; i++) {
    const { client, answer } = await knock(RESEARCHER, { authorization: `Bearer ${token}` }, counted);
    expect(answer.status).toBe(101);
    expect(await client?.closed()).toMatchObject({ code: 4403 });
    const bought = await send(counted, "/sessions/ticket", {
      method: "POST",
      headers: { "content-type": "application/json", authorization: `Bearer ${token}` },
      body: JSON.stringify({ target: RESEARCHER }),
    });
    expect(bought.status).toBe(401);
  }
  expect(asked).toBe(1);
});
