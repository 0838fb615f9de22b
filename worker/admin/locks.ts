/**
 * Locks, and the reports of stops: `POST GET DELETE /admin/locks`, `GET /admin/agents/sessions/:id/stop`. A lock goes from
 * the id to its object without a look-up and is decided there; the list of what was ever locked comes from D1's log, and
 * what each lock is now from the objects.
 */
import * as z from "zod/mini";
import type { Denial } from "../../core/denial.ts";
import {
  parseNodePath,
  parseOwnedId,
  parseUserId,
  userOf,
  type AgentId,
  type EpochMs,
  type UserId,
} from "../../core/ids.ts";
import { PAGE_ROWS_MAX } from "../../core/limits.ts";
import { err, ok, type Result } from "../../core/result.ts";
import type { LockReport } from "../../core/wire/answers.ts";
import { listAudit } from "../../drizzle/d1/queries.ts";
import { check, readJson } from "../body.ts";
import type { Answer, Call, OperatorCaller } from "../call.ts";
import type { Edge } from "../env.ts";
import { json } from "../respond.ts";
import { reason, reasonOnly } from "./acts.ts";

const NOT_FOUND: Result<never, Denial> = err({ reason: "not_found" });

const order = z.strictObject({
  /** `usr_…` or `agt_…` */
  target: z.string(),
  reason,
  /** Milliseconds since 1970; absent: until it is lifted. */
  until: z.optional(z.int().check(z.minimum(0))),
  /** False answers at the durable mark, instead of after the fence. */
  wait: z.optional(z.boolean()),
});
export type LockInput = z.input<typeof order>;

/** Where a lock lives: in the user's own object, or in that of the agent's owner. */
function placeOf(edge: Edge, target: string): { user: UserId; target: UserId | AgentId } | null {
  const user = parseUserId(target, edge.idMac);
  if (user !== null) return { user, target: user };
  const agent = parseOwnedId("agt", target, edge.idMac);
  return agent === null ? null : { user: userOf(agent, edge.idMac), target: agent };
}

/** @param operator as it will stand in the audit row */
export async function lockBy(edge: Edge, operator: string, input: unknown): Promise<Result<LockReport, Denial>> {
  const asked = check(order, input);
  if (!asked.ok) return asked;
  const place = placeOf(edge, asked.value.target);
  if (place === null) return NOT_FOUND;
  const by = { kind: "operator" as const, id: operator, reason: asked.value.reason };
  const until = (asked.value.until ?? null) as EpochMs | null;
  const { wait = true } = asked.value;
  return edge.ask(place.user, (authority) => authority.lock({ target: place.target, until, by, wait }));
}

export async function lock(call: Call, { operator }: OperatorCaller): Promise<Answer> {
  const body = await readJson(call.request, order);
  if (!body.ok) return body;
  const wait = call.url.searchParams.get("wait") !== "0" && body.value.wait !== false;
  const report = await lockBy(call.edge, operator.id, { ...body.value, wait });
  return report.ok ? ok(json(report.value, 201)) : report;
}

export async function unlock({ edge, params, request }: Call, { operator }: OperatorCaller): Promise<Answer> {
  const place = placeOf(edge, params["id"] ?? "");
  const body = await readJson(request, reasonOnly);
  if (!body.ok) return body;
  if (place === null) return NOT_FOUND;
  const by = { kind: "operator" as const, id: operator.id, reason: body.value.reason };
  const report = await edge.ask(place.user, (authority) => authority.unlock({ target: place.target, by }));
  return report.ok ? ok(json(report.value)) : report;
}

function reportOf(edge: Edge, target: string): Promise<Result<LockReport, Denial>> {
  const place = placeOf(edge, target);
  return place === null
    ? Promise.resolve(NOT_FOUND)
    : edge.ask(place.user, (authority) => authority.lockReport(place.target));
}

export async function readLock({ edge, params }: Call): Promise<Answer> {
  const report = await reportOf(edge, params["id"] ?? "");
  return report.ok ? ok(json(report.value)) : report;
}

/** Those that hold now, the newest first. One that its object can't tell of is named all the same. */
export async function listLocks({ edge }: Call): Promise<Answer> {
  const rows = await listAudit(edge.db, {
    userId: null,
    sessionId: null,
    kind: "lock.set",
    after: null,
    limit: PAGE_ROWS_MAX,
  });
  if (!rows.ok) return rows;
  const targets = new Set(rows.value.map(({ body }) => targetIn(body)).filter((target) => target !== null));
  const locks = await Promise.all(
    [...targets].map(async (target) => {
      const report = await reportOf(edge, target);
      if (!report.ok) return report.denial.reason === "not_found" ? null : { target, state: "unknown" as const };
      const { lock: held, state } = report.value;
      return held === null ? null : { ...held, state };
    }),
  );
  return ok(json({ locks: locks.filter((found) => found !== null) }));
}

function targetIn(body: unknown): string | null {
  const value = (typeof body === "string" ? JSON.parse(body) : body) as { readonly target?: unknown } | null;
  return typeof value?.target === "string" ? value.target : null;
}

/** What a stop has come to; 404 where nothing has ended. */
export async function stopReport({ edge, params }: Call): Promise<Answer> {
  const path = parseNodePath(params["id"] ?? "", edge.idMac);
  if (path === null) return NOT_FOUND;
  const report = await edge.ask(userOf(path, edge.idMac), (authority) => authority.stopReport(path));
  return report.ok ? ok(json(report.value)) : report;
}
