// Knocking at one path in both ways, over HTTP and for a socket, and what every refusal must look like.
import { expect } from "vitest";
import { LEAKS } from "./people.ts";
import { UPGRADE, type Wire, type WireAnswer, type WireRequest } from "./wire.ts";

export const WAYS = ["HTTP", "upgrade"] as const;
export type Way = (typeof WAYS)[number];

export function knock(wire: Wire, way: Way, request: WireRequest): Promise<WireAnswer> {
  const headers = way === "upgrade" ? { ...request.headers, ...UPGRADE } : { ...request.headers };
  return wire.send({ ...request, headers });
}

/** A stable code, a sentence, the headers of every answer, and nothing of how the server is made. */
export function expectRefusal(answer: WireAnswer, status: number, code: string): void {
  const body = JSON.parse(answer.text || "{}") as Record<string, unknown>;
  expect([answer.status, body["code"]]).toEqual([status, code]);
  expect(body).toMatchObject({ success: false, error: expect.stringMatching(/^[A-Z].*\.$/) });
  expect(answer.text).not.toMatch(LEAKS);
  expect(answer.headers["x-content-type-options"]).toBe("nosniff");
  expect(answer.headers["content-security-policy"]).toContain("default-src 'none'");
  expect(answer.headers["cache-control"]).toBe("no-store");
  const challenge = answer.headers["www-authenticate"];
  if (status === 401) expect(challenge).toMatch(/^Bearer( error="invalid_token",)? resource_metadata="http/);
  else if (code === "insufficient_scope") expect(challenge).toMatch(/^Bearer error="insufficient_scope", scope="/);
  else expect(challenge).toBeUndefined();
  if (status === 503 || status === 429) expect(Number(answer.headers["retry-after"])).toBeGreaterThan(0);
  else expect(answer.headers["retry-after"]).toBeUndefined();
}
