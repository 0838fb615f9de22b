/**
 * `AuthorityRpc`: everything that may be asked of a user's SessionAuthority, and what it answers. Denials travel as
 * values; nothing is thrown across. Whoever asks has verified what it passes on, and the object checks again what only
 * it can know: that the user, the session, every grant and node of the path still live, and that every cap holds.
 *
 * Times are read in the object. Amounts are micros.
 */
import type { Demand, SliceGrant, SliceReport } from "../budget/lease.ts";
import type { Level as CallLevel, Tier } from "../config.ts";
import type { Denial, EndReason } from "../denial.ts";
import type {
  AgentId,
  CallId,
  ConnectionId,
  EpochMs,
  EpochSeconds,
  HoldId,
  Micros,
  NodePath,
  SessionId,
  Slug,
  UserId,
} from "../ids.ts";
import type { Result } from "../result.ts";
import type { ActorLink } from "../token/chain.ts";
import type { VerifiedToken } from "../token/verify.ts";
import type { HoldsRpc } from "./holds.ts";
import type { CredentialsRpc } from "./credentials.ts";
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

export interface PersonView {
  readonly id: UserId;
  readonly tier: Tier;
  readonly state: "active" | "disabled";
}

/** A public key of an agent: what it registered, nothing private. */
export interface AgentKey {
  readonly alg: "ES256" | "EdDSA";
  /** A public JWK with just the members of its kind (RFC 7517 §4, RFC 8037 §2). */
  readonly jwk: Readonly<Record<string, string>>;
}

export interface AgentView {
  readonly id: AgentId;
  readonly name: string;
  readonly key: AgentKey;
  readonly scope: readonly string[];
  /** What all its sessions together may spend; an agent without a cap opens no session. */
  readonly cap: Micros | null;
  readonly state: "active" | "deleted";
  readonly createdAt: EpochMs;
}

/** A client whose assertion was consumed, as the object of its owner knows it at that moment. */
export interface AuthenticatedClient {
  readonly agent: AgentView;
  readonly owner: UserId;
  readonly stopCount: number;
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
  readonly by: By;
  readonly idempotency: Idempotency | null;
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

/** What the edge needs to mint a token of a grant. */
export interface GrantView {
  readonly path: NodePath;
  readonly session: SessionId;
  readonly subject: UserId;
  readonly tier: Tier;
  readonly clientId: string;
  readonly actors: readonly ActorLink[];
  readonly scope: readonly string[];
  readonly agents: readonly string[] | null;
  readonly audience: string | null;
  readonly openedAt: EpochMs;
  readonly expires: EpochSeconds;
  readonly cap: Micros | null;
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

/** The strictest window of those that were charged. */
export interface RateView {
  readonly name: string;
  readonly calls: number;
  readonly seconds: number;
  readonly remaining: number;
  readonly resetMs: number;
}

export interface Admission {
  /** The call's own hold; null where it is the first call of a slice. */
  readonly hold: HoldId | null;
  readonly slice: SliceGrant | null;
  readonly rate: RateView | null;
  readonly held: Micros;
  /** Left at the binding node after this hold; null where nothing caps it. */
  readonly remaining: Micros | null;
  /** End of the envelope. */
  readonly expires: EpochMs;
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

export interface Charged {
  /** Of all charges of the call so far. */
  readonly charged: Micros;
  readonly held: Micros;
  readonly remaining: Micros | null;
}

export interface Settled {
  readonly cost: Micros;
  /** True when the same settlement had been made before. */
  readonly repeated: boolean;
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

export interface Connected {
  readonly expires: EpochMs;
  /** The largest message that is served on it. */
  readonly messageBytes: number;
}

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

/** What an operator has locked: a user, or an agent by its id. */
export interface LockView {
  readonly target: string;
  readonly reason: string;
  readonly by: string;
  readonly at: EpochMs;
  readonly until: EpochMs | null;
}

/** A lock with what it has reached: everyone for whom the agent acted, by name. */
export interface LockReport {
  readonly lock: LockView | null;
  readonly state: "terminal" | "pending";
  readonly users: readonly { readonly user: UserId; readonly state: "told" | "pending" }[];
  /** Sessions that ended in this object. */
  readonly sessions: number;
}

export interface LockOrder {
  /** The user of this object, or an agent registered here. */
  readonly target: string;
  readonly until: EpochMs | null;
  readonly by: By;
}

/** A request for a control channel, as the edge has built it: the node it shows, and the end of the token that asked. */
export interface ChannelOrder {
  readonly path: NodePath;
  readonly expires: EpochMs;
}

export interface MessageQuestion {
  readonly connection: ConnectionId;
  readonly worker: string;
  /** Final: a message's cost is named when it is admitted. */
  readonly cost: Micros;
}

export interface MessageAdmission {
  readonly remaining: Micros | null;
  readonly expires: EpochMs;
  /** What a fresh `Legate-Delegation` may carry. */
  readonly chain: DelegationChain;
}

/** The part of a verified chain that the gate mints a delegation from. */
export interface DelegationChain {
  readonly subject: UserId;
  readonly tier: Tier;
  readonly node: NodePath;
  readonly actors: readonly ActorLink[];
  readonly scope: readonly string[];
  readonly agents: readonly string[] | null;
  readonly exp: EpochSeconds;
}

/** Whose right it is to end, inspect or lower a node: already proven by the caller, compared with the path again here. */
export type Reach =
  | { readonly kind: "person" }
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

/** What a stop has done so far, a member per plane. */
export interface StopReport {
  readonly path: NodePath;
  readonly session: SessionId;
  readonly state: "terminal" | "pending";
  readonly endedAt: EpochMs;
  readonly why: EndReason;
  readonly by: By;
  /** No call of it is admitted after this moment. */
  readonly fence: { readonly at: EpochMs; readonly passed: boolean };
  readonly sockets: { readonly closed: number; readonly pending: number };
  readonly streams: { readonly closed: number; readonly pending: number };
  /** The same for each agent object that held some. */
  readonly objects: readonly {
    readonly slug: string;
    readonly instance: string;
    readonly kind: ConnectionKind;
    readonly closed: number;
    readonly pending: number;
  }[];
  /** `running` have hold rows; slices that were not reported may be running up to `upTo` more. */
  readonly calls: { readonly running: number; readonly upTo: number; readonly deadline: EpochMs | null };
  readonly grants: number;
  /** Hold rows that were not settled yet; each is charged in full at its deadline at the latest. */
  readonly holds: { readonly left: number; readonly micros: Micros };
  /** What other capabilities had of it: cached credentials. */
  readonly planes: readonly StopPlane[];
}

/** One more line of a stop report. What was handed out may live on `until` then; that keeps nothing pending. */
export interface StopPlane {
  readonly name: string;
  readonly dropped: number;
  readonly pending: number;
  readonly until: EpochMs | null;
  /** The text of a policy that ends, at AWS, what was handed out; an operator attaches it to the role. */
  readonly denyPolicy?: string;
}

export interface BudgetView {
  readonly cap: Micros | null;
  readonly settled: Micros;
  readonly held: Micros;
  /** At the binding level of the whole line; null where nothing caps it. */
  readonly remaining: Micros | null;
}

export interface NodeView {
  readonly path: NodePath;
  readonly kind: "session" | "grant" | "narrowed" | "gate";
  readonly clientId: string | null;
  readonly scope: readonly string[] | null;
  readonly expires: EpochSeconds | null;
  readonly endedAt: EpochMs | null;
  readonly endReason: EndReason | null;
  readonly budget: BudgetView;
}

export interface SessionView {
  readonly id: SessionId;
  readonly kind: OpenSession["kind"];
  readonly userId: UserId;
  readonly clientId: AgentId | null;
  readonly scope: readonly string[];
  readonly openedAt: EpochMs;
  readonly expires: EpochSeconds;
  readonly endedAt: EpochMs | null;
  readonly endReason: EndReason | null;
  readonly endedBy: string | null;
  readonly budget: BudgetView;
  readonly connections: number;
  readonly nodes: number;
}

export interface SessionDetail extends SessionView {
  readonly tree: readonly NodeView[];
  readonly stop: StopReport | null;
}

/** The caller's leash (`GET /sessions/current`), as far as only the object knows it. */
export interface LeashView {
  readonly budget: BudgetView;
  /** The strictest of the windows that all entries share; null where none limits. */
  readonly rate: RateView | null;
  readonly session: SessionId;
  readonly sessionExpires: EpochSeconds;
}

export interface AuthorityRpc extends HoldsRpc, CredentialsRpc {
  /** Creates the person's state at sign-up; telling it again changes nothing. */
  enrol(person: Enrolment): Promise<Result<PersonView, Denial>>;
  person(): Promise<Result<PersonView, Denial>>;
  setTier(tier: Tier, by: By): Promise<Result<PersonView, Denial>>;

  registerAgent(agent: {
    name: string;
    key: AgentKey;
    scope: readonly string[];
    cap: Micros | null;
    by: By;
    idempotency: Idempotency | null;
  }): Promise<Result<AgentView, Denial>>;
  agents(): Promise<Result<readonly AgentView[], Denial>>;
  agent(id: AgentId): Promise<Result<AgentView, Denial>>;
  setAgentCap(id: AgentId, cap: Micros, by: By): Promise<Result<AgentView, Denial>>;
  /** Ends everything it runs, here and in the objects of all users noted for it. */
  removeAgent(id: AgentId, by: By): Promise<Result<null, Denial>>;
  stopAgent(id: AgentId, by: By): Promise<Result<{ readonly pendingUsers: number }, Denial>>;
  /** Told by an agent's owner's object: ends the agent's grants here and refuses older starts from now on. */
  agentStopped(stop: { agent: AgentId; stopCount: number; why: EndReason; by: By }): Promise<Result<null, Denial>>;
  authenticate(question: Authenticate): Promise<Result<AuthenticatedClient, Denial>>;

  open(question: OpenSession): Promise<Result<GrantView, Denial>>;
  delegate(question: Delegate): Promise<Result<GrantView, Denial>>;
  renew(question: Renew): Promise<Result<GrantView, Denial>>;
  /** Whether a token's whole line lives now; for introspection and for cookies outside `/agents/*`. */
  check(token: VerifiedToken): Promise<Result<PersonView, Denial>>;
  leash(token: VerifiedToken): Promise<Result<LeashView, Denial>>;
  /** For a token of another audience: rights are those of the row. */
  introspect(
    token: VerifiedToken,
    audience: string,
  ): Promise<Result<GrantView & { readonly budget: BudgetView }, Denial>>;

  admit(question: AdmitQuestion): Promise<Result<Admission, Denial>>;
  settle(question: SettleQuestion): Promise<Result<Settled, Denial>>;
  /** By the gate alone, for what it did not forward. */
  void(question: { hold: HoldId; callId: CallId }): Promise<Result<Settled, Denial>>;
  /** Adds to the cost of an open strict call, stream or socket's opening; enlarges its hold where that is too small. */
  charge(question: ChargeQuestion): Promise<Result<Charged, Denial>>;
  /** Slices that are over for an isolate; telling twice changes nothing. */
  report(reports: readonly SliceReport[]): Promise<Result<null, Denial>>;
  /** Named `register`: `connect` on a stub is the platform's own TCP connect, and would never arrive. */
  register(question: ConnectQuestion): Promise<Result<Connected, Denial>>;
  admitMessage(question: MessageQuestion): Promise<Result<MessageAdmission, Denial>>;
  disconnect(question: { connection: ConnectionId; worker: string; code: number }): Promise<Result<null, Denial>>;
  renewConnection(question: RenewConnection): Promise<Result<Connected, Denial>>;
  ticket(question: TicketQuestion): Promise<Result<{ readonly expires: EpochMs }, Denial>>;
  /** The ticket is used up, whatever the answer. @returns the token that it stands for */
  redeemTicket(use: TicketUse): Promise<Result<VerifiedToken, Denial>>;

  /** What the user may spend a UTC day, instead of the deployment's number. */
  setDayCap(cap: Micros, by: By): Promise<Result<{ readonly cap: Micros }, Denial>>;
  setCap(question: {
    path: NodePath;
    cap: Micros;
    by: By;
    reach: Reach;
    idempotency: Idempotency | null;
  }): Promise<Result<NodeView, Denial>>;
  revoke(question: EndQuestion): Promise<Result<StopReport, Denial>>;
  terminate(question: EndQuestion): Promise<Result<StopReport, Denial>>;
  stopUser(question: { by: By; wait: boolean }): Promise<Result<{ readonly sessions: number }, Denial>>;
  disable(question: { by: By; wait: boolean }): Promise<Result<{ readonly sessions: number }, Denial>>;
  enable(question: { by: By }): Promise<Result<PersonView, Denial>>;
  stopReport(path: NodePath): Promise<Result<StopReport, Denial>>;
  lock(order: LockOrder): Promise<Result<LockReport, Denial>>;
  unlock(order: Omit<LockOrder, "until">): Promise<Result<LockReport, Denial>>;
  lockReport(target: string): Promise<Result<LockReport, Denial>>;
  list(): Promise<Result<readonly SessionView[], Denial>>;
  inspect(path: NodePath, reach: Reach): Promise<Result<SessionDetail, Denial>>;
}

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
  /** Charges an open call that has a hold of its own; `id` makes a repeated charge one. */
  charge(question: { identity: string; id: string; micros: Micros }): Promise<Result<Charged, Denial>>;
  /** Says in words what a code means and what to do; for agents' developers. */
  explain(code: string): Promise<string | null>;
}
