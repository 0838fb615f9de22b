/**
 * `Operator`: an operator's acts as RPC, for Workers that are bound to it. Who is calling comes from the binding's
 * `props`, which only a deployment writes, and never from an argument; without a name there, nothing is done. Results
 * are values. The same acts stand behind /admin (acts.ts); this class adds nothing to them.
 */
import { WorkerEntrypoint } from "cloudflare:workers";
import type { Denial } from "../../core/denial.ts";
import { err, ok, type Result } from "../../core/result.ts";
import type { LockReport, PersonView, StopReport } from "../../core/wire/answers.ts";
import type { AgentAuditRow, AgentSessionRow } from "../../drizzle/d1/rows.ts";
import { edgeOf } from "../env.ts";
import type { LockInput } from "./locks.ts";
import type {
  AuditInput,
  Inspection,
  OperatorActs,
  Page,
  RolesInput,
  RoleUse,
  SessionsInput,
  StopInput,
  TerminationInput,
} from "./acts.ts";

export interface OperatorProps {
  /** A service's name, as it will stand in audit rows. */
  readonly operator: string;
}

const NAME_PATTERN = /^[A-Za-z0-9][A-Za-z0-9._:-]{0,63}$/;

export class Operator extends WorkerEntrypoint<Env, OperatorProps> {
  list(query: SessionsInput = {}): Promise<Result<Page<AgentSessionRow>, Denial>> {
    return this.#act((acts) => acts.list(query));
  }

  audit(query: AuditInput = {}): Promise<Result<Page<AgentAuditRow>, Denial>> {
    return this.#act((acts) => acts.audit(query));
  }

  /** Exchanges, failures, answers and hit rate of each role of a cloud. */
  roles(
    query: RolesInput = {},
  ): Promise<Result<{ readonly days: number; readonly roles: readonly RoleUse[] }, Denial>> {
    return this.#act((acts) => acts.roles(query));
  }

  inspect(id: string): Promise<Result<Inspection, Denial>> {
    return this.#act((acts) => acts.inspect(id));
  }

  terminate(order: TerminationInput): Promise<Result<StopReport, Denial>> {
    return this.#act((acts) => acts.terminate(order));
  }

  stopUser(order: StopInput): Promise<Result<{ readonly sessions: number }, Denial>> {
    return this.#act((acts) => acts.stopUser(order));
  }

  disableUser(order: StopInput): Promise<Result<{ readonly sessions: number }, Denial>> {
    return this.#act((acts) => acts.disableUser(order));
  }

  /** Ends what a user, or an agent for anyone, runs, and lets nothing of it start until the lock ends. */
  async lock(order: LockInput): Promise<Result<LockReport, Denial>> {
    const operator = this.#name();
    if (operator === null) return err({ reason: "operator_required" });
    try {
      return await (await import("./locks.ts")).lockBy(await edgeOf(this.env), operator, order);
    } catch {
      return err({ reason: "internal" });
    }
  }

  enableUser(order: StopInput): Promise<Result<PersonView, Denial>> {
    return this.#act((acts) => acts.enableUser(order));
  }

  async #act<T>(act: (acts: OperatorActs) => Promise<Result<T, Denial>>): Promise<Result<T, Denial>> {
    const acts = await this.#acts();
    if (!acts.ok) return acts;
    try {
      return await act(acts.value);
    } catch {
      return err({ reason: "internal" }); // a driver's message is nobody's business across a binding
    }
  }

  #name(): string | null {
    const operator: unknown = (this.ctx.props as Partial<OperatorProps> | undefined)?.operator;
    return typeof operator === "string" && NAME_PATTERN.test(operator) ? operator : null;
  }

  async #acts(): Promise<Result<OperatorActs, Denial>> {
    const operator = this.#name();
    if (operator === null) return err({ reason: "operator_required" });
    const { OperatorActs } = await import("./acts.ts");
    return ok(new OperatorActs(await edgeOf(this.env), operator));
  }
}
