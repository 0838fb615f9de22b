/**
 * What is asked of a user's SessionAuthority (rpc.ts): each is a value that the edge, or another object, has built from
 * what it verified. Nothing here comes unread from a client. Amounts are micros.
 */
import type { Demand, SliceReport } from "../budget/lease.ts";
import type { Level as CallLevel, Tier } from "../config.ts";
import type { EndReason } from "../denial.ts";
import type { AgentId, CallId, ConnectionId, EpochMs, HoldId, Micros, NodePath, Slug, UserId } from "../ids.ts";
import type { VerifiedToken } from "../token/verify.ts";
import type { Identity } from "./identity.ts";

/** Who did it, for audit rows. An operator's act has a reason. */
export interface By {
  readonly kind: "person" | "agent" | "operator" | "legate";
  /** `usr_…`, `agt_…`, or a service's name. */
  readonly id: string;
  readonly reason: string | null;
}

/** Where a request came from, as the platform told the edge. */
export interface Origin {
  readonly ip: string | null;
  readonly userAgent: string | null;
}

/** A client-chosen key and the digest of the arguments it came with (DESIGN.md §4, Idempotency). */
export interface Idempotency {
  /** Who and which route: a key is theirs alone. */
  readonly scope: string;
  readonly key: string;
  readonly digest: string;
}

/** A person as D1 knows them: what an object that has never been asked before starts from. */
export interface Enrolment {
  readonly username: string;
  readonly tier: Tier;
  readonly createdAt: EpochMs;
}

/** A public key of an agent: what it registered, nothing private. */
export interface AgentKey {
  readonly alg: "ES256" | "EdDSA";
  /** A public JWK with just the members of its kind (RFC 7517 §4, RFC 8037 §2). */
  readonly jwk: Readonly<Record<string, string>>;
}

export interface Authenticate {
  readonly agent: AgentId;
  /** The client assertion (RFC 7523 §2.2), as it was sent. */
  readonly assertion: string;
  /** Accepted values of `aud`: the issuer and its token endpoint. */
  readonly audiences: readonly string[];
  /** The user whose object the client is about to act in; noted, so that a stop reaches it. Null: none. */
  readonly forUser: UserId | null;
}

export interface OpenSession {
  /** `person`: a cookie. `api`: a person opens one for themselves or for an agent of theirs. `agent`: by its own key. */
  readonly kind: "person" | "api" | "agent";
  readonly enrolment: Enrolment | null;
  /** Set when an agent acts: its session counts against its cap. */
  readonly client: { readonly id: AgentId; readonly stopCount: number | null } | null;
  /** Null: all that may be given. */
  readonly scope: readonly string[] | null;
  readonly agents: readonly string[] | null;
  /** A session's cap is the least of what is asked, the agent's and the user's. */
  readonly budget: Micros | null;
  readonly ttlSeconds: number | null;
  readonly origin: Origin;
  /** Set where a person opens it by their cookie: its session lives in the transaction that opens the other, or none opens. */
  readonly cookie: VerifiedToken | null;
  readonly by: By;
  readonly idempotency: Idempotency | null;
}

/** An agent that a person registers. */
export interface NewAgent {
  readonly name: string;
  readonly key: AgentKey;
  /** Null: all that the person's tier may hand on. */
  readonly scope: readonly string[] | null;
  readonly cap: Micros | null;
  /** As in `OpenSession`. */
  readonly cookie: VerifiedToken | null;
  readonly by: By;
  readonly idempotency: Idempotency | null;
}

export interface AgentCap {
  readonly id: AgentId;
  readonly cap: Micros;
  /** As in `OpenSession`; null where an operator sets it. */
  readonly cookie: VerifiedToken | null;
  readonly by: By;
}

/** A grant below a node of the caller's: redeemed by another agent, or narrowed online by the same one. */
export interface Delegate {
  readonly token: VerifiedToken;
  readonly client: { readonly id: AgentId; readonly stopCount: number };
  readonly how: "redeem" | "narrow";
  readonly scope: readonly string[] | null;
  readonly agents: readonly string[] | null;
  readonly budget: Micros | null;
  readonly ttlSeconds: number | null;
  /** Set aside for it out of what the levels above have left; what it does not use flows back at its end. */
  readonly reserve: Micros | null;
  /** Set when the token is for a resource server instead of Legate. */
  readonly audience: string | null;
  readonly by: By;
}

export interface Renew {
  readonly token: VerifiedToken;
  readonly client: { readonly id: AgentId; readonly stopCount: number };
}

export interface AdmitQuestion {
  readonly token: VerifiedToken;
  readonly callId: CallId;
  readonly slug: Slug;
  readonly instance: string;
  /** The least tier of the entry: compared again, with the tier that the object holds. */
  readonly requiredTier: Tier;
  readonly level: CallLevel;
  readonly kind: "http" | "stream" | "socket";
  /** The most that this call may cost. */
  readonly cost: Micros;
  readonly origin: Origin;
  /** When the edge asked, by its clock: the envelope ends `ASK_LIFE_MS` after. */
  readonly askedAt: EpochMs;
  /** Set where the isolate would take a slice (counted calls over HTTP): what it saw of the last one. Null: this call alone. */
  readonly lease: Demand | null;
  /** Slices of this user that are over for the isolate: taken in before anything is decided. */
  readonly reports: readonly SliceReport[];
}

export interface SettleQuestion {
  /** Null for a call that its slice's report left running: found by its id. */
  readonly hold: HoldId | null;
  readonly callId: CallId;
  /** The actual cost; null charges all that was held. */
  readonly cost: Micros | null;
  readonly failed: boolean;
}

export interface ChargeQuestion {
  readonly hold: HoldId;
  readonly callId: CallId;
  /** Drawn by the agent's side for one charge: told again, it is one charge. */
  readonly id: string;
  readonly micros: Micros;
}

/** The same for an open socket: what its messages turn out to cost beyond what they were admitted at. */
export interface SocketChargeQuestion {
  readonly connection: ConnectionId;
  readonly worker: string;
  readonly id: string;
  readonly micros: Micros;
}

export interface ConnectQuestion {
  readonly connection: ConnectionId;
  /** Opened from an envelope that the asking Worker's key signed. */
  readonly identity: Identity;
  /** The chain as it was admitted: what a fresh delegation is minted from. */
  readonly agents: readonly string[] | null;
  /** Name of the agent's Durable Object, to find its sockets again. */
  readonly object: string;
  /** A stream is an answer that is written as it comes: registered before its first byte leaves. A socket unless said. */
  readonly kind?: ConnectionKind;
}

export type ConnectionKind = "socket" | "stream";

/** What a ticket is good for, in one word: an entry's instance, or the control channel of a path. */
export type TicketTarget = `agent ${string} ${string}` | `channel ${string}`;

export interface TicketQuestion {
  readonly token: VerifiedToken;
  /** Digest of the ticket's secret: the object never has the ticket itself. */
  readonly digest: string;
  readonly target: TicketTarget;
  /** The page whose cookie bought it; null where a token did. */
  readonly origin: string | null;
  /** Set for renewing that open connection; null for opening one. */
  readonly connection: ConnectionId | null;
}

export interface TicketUse {
  readonly digest: string;
  readonly target: TicketTarget;
  readonly origin: string | null;
}

/** In-band renewal of an open socket by a ticket that was bought with a newer token of the same node. */
export interface RenewConnection {
  readonly connection: ConnectionId;
  readonly worker: string;
  readonly digest: string;
  readonly target: TicketTarget;
}

export interface LockOrder {
  /** The user of this object, or an agent registered here. */
  readonly target: string;
  readonly until: EpochMs | null;
  readonly by: By;
  /** As in `EndQuestion`. */
  readonly wait: boolean;
}

/** A request for a control channel, as the edge has built it: the node it shows, and whose token asked until when. */
export interface ChannelOrder {
  readonly path: NodePath;
  /** The node that listens: a person's own session may listen to another of theirs, and no longer than it lives. */
  readonly listener: NodePath;
  readonly expires: EpochMs;
}

export interface MessageQuestion {
  readonly connection: ConnectionId;
  readonly worker: string;
  /** Charged at once: a message's cost is named when it is admitted. */
  readonly cost: Micros;
}

/**
 * Whose right it is to end, inspect or lower a node: already proven by the caller, compared with the path again here. A
 * person's cookie is one more session, which must live in the same transaction; null where the edge acts for them itself.
 */
export type Reach =
  | { readonly kind: "person"; readonly cookie: VerifiedToken | null }
  | { readonly kind: "operator" }
  | { readonly kind: "node"; readonly token: VerifiedToken };

export interface EndQuestion {
  readonly path: NodePath;
  readonly why: EndReason;
  readonly by: By;
  readonly reach: Reach;
  /** False answers at the durable mark, true after the fence. */
  readonly wait: boolean;
  readonly idempotency: Idempotency | null;
}
