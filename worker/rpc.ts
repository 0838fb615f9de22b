/**
 * `Authority`: what agents' Workers ask over their service binding (DESIGN.md §5, RPC). Which Worker asks comes from the
 * binding's `props` and from nothing it sends; what it says about a call is believed only from an envelope that its own
 * key signed, or a handle that this file sealed. Nothing is thrown across.
 */
import { WorkerEntrypoint } from "cloudflare:workers";
import type { AgentEntry } from "../core/config.ts";
import type { Denial } from "../core/denial.ts";
import { explainCode } from "../core/explain.ts";
import { isMicros, type ConnectionId, type EpochMs, type Micros, type Slug, type UserId } from "../core/ids.ts";
import { err, ok, type Result } from "../core/result.ts";
import { decodeObject, encodeObject } from "../core/token/format.ts";
import { openIdentity, type Identity } from "../core/wire/identity.ts";
import type { AuthorityServiceRpc } from "../core/wire/agents.ts";
import type { Settled } from "../core/wire/answers.ts";
import type { CredentialServiceRpc, CredentialView } from "../core/wire/credentials.ts";
import { delegable, mintDelegation } from "./delegation.ts";
import { edgeOf, type Edge } from "./env.ts";
import { verifyRemembered } from "./inbound.ts";
import { objectName } from "./place.ts";
import { denied } from "./respond.ts";
import { serve } from "./serve.ts";
import { agentTarget, openTicket } from "./tickets.ts";

/** Who calls: set by the operator in the agents' Worker's configuration. */
export interface AuthorityProps {
  readonly worker: string;
}

/** What `register` proved about a socket, kept by the agent in its attachment and handed back with each message. */
interface Handle {
  readonly connection: ConnectionId;
  readonly user: UserId;
  readonly node: Identity["node"];
  readonly slug: Slug;
  readonly instance: string;
  readonly worker: string;
  readonly end: EpochMs;
}

const NOWHERE = { shape: "legate", resourceMetadata: null } as const;
const INVALID: Result<never, Denial> = err({ reason: "token_invalid", fault: "grammar" });
const FAILED: Result<never, Denial> = err({ reason: "internal" });

/** The longest that an agent's side may choose: part of a socket's tag, and of a row. */
const CONNECTION_PATTERN = /^[A-Za-z0-9_-]{8,64}$/;

type Answers = { readonly [M in keyof AuthorityServiceRpc]: Awaited<ReturnType<AuthorityServiceRpc[M]>> };

export class Authority
  extends WorkerEntrypoint<Env, AuthorityProps>
  implements AuthorityServiceRpc, CredentialServiceRpc
{
  /** DESIGN.md's `connect`: that name is taken on every stub (`Fetcher.connect`). */
  register(question: Parameters<AuthorityServiceRpc["register"]>[0]): Promise<Answers["register"]> {
    return this.#guarded((edge, worker) => register(edge, worker, question));
  }

  disconnect(question: Parameters<AuthorityServiceRpc["disconnect"]>[0]): Promise<Answers["disconnect"]> {
    return this.#guarded(async (edge, worker) => {
      const handle = await openHandle(edge, worker, question.handle);
      if (handle === null) return INVALID;
      const code = Number.isInteger(question.code) ? question.code : 1005;
      return edge.ask(handle.user, (authority) =>
        authority.disconnect({ connection: handle.connection, worker, code }),
      );
    });
  }

  renew(question: Parameters<AuthorityServiceRpc["renew"]>[0]): Promise<Answers["renew"]> {
    return this.#guarded((edge, worker) => renew(edge, worker, question));
  }

  admit(question: Parameters<AuthorityServiceRpc["admit"]>[0]): Promise<Answers["admit"]> {
    return this.#guarded((edge, worker) => admit(edge, worker, question));
  }

  settle(question: Parameters<AuthorityServiceRpc["settle"]>[0]): Promise<Answers["settle"]> {
    return this.#guarded((edge, worker) => settle(edge, worker, question));
  }

  /**
   * Calls that an agent makes on behalf of its caller, with the delegation it was given: the same gate, by the shorter
   * way. Its address would be whatever it writes, so it has none.
   */
  override async fetch(sent: Request): Promise<Response> {
    try {
      if (!/^\/(?:agents|federation)\//.test(new URL(sent.url).pathname))
        return denied({ reason: "not_found" }, NOWHERE);
      const headers = new Headers(sent.headers);
      for (const name of ["cf-connecting-ip", "cookie"]) headers.delete(name);
      return await serve(new Request(sent, { headers }), await edgeOf(this.env), this.ctx);
    } catch {
      return denied({ reason: "internal" }, NOWHERE);
    }
  }

  charge(question: Parameters<AuthorityServiceRpc["charge"]>[0]): Promise<Answers["charge"]> {
    return this.#guarded((edge, worker) => charge(edge, worker, question));
  }

  /** A credential of a cloud for the node of that token; the Worker that asks is the one that was given it. */
  credentials({ alias, token, provider }: Parameters<CredentialServiceRpc["credentials"]>[0]) {
    return this.#guarded<CredentialView>(async (edge) => {
      if (typeof alias !== "string" || typeof token !== "string") return INVALID;
      const verified = await verifyRemembered(token, edge.sessionKey, edge.now());
      if (!verified.ok) return verified;
      const { obtain } = await import("./federation/credentials.ts");
      const obtained = await obtain(edge, verified.value, provider ?? "aws", alias);
      return obtained.ok ? ok(obtained.value.view) : obtained;
    });
  }

  async explain(code: string): Promise<string | null> {
    return typeof code === "string" ? explainCode(code) : null;
  }

  async #guarded<T>(answer: (edge: Edge, worker: string) => Promise<Result<T, Denial>>): Promise<Result<T, Denial>> {
    try {
      const worker: unknown = this.ctx.props.worker;
      return typeof worker === "string" ? await answer(await edgeOf(this.env), worker) : FAILED;
    } catch {
      return FAILED; // an argument of a wrong type, or ours: an agents' Worker learns nothing from it
    }
  }
}

async function register(
  edge: Edge,
  worker: string,
  question: Parameters<AuthorityServiceRpc["register"]>[0],
): Promise<Answers["register"]> {
  const identity = await identityOf(edge, worker, question.identity, edge.now());
  const entry = identity === null ? null : entryOf(edge, identity.slug, worker);
  if (identity === null || entry === null) return INVALID;
  const { connection, kind = "socket" } = question;
  if (typeof connection !== "string" || !CONNECTION_PATTERN.test(connection)) return INVALID;
  const { subject: user, node, slug, instance } = identity;
  // The object that a stop will ask to close its sockets is the one that was called, whatever it says it is called.
  const object = objectName({ entry, instance }, user);
  const connected = await edge.ask(user, (authority) =>
    authority.register({
      connection,
      identity,
      agents: delegable(entry, identity.agents),
      object,
      kind: kind === "stream" ? "stream" : "socket",
    }),
  );
  if (!connected.ok) return connected;
  const { expires: end, messageBytes } = connected.value;
  const handle = await sealHandle(edge, { connection, user, node, slug, instance, worker, end });
  return ok({ handle, expires: end, messageBytes });
}

/** The socket goes on under a newer token, of which the edge has seen a ticket and the agent's Worker nothing. */
async function renew(
  edge: Edge,
  worker: string,
  { handle: text, ticket: ticketText }: Parameters<AuthorityServiceRpc["renew"]>[0],
): Promise<Answers["renew"]> {
  const handle = await openHandle(edge, worker, text);
  if (handle === null) return INVALID;
  const ticket = await openTicket(edge, ticketText);
  if (ticket === null || ticket.user !== handle.user) return err({ reason: "ticket_invalid" });
  const { connection, slug, instance } = handle;
  const target = agentTarget(slug, instance);
  const renewed = await edge.ask(handle.user, (authority) =>
    authority.renewConnection({ connection, worker, digest: ticket.digest, target }),
  );
  if (!renewed.ok) return renewed;
  const { expires: end, messageBytes } = renewed.value;
  return ok({ handle: await sealHandle(edge, { ...handle, end }), expires: end, messageBytes });
}

async function admit(
  edge: Edge,
  worker: string,
  { handle: text, cost, delegation }: Parameters<AuthorityServiceRpc["admit"]>[0],
): Promise<Answers["admit"]> {
  const handle = await openHandle(edge, worker, text);
  if (handle === null) return INVALID;
  const entry = entryOf(edge, handle.slug, worker);
  if (entry === null || !entry.enabled)
    return err({ reason: "agent_unavailable", slug: handle.slug, cause: entry === null ? "unbound" : "disabled" });
  const refused = checkCost(cost, entry.cost.most);
  if (refused !== null) return refused;
  const { connection } = handle;
  const admission = await edge.ask(handle.user, (authority) => authority.admitMessage({ connection, worker, cost }));
  if (!admission.ok) return admission;
  const { remaining, expires, chain } = admission.value;
  return ok({
    remaining,
    expires,
    delegation: delegation ? await mintDelegation(edge, entry, chain, edge.now()) : null,
  });
}

async function settle(
  edge: Edge,
  worker: string,
  { identity: text, cost, failed }: Parameters<AuthorityServiceRpc["settle"]>[0],
): Promise<Result<Settled, Denial>> {
  // Settling takes an envelope for as long as its hold is open, past the end that serving has (DESIGN.md §2).
  const identity = await identityOf(edge, worker, text, 0 as EpochMs);
  if (identity === null) return INVALID;
  const { hold, callId, subject, held, slug } = identity;
  if (hold === null) return err({ reason: "hold_mismatch", fault: "unknown" });
  const refused = checkCost(cost, held);
  if (refused !== null) {
    edge.event("cost_refused", [slug, callId, "settle"]);
    return refused;
  }
  return edge.ask(subject, (authority) => authority.settle({ hold, callId, cost, failed }));
}

/** In the middle of a call that has a hold of its own (strict ones, streams), or of a socket; past its end like `settle`. */
async function charge(
  edge: Edge,
  worker: string,
  question: Parameters<AuthorityServiceRpc["charge"]>[0],
): Promise<Answers["charge"]> {
  const { id, micros } = question;
  if (typeof id !== "string" || !CONNECTION_PATTERN.test(id)) return INVALID;
  if ("handle" in question) {
    const handle = await openHandle(edge, worker, question.handle, 0 as EpochMs);
    if (handle === null) return INVALID;
    const { connection, user, slug } = handle;
    if (!isMicros(micros)) return noCost(edge, slug, connection);
    return edge.ask(user, (authority) => authority.chargeSocket({ connection, worker, id, micros }));
  }
  const identity = await identityOf(edge, worker, question.identity, 0 as EpochMs);
  if (identity === null) return INVALID;
  const { hold, callId, subject, slug } = identity;
  if (hold === null) return err({ reason: "hold_mismatch", fault: "unknown" });
  if (!isMicros(micros)) return noCost(edge, slug, callId);
  return edge.ask(subject, (authority) => authority.charge({ hold, callId, id, micros }));
}

function noCost(edge: Edge, slug: Slug, call: string): Result<never, Denial> {
  edge.event("cost_refused", [slug, call, "charge"]);
  return err({ reason: "hold_mismatch", fault: "cost" });
}

function checkCost(cost: Micros, most: Micros): Result<never, Denial> | null {
  if (!isMicros(cost)) return err({ reason: "hold_mismatch", fault: "cost" });
  return cost > most ? err({ reason: "hold_mismatch", fault: "too_much" }) : null;
}

/** The envelope, if the asking Worker's own key signed it. */
async function identityOf(edge: Edge, worker: string, text: unknown, now: EpochMs): Promise<Identity | null> {
  const keys = edge.identityKeys.get(worker);
  const identity = keys === undefined || typeof text !== "string" ? null : await openIdentity(text, keys, now);
  return identity?.worker === worker ? identity : null;
}

/** An entry counts only for the Worker that runs it. */
function entryOf(edge: Edge, slug: string, worker: string): AgentEntry | null {
  const entry = edge.config.agents.get(slug);
  return entry?.worker === worker ? entry : null;
}

async function sealHandle(edge: Edge, handle: Handle): Promise<string> {
  const payload = encodeObject(handle);
  return `${payload}.${await edge.connectionKey.seal(payload)}`;
}

/** @returns the handle, or null unless this deployment sealed it for that Worker and it has not ended */
async function openHandle(edge: Edge, worker: string, text: unknown, now = edge.now()): Promise<Handle | null> {
  const [payload, seal, ...rest] = typeof text === "string" ? text.split(".") : [];
  if (payload === undefined || seal === undefined || rest.length > 0) return null;
  if (!(await edge.connectionKey.isSeal(seal, payload))) return null;
  const handle = decodeObject(payload)?.value as unknown as Handle | undefined;
  return handle !== undefined && handle.worker === worker && handle.end > now ? handle : null;
}
