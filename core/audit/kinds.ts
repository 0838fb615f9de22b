/**
 * The kinds of audit row and what each tells. One table: the object writes by it, the outbox and the console read by it.
 * Every member is JSON; no secret has a place here. The row's own columns (`user`, `seq`, `at`, `kind`, `session`) stand
 * beside these in what is hashed, so no member has such a name.
 */
import type { Level, Tier } from "../config.ts";
import type { EndReason } from "../denial.ts";

/** Who did it. */
interface Who {
  readonly by: { readonly kind: string; readonly id: string };
  readonly reason?: string;
}

interface AgentFacts extends Who {
  readonly agent: string;
  readonly name: string;
  readonly scope: string[];
  readonly cap: number | null;
}

interface InvocationFacts {
  readonly node: string;
  readonly slug: string;
  readonly instance: string;
  readonly calls: number;
  readonly errors: number;
  readonly cost: number;
  readonly firstAt: number;
  readonly lastAt: number;
}

export type AuditBody = {
  "user.enrolled": { readonly tier: Tier };
  "user.tier_changed": Who & { readonly tier: Tier; readonly before: Tier };
  "user.disabled": Who & { readonly sessions: number };
  "user.enabled": Who;
  "agent.registered": AgentFacts & { readonly thumbprint: string };
  "agent.cap_changed": AgentFacts & { readonly before: number | null };
  "agent.removed": AgentFacts & { readonly stopCount: number };
  "agent.stopped": Who & { readonly agent: string; readonly stopCount: number; readonly nodes: number };
  "session.opened": Who & {
    readonly sessionKind: "person" | "api" | "agent";
    readonly client: string | null;
    readonly scope: string[];
    readonly cap: number | null;
    readonly expires: number;
    readonly ip: string | null;
    readonly userAgent: string | null;
  };
  /** Its first call: what lists show of it. */
  "session.used": { readonly slug: string; readonly instance: string };
  "session.ended": Who & {
    readonly why: EndReason;
    readonly node: string;
    readonly sockets: number;
    readonly grants: number;
  };
  "lock.set": Who & { readonly target: string; readonly until: number | null };
  "lock.lifted": Who & { readonly target: string };
  "grant.opened": Who & {
    readonly node: string;
    readonly how: "redeem" | "narrow";
    readonly client: string;
    readonly scope: string[];
    readonly cap: number | null;
    readonly reserved: number | null;
    readonly audience: string | null;
    readonly expires: number;
  };
  "grant.renewed": Who & { readonly node: string };
  "grant.ended": Who & {
    readonly why: EndReason;
    readonly node: string;
    readonly sockets: number;
    readonly grants: number;
  };
  "cap.changed": Who & { readonly node: string; readonly cap: number; readonly before: number | null };
  /** Counted calls of one node, entry, instance and minute. */
  "calls.counted": InvocationFacts & { readonly minute: number };
  /** One strict call, stream or socket. */
  "call.settled": InvocationFacts & {
    readonly id: string;
    readonly callKind: "http" | "stream" | "socket";
    readonly level: Level;
  };
  "call.admitted": {
    readonly id: string;
    readonly node: string;
    readonly slug: string;
    readonly instance: string;
    readonly cost: number;
  };
  "user.day_cap_changed": Who & { readonly cap: number; readonly before: number | null };
  /** A slice that nobody reported: what was lost with its isolate. */
  "slice.lost": {
    readonly slice: string;
    readonly node: string;
    readonly slug: string;
    readonly calls: number;
    readonly cost: number;
  };
  "credential.exchanged": {
    readonly role: string;
    readonly node: string;
    readonly tries: number;
    readonly expires: number;
  };
  "credential.failed": {
    readonly role: string;
    readonly node: string;
    readonly tries: number;
    readonly code: string;
  };
  "credential.dropped": { readonly node: string; readonly dropped: number };
  /** Answers with a credential of that role, from an exchange or without one, since the row before. */
  "credential.served": { readonly role: string; readonly answers: number };
  "hold.expired": { readonly hold: string; readonly node: string; readonly cost: number };
  /** `count`: how often, at once or in the minute after a row of the same. */
  "hold.refused": { readonly hold: string; readonly fault: string; readonly count: number };
};

export type AuditKind = keyof AuditBody;
