/**
 * SessionAuthority: one per user, named by the user's id. A shell: it makes the capabilities and hands each question to
 * the one that answers it. Its public methods are those of `AuthorityRpc`; results are values, and nothing is thrown to
 * the asker on purpose. Reached by RPC, or by requests that the edge built itself, never through a URL router.
 */
import { createHmac, randomBytes } from "node:crypto";
import { migrate } from "drizzle-orm/durable-sqlite/migrator";
import { Server, type Connection, type ConnectionContext } from "partyserver";
import { decodeBase64url } from "../core/base64url.ts";
import type { SliceReport } from "../core/budget/lease.ts";
import type { Tier } from "../core/config.ts";
import type { Denial } from "../core/denial.ts";
import type { AgentId, EpochSeconds, Micros, NodePath, UserId } from "../core/ids.ts";
import { err, ok } from "../core/result.ts";
import { CLOSE } from "../core/wire/frames.ts";
import { CHANNEL_HEADER } from "../core/wire/http.ts";
import type { VerifiedToken } from "../core/token/verify.ts";
import type { CredentialQuestion, OpenForeign } from "../core/wire/credentials.ts";
import type { HoldEnd, HoldQuestion, HoldsRpc } from "../core/wire/holds.ts";
import type { AgentSocketsRpc } from "../core/wire/agents.ts";
import type * as questions from "../core/wire/questions.ts";
import type * as rpc from "../core/wire/rpc.ts";
import migrations from "../drizzle/authority/migrations/migrations.js";
import { config } from "../legate.config.ts";
import { Agents } from "./authority/agents.ts";
import { Alarms } from "./authority/alarms.ts";
import { Audit } from "./authority/audit.ts";
import { Ballast } from "./authority/ballast.ts";
import { BudgetBook } from "./authority/budget-book.ts";
import { Calls } from "./authority/calls.ts";
import { Caps } from "./authority/caps.ts";
import { Channels } from "./authority/channels.ts";
import { Charging } from "./authority/charging.ts";
import { Closing } from "./authority/closing.ts";
import { Connections } from "./authority/connections.ts";
import { Context } from "./authority/context.ts";
import { Credentials } from "./authority/credentials.ts";
import { ForeignSessions } from "./authority/foreign.ts";
import { Delivery } from "./authority/delivery.ts";
import { Holds } from "./authority/holds.ts";
import { Leases } from "./authority/leases.ts";
import { Lines } from "./authority/line.ts";
import { Locks } from "./authority/locks.ts";
import { People } from "./authority/people.ts";
import { Rates } from "./authority/rates.ts";
import { Refusals } from "./authority/refusals.ts";
import { Sessions } from "./authority/sessions.ts";
import { StopReports } from "./authority/stop-report.ts";
import { Stopping } from "./authority/stopping.ts";
import { Tallies } from "./authority/tallies.ts";
import { Tickets } from "./authority/tickets.ts";
import { Views } from "./authority/views.ts";

const CHANNEL_TAG = "channel";
const NOT_FOUND: Denial = { reason: "not_found" };

export class SessionAuthority extends Server<Env> implements rpc.AuthorityRpc {
  static override options = { hibernate: true };

  readonly #context: Context;
  readonly #people: People;
  readonly #agents: Agents;
  readonly #sessions: Sessions;
  readonly #calls: Calls;
  readonly #charging: Charging;
  readonly #holds: Holds;
  readonly #leases: Leases;
  readonly #caps: Caps;
  readonly #connections: Connections;
  readonly #stopping: Stopping;
  readonly #tickets: Tickets;
  readonly #locks: Locks;
  readonly #channels: Channels;
  readonly #ballast: Ballast;
  readonly #views: Views;
  readonly #alarms: Alarms;
  readonly #credentials: Credentials;
  readonly #foreign: ForeignSessions;

  constructor(ctx: DurableObjectState, env: Env) {
    super(ctx, env);
    const context = new Context({
      user: ctx.id.name as UserId,
      storage: ctx.storage,
      config,
      issuer: env.LEGATE_ISSUER,
      random: (length) => randomBytes(length),
      idMac: (text) =>
        createHmac("sha256", decodeBase64url(env.LEGATE_ID_KEY) ?? "")
          .update(text)
          .digest(),
    });
    const bindings = env as unknown as Record<string, DurableObjectNamespace | undefined>;
    const alarms = new Alarms(context, ctx.storage);
    const audit = new Audit(context, alarms);
    const book = new BudgetBook(context);
    const people = new People(context, audit);
    const rates = new Rates(context);
    const lines = new Lines({ context, people, alarms, book, rates });
    const agents = new Agents({
      context,
      people,
      lines,
      audit,
      alarms,
      peer: (user) => env.AUTHORITY.getByName(user),
    });
    const tallies = new Tallies(context, audit, alarms);
    const charging = new Charging(context, book, rates);
    const leases = new Leases({ context, book, charging, rates, tallies, audit, alarms });
    const refusals = new Refusals(context, audit, alarms);
    const holds = new Holds({ context, lines, book, charging, rates, tallies, audit, refusals, alarms });
    const calls = new Calls({ context, lines, book, charging, rates, leases, holds, audit });
    const agent = (slug: string, object: string): AgentSocketsRpc | null => {
      const binding = config.agents.get(slug)?.binding;
      const namespace = binding === undefined ? undefined : bindings[binding];
      return (namespace?.getByName(object) ?? null) as unknown as AgentSocketsRpc | null;
    };
    const tickets = new Tickets(context, lines);
    const connections = new Connections({ context, lines, calls, book, audit, alarms, tickets, refusals });
    void new Closing({ context, connections, alarms, agent });
    const ballast = new Ballast(context, alarms);
    const reports = new StopReports(context, connections, leases);
    const stopping = new Stopping({
      context,
      people,
      agents,
      lines,
      leases,
      tallies,
      connections,
      book,
      audit,
      alarms,
      ballast,
      reports,
    });
    const channels = new Channels({
      context,
      lines,
      charging,
      alarms,
      open: () => this.getConnections(CHANNEL_TAG),
    });
    stopping.onStop((path, why, decision) => channels.stopped(path, why, decision));
    void ctx.blockConcurrencyWhile(async () => {
      await migrate(context.db, migrations);
      leases.wake();
      stopping.wake();
      await alarms.wake();
    });
    this.#context = context;
    this.#people = people;
    this.#agents = agents;
    this.#alarms = alarms;
    this.#calls = calls;
    this.#charging = charging;
    this.#holds = holds;
    this.#leases = leases;
    this.#connections = connections;
    this.#stopping = stopping;
    this.#tickets = tickets;
    this.#locks = new Locks({ context, agents, stopping, audit });
    this.#channels = channels;
    this.#ballast = ballast;
    this.#sessions = new Sessions({ context, people, agents, lines, book, charging, rates, audit, alarms });
    this.#views = new Views({ context, lines, connections, stopping, book });
    this.#caps = new Caps({ context, people, lines, book, stopping, views: this.#views, charging, rates, audit });
    this.#foreign = new ForeignSessions(context, this.#sessions);
    const optional = env as Env & { readonly LEGATE_SECRET_ALSO?: string; readonly LEGATE_OIDC_KEYS?: string };
    const secrets = [env.LEGATE_SECRET, optional.LEGATE_SECRET_ALSO];
    const oidcKeys = optional.LEGATE_OIDC_KEYS;
    const keepAlive = (work: Promise<unknown>) => ctx.waitUntil(work);
    this.#credentials = new Credentials({ context, lines, audit, alarms, oidcKeys, secrets, keepAlive });
    stopping.addPlane(this.#credentials);
    const delivery = new Delivery(context, env.DB);
    alarms.define("deliver", { where: "outside", run: () => delivery.run(alarms) });
    alarms.define("holds", { where: "local", run: () => holds.expireHolds() });
    alarms.define("refusals", { where: "local", run: () => refusals.tell() });
    alarms.define("slices", { where: "local", run: () => leases.giveUpLost() });
    alarms.define("expiry", { where: "local", run: () => stopping.expire() });
    alarms.define("tallies", {
      where: "local",
      run: () => context.commit(() => tallies.report(null, context.now())),
    });
    alarms.define("sweep", { where: "local", run: () => lines.sweep() });
    alarms.define("fold", { where: "local", run: (session) => stopping.fold(session) });
  }

  override onAlarm(): Promise<void> {
    return this.#alarms.onAlarm();
  }

  /** Whoever listens on a control channel is told what is left. */
  #moved<T>(answer: T): T {
    this.#channels.moved();
    return answer;
  }

  override getConnectionTags(): string[] {
    return [CHANNEL_TAG];
  }
  /** A control channel; the edge alone makes such a request, and has checked whose it is. */
  override onConnect(connection: Connection, { request }: ConnectionContext): void {
    const order = JSON.parse(request.headers.get(CHANNEL_HEADER) ?? "null") as questions.ChannelOrder | null;
    if (order === null) return connection.close(CLOSE.policy, "not_a_channel");
    this.#channels.welcome(connection, order);
  }
  override onMessage(connection: Connection): void {
    connection.close(CLOSE.policy, "a_channel_only_tells");
  }

  credentials(question: CredentialQuestion) {
    return this.#credentials.get(question);
  }
  async openForeign(question: OpenForeign) {
    return this.#foreign.open(question);
  }
  async enrol(person: questions.Enrolment) {
    return this.#people.enrol(person);
  }
  async person() {
    return this.#people.person();
  }
  async setTier(tier: Tier, by: questions.By) {
    return this.#people.setTier(tier, by);
  }
  async registerAgent(agent: questions.NewAgent) {
    return this.#agents.register(agent);
  }
  async agents() {
    return this.#agents.list();
  }
  async agent(id: AgentId) {
    return this.#agents.agent(id);
  }
  async setAgentCap(question: questions.AgentCap) {
    return this.#agents.setCap(question);
  }
  async removeAgent(id: AgentId, by: questions.By) {
    const stopped = await this.#stopping.stopAgent(id, by, true);
    return stopped.ok ? ok(null) : stopped;
  }
  stopAgent(id: AgentId, by: questions.By) {
    return this.#stopping.stopAgent(id, by, false);
  }
  agentStopped({ agent, stopCount, why, by }: Parameters<rpc.AuthorityRpc["agentStopped"]>[0]) {
    return this.#stopping.agentStopped(agent, stopCount, why, by);
  }
  authenticate(question: questions.Authenticate) {
    return this.#agents.authenticate(question);
  }
  async open(question: questions.OpenSession) {
    const opened = this.#sessions.open(question);
    if (opened.ok) this.#ballast.refill(); // an object with something to stop keeps room for it
    return opened;
  }
  async delegate(question: questions.Delegate) {
    return this.#sessions.delegate(question);
  }
  async renew(question: questions.Renew) {
    return this.#sessions.renew(question);
  }
  async check(token: VerifiedToken) {
    const live = this.#calls.leash(token);
    return live.ok ? this.#people.person() : live;
  }
  async leash(token: VerifiedToken) {
    const leash = this.#calls.leash(token);
    if (!leash.ok) return leash;
    const { live, budget, rate } = leash.value;
    const sessionExpires = live.session.expiresSeconds as EpochSeconds;
    return ok({ tier: live.person.tier, budget, rate, session: token.session, sessionExpires });
  }
  async introspect(token: VerifiedToken, audience: string) {
    return this.#sessions.introspect(token, audience, (path, live, now) => this.#charging.budgetOf(path, live, now));
  }
  async admit(question: questions.AdmitQuestion) {
    return this.#moved(this.#calls.admit(question));
  }
  async settle(question: questions.SettleQuestion) {
    return this.#moved(this.#holds.settle(question));
  }
  async void(question: Parameters<rpc.AuthorityRpc["void"]>[0]): ReturnType<rpc.AuthorityRpc["void"]> {
    return this.#holds.void(question);
  }
  async hold(question: HoldQuestion) {
    return this.#holds.holdFor(question);
  }
  async settleHold({ cost, ...end }: Parameters<HoldsRpc["settleHold"]>[0]) {
    return this.#holds.endFor(end, "settled", cost);
  }
  async voidHold(end: HoldEnd) {
    return this.#holds.endFor(end, "voided", 0 as Micros);
  }
  async charge(question: questions.ChargeQuestion) {
    return this.#moved(this.#holds.charge(question));
  }
  async chargeSocket(question: questions.SocketChargeQuestion) {
    return this.#moved(this.#connections.charge(question));
  }
  async report(reports: readonly SliceReport[]) {
    this.#leases.report(reports);
    return this.#moved(ok(null));
  }
  async register(question: questions.ConnectQuestion) {
    return this.#connections.register(question);
  }
  async admitMessage(question: questions.MessageQuestion) {
    return this.#moved(this.#connections.admitMessage(question));
  }
  async renewConnection(question: questions.RenewConnection) {
    return this.#connections.renew(question);
  }
  async ticket(question: questions.TicketQuestion) {
    return this.#tickets.buy(question);
  }
  async redeemTicket(use: questions.TicketUse) {
    return this.#tickets.redeem(use);
  }
  async disconnect(question: Parameters<rpc.AuthorityRpc["disconnect"]>[0]) {
    return this.#connections.disconnect(question);
  }
  async setDayCap(cap: Micros, by: questions.By) {
    return this.#caps.setDay(cap, by);
  }
  async setCap(question: Parameters<rpc.AuthorityRpc["setCap"]>[0]) {
    return this.#moved(this.#caps.set(question));
  }
  revoke(question: questions.EndQuestion) {
    return this.#stopping.end(question);
  }
  terminate(question: questions.EndQuestion) {
    return this.#stopping.end(question);
  }
  stopUser({ by, wait }: { by: questions.By; wait: boolean }) {
    return this.#stopping.stopUser(by, "user_stopped", wait);
  }
  disable({ by, wait }: { by: questions.By; wait: boolean }) {
    return this.#stopping.stopUser(by, "user_disabled", wait);
  }
  async enable({ by }: { by: questions.By }) {
    return this.#people.enable(by);
  }
  async stopReport(path: NodePath) {
    return this.#stopping.reportOf(path);
  }
  lock(order: questions.LockOrder) {
    return this.#locks.lock(order);
  }
  async unlock(order: Omit<questions.LockOrder, "until" | "wait">) {
    return this.#locks.unlock(order);
  }
  async lockReport(target: string) {
    return this.#locks.report(target);
  }
  async list() {
    return this.#people.row() === undefined ? err(NOT_FOUND) : ok(this.#views.list());
  }
  async inspect(path: NodePath, reach: questions.Reach) {
    const reached = this.#context.decide(() => this.#stopping.requireReach(reach, path));
    return reached.ok ? this.#views.inspect(path) : reached;
  }
}
