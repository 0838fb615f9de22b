/**
 * `AuthorityRpc`: everything that may be asked of a user's SessionAuthority. What is asked stands in questions.ts, what it
 * answers in answers.ts. Denials travel as values; nothing is thrown across. Whoever asks has verified what it passes on,
 * and the object checks again what only it can know: that the user, the session, every grant and node of the path still
 * live, and that every cap holds.
 *
 * Times are read in the object. Amounts are micros.
 */
import type { SliceReport } from "../budget/lease.ts";
import type { Tier } from "../config.ts";
import type { Denial, EndReason } from "../denial.ts";
import type { AgentId, CallId, ConnectionId, EpochMs, HoldId, Micros, NodePath } from "../ids.ts";
import type { Result } from "../result.ts";
import type { VerifiedToken } from "../token/verify.ts";
import type {
  Admission,
  AgentView,
  AuthenticatedClient,
  BudgetView,
  Charged,
  Connected,
  GrantView,
  LeashView,
  LockReport,
  MessageAdmission,
  NodeView,
  PersonView,
  SessionDetail,
  SessionView,
  Settled,
  StopReport,
} from "./answers.ts";
import type { CredentialsRpc } from "./credentials.ts";
import type { HoldsRpc } from "./holds.ts";
import type {
  AdmitQuestion,
  AgentCap,
  Authenticate,
  By,
  ChargeQuestion,
  ConnectQuestion,
  Delegate,
  EndQuestion,
  Enrolment,
  Idempotency,
  LockOrder,
  MessageQuestion,
  NewAgent,
  OpenSession,
  Reach,
  Renew,
  RenewConnection,
  SettleQuestion,
  SocketChargeQuestion,
  TicketQuestion,
  TicketUse,
} from "./questions.ts";

export interface AuthorityRpc extends HoldsRpc, CredentialsRpc {
  /** Creates the person's state at sign-up; telling it again changes nothing. */
  enrol(person: Enrolment): Promise<Result<PersonView, Denial>>;
  person(): Promise<Result<PersonView, Denial>>;
  setTier(tier: Tier, by: By): Promise<Result<PersonView, Denial>>;

  registerAgent(agent: NewAgent): Promise<Result<AgentView, Denial>>;
  agents(): Promise<Result<readonly AgentView[], Denial>>;
  agent(id: AgentId): Promise<Result<AgentView, Denial>>;
  setAgentCap(question: AgentCap): Promise<Result<AgentView, Denial>>;
  /** Ends everything it runs, here and in the objects of all users noted for it. */
  removeAgent(id: AgentId, by: By): Promise<Result<null, Denial>>;
  stopAgent(id: AgentId, by: By): Promise<Result<{ readonly pendingUsers: number }, Denial>>;
  /**
   * Told by an agent's owner's object: ends the agent's grants here and refuses older starts from now on. Told again it
   * says whether all of that is over: fences passed, connections closed.
   */
  agentStopped(stop: {
    agent: AgentId;
    stopCount: number;
    why: EndReason;
    by: By;
  }): Promise<Result<{ readonly isOver: boolean }, Denial>>;
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
  void(question: { hold: HoldId | null; callId: CallId }): Promise<Result<Settled, Denial>>;
  /** Adds to the cost of an open strict call, stream or socket's opening; enlarges its hold where that is too small. */
  charge(question: ChargeQuestion): Promise<Result<Charged, Denial>>;
  /** Adds to what an open socket has cost, at once. */
  chargeSocket(question: SocketChargeQuestion): Promise<Result<Charged, Denial>>;
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
  unlock(order: Omit<LockOrder, "until" | "wait">): Promise<Result<LockReport, Denial>>;
  lockReport(target: string): Promise<Result<LockReport, Denial>>;
  list(): Promise<Result<readonly SessionView[], Denial>>;
  inspect(path: NodePath, reach: Reach): Promise<Result<SessionDetail, Denial>>;
}
