/**
 * The contract between Legate and the Workers of protected agents: what an agents' Worker asks over its service binding, and
 * what the authority asks of an agent's object. Who asks comes from the binding, never from an argument.
 */
import type { Denial } from "../denial.ts";
import type { ConnectionId, EpochMs, Micros } from "../ids.ts";
import type { Result } from "../result.ts";
import type { Charged, Settled } from "./answers.ts";
import type { ConnectionKind } from "./questions.ts";

export interface CloseOrder {
  readonly connections: readonly ConnectionId[];
  readonly code: number;
  readonly reason: string;
  /** Sent before the close, to whoever reads frames. */
  readonly frame?: string;
}

/** What the mixin offers to the authority: an agent's object closes the sockets it is told of. */
export interface AgentSocketsRpc {
  /** @returns how many of them were still open here */
  legateClose(order: CloseOrder): Promise<number>;
  /** Sends each its frame; one that is not open here is left out. */
  legateTell(frames: readonly { readonly connection: ConnectionId; readonly frame: string }[]): Promise<void>;
  /** @returns those of them that are open here */
  legateOpen(connections: readonly ConnectionId[]): Promise<readonly ConnectionId[]>;
}

/** What an agent's object keeps of a connection that was registered. */
export interface RegisteredConnection {
  readonly handle: string;
  readonly expires: EpochMs;
  /** Absent from an authority that knows no bound: the mixin's own holds. */
  readonly messageBytes?: number;
}

/** Whose cost is added to: the call of an envelope, or the socket of a handle. */
export type ChargeProof = { readonly identity: string } | { readonly handle: string };

/** What an agents' Worker asks over its service binding; who asks comes from the binding's `props`. */
export interface AuthorityServiceRpc {
  /** DESIGN.md's `connect`, under a name that a stub does not have already: see `AuthorityRpc.register`. */
  register(question: {
    identity: string;
    connection: ConnectionId;
    object: string;
    /** A socket unless said. */
    kind?: ConnectionKind;
  }): Promise<Result<RegisteredConnection, Denial>>;
  disconnect(question: { handle: string; code: number }): Promise<Result<null, Denial>>;
  /** Extends a socket by a ticket that its client has bought with a newer token. */
  renew(question: { handle: string; ticket: string }): Promise<Result<RegisteredConnection, Denial>>;
  /** Admits one message; `delegation` asks for a fresh token for the agent's own calls. */
  admit(question: {
    handle: string;
    cost: Micros;
    delegation: boolean;
  }): Promise<
    Result<{ readonly remaining: Micros | null; readonly expires: EpochMs; readonly delegation: string | null }, Denial>
  >;
  settle(question: { identity: string; cost: Micros; failed: boolean }): Promise<Result<Settled, Denial>>;
  /** Charges an open call that has a hold of its own, or an open socket; `id` makes a repeated charge one. */
  charge(question: ChargeProof & { readonly id: string; readonly micros: Micros }): Promise<Result<Charged, Denial>>;
  /** Says in words what a code means and what to do; for agents' developers. */
  explain(code: string): Promise<string | null>;
}
