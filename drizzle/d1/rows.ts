/**
 * What a row of D1 must look like when it is read: rows come from imports, older versions and other hands, and none is
 * believed because of where it lay. Beside the schema, so that a column and its check change together.
 */
import * as z from "zod/mini";
import { TIERS } from "../../core/config.ts";

const time = z.int();
const nullable = <T extends z.ZodMiniType>(schema: T) => z.nullable(schema);
const text = z.string();

export const userRow = z.object({
  id: text,
  username: text,
  passwordHash: text,
  tier: z.enum(TIERS),
  createdAt: time,
});
export type UserRow = z.output<typeof userRow>;

export const agentSessionRow = z.object({
  id: text,
  userId: text,
  clientId: nullable(text),
  kind: z.enum(["person", "api", "agent"]),
  agentSlug: nullable(text),
  instanceId: nullable(text),
  startedAt: time,
  expiresAt: time,
  endedAt: nullable(time),
  endReason: nullable(text),
  endedBy: nullable(text),
  ipAddress: nullable(text),
  userAgent: nullable(text),
});
export type AgentSessionRow = z.output<typeof agentSessionRow>;

export const agentAuditRow = z.object({
  userId: text,
  seq: z.int(),
  at: time,
  kind: text,
  sessionId: nullable(text),
  body: text,
  hash: text,
});
export type AgentAuditRow = z.output<typeof agentAuditRow>;

export const roleUseRow = z.object({ role: text, exchanges: z.int(), failures: z.int(), answers: z.int() });
export type RoleUseRow = z.output<typeof roleUseRow>;
