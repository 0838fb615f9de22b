/**
 * What a user's SessionAuthority answers (rpc.ts): copies of what it holds at that moment, without secrets. Amounts are
 * micros; a null cap, remaining or rate means that nothing limits.
 */
import type { SliceGrant } from "../budget/lease.ts";
import type { Tier } from "../config.ts";
import type { EndReason } from "../denial.ts";
import type { AgentId, EpochMs, EpochSeconds, HoldId, Micros, NodePath, SessionId, UserId } from "../ids.ts";
import type { ActorLink } from "../token/chain.ts";
import type { AgentKey, By, ConnectionKind, OpenSession } from "./questions.ts";

export interface PersonView {
  readonly id: UserId;
  readonly tier: Tier;
  readonly state: "active" | "disabled";
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

export interface Charged {
  /** Of all charges of the call so far; of a socket, with what its messages were admitted at. */
  readonly charged: Micros;
  /** Set aside for the call; nothing for a socket, which is charged at once. */
  readonly held: Micros;
  readonly remaining: Micros | null;
}

export interface Settled {
  readonly cost: Micros;
  /** True when the same settlement had been made before. */
  readonly repeated: boolean;
}

export interface Connected {
  readonly expires: EpochMs;
  /** The largest message that is served on it. */
  readonly messageBytes: number;
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
  /** The person's tier of this moment: no scope above it counts, whatever the token says. */
  readonly tier: Tier;
  readonly budget: BudgetView;
  /** The strictest of the windows that all entries share; null where none limits. */
  readonly rate: RateView | null;
  readonly session: SessionId;
  readonly sessionExpires: EpochSeconds;
}
