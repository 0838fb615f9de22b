// The edge Worker: wiring only. It re-exports the classes that the platform looks up by name, and answers every request
// through serve.ts; no decision about a call is made in this file, and nothing is thrown out of it.
import { edgeOf, knownEdge, type Edge } from "./env.ts";
import { denied } from "./respond.ts";
import { serve } from "./serve.ts";

export { LoginLimiter } from "../durable-objects/login-limiter.ts";
export { SessionAuthority } from "../durable-objects/session-authority.ts";
export { Operator } from "./admin/operator.ts";
export { Authority } from "./rpc.ts";

const FAILED = { shape: "legate", resourceMetadata: null } as const;

/** A secret that is weak or missing refuses everything; the log says which one, and what to do, without its value. */
async function configured(env: Env): Promise<Edge | null> {
  try {
    return await edgeOf(env);
  } catch (mistake) {
    // oxlint-disable-next-line no-console -- the operator's only sign of it; env.ts writes these sentences itself
    console.error(`Legate refuses to serve: ${mistake instanceof Error ? mistake.message : "unknown reason"}`);
    return null;
  }
}

export default {
  async fetch(request, env, ctx) {
    try {
      const edge = knownEdge(env) ?? (await configured(env));
      return edge === null ? denied({ reason: "internal" }, FAILED) : await serve(request, edge, ctx);
    } catch {
      return denied({ reason: "internal" }, FAILED);
    }
  },
} satisfies ExportedHandler<Env>;
