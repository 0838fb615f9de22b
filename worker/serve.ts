/**
 * One request through the edge: strip, route, answer, finish. Whatever is refused becomes an answer here and in
 * respond.ts alone; whatever is thrown below is caught here and says nothing.
 */
import type { Denial } from "../core/denial.ts";
import { err, ok } from "../core/result.ts";
import type { Answer, Call } from "./call.ts";
import { preflight, withCors } from "./cors.ts";
import type { Edge } from "./env.ts";
import { gate, GATE_METHODS } from "./gate.ts";
import { strip } from "./inbound.ts";
import { match } from "./match.ts";
import { findTarget } from "./place.ts";
import { denied } from "./respond.ts";
import { waysTo } from "./routes.ts";

const NOT_FOUND: Answer = err({ reason: "not_found" });

/** @returns the answer to any request; never throws, never rejects */
export async function serve(sent: Request, edge: Edge, ctx: ExecutionContext): Promise<Response> {
  const { request, url } = strip(sent);
  const { pathname } = url;
  const isCallToAgent = pathname.startsWith("/agents/");
  const accessJwt = isCallToAgent ? null : sent.headers.get("cf-access-jwt-assertion");
  const call: Call = { request, url, edge, ctx, params: {}, now: edge.now(), accessJwt };
  let answer: Answer;
  try {
    answer = await (isCallToAgent ? toAgent(call, pathname) : toRoute(call));
  } catch {
    answer = err({ reason: "internal" }); // what was thrown may hold a query's parameters: it goes nowhere
  }
  return withCors(answer.ok ? answer.value : refuse(answer.denial, call), request, edge);
}

async function toAgent(call: Call, pathname: string): Promise<Answer> {
  const target = findTarget(pathname, call.edge.config);
  if (target === null) return NOT_FOUND;
  const { method } = call.request;
  if (method === "OPTIONS") return ok(preflight(call.request, GATE_METHODS, call.edge));
  if (!GATE_METHODS.includes(method)) return err({ reason: "method_not_allowed", allowed: GATE_METHODS });
  return gate(call, target);
}

async function toRoute(call: Call): Promise<Answer> {
  const { request, url, edge } = call;
  const found = match(await waysTo(url.pathname), request.method, url.pathname);
  switch (found.kind) {
    case "none":
      return NOT_FOUND;
    case "found":
      return found.row.go({ ...call, params: found.params });
    case "method":
      return request.method === "OPTIONS"
        ? ok(preflight(request, found.allowed, edge))
        : err({ reason: "method_not_allowed", allowed: found.allowed });
  }
}

function refuse(denial: Denial, { url, edge }: Call): Response {
  const fault = "fault" in denial ? denial.fault : "";
  edge.event("refused", [denial.reason, fault, url.pathname.split("/", 3)[1] ?? ""]);
  const metadata = `${edge.issuer}/.well-known/oauth-protected-resource`;
  const slug = url.pathname.startsWith("/agents/") ? url.pathname.split("/", 3)[2] : undefined;
  const isKnown = slug !== undefined && edge.config.agents.has(slug);
  return denied(denial, {
    shape: url.pathname.startsWith("/oauth/") ? "oauth" : "legate",
    resourceMetadata: isKnown ? `${metadata}/agents/${slug}` : metadata,
  });
}
