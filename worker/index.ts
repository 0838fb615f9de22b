// The edge Worker: wiring only. It answers /healthz and re-exports the classes that the platform looks up by name;
// no decision about a call is made in this file.
import { WorkerEntrypoint } from "cloudflare:workers";

export { LoginLimiter } from "../durable-objects/login-limiter.ts";
export { SessionAuthority } from "../durable-objects/session-authority.ts";

export class Authority extends WorkerEntrypoint<Env> {}

export default {
  fetch(request) {
    if (new URL(request.url).pathname === "/healthz") return Response.json({ status: "ok" });
    return Response.json({ success: false, error: "There is nothing here.", code: "not_found" }, { status: 404 });
  },
} satisfies ExportedHandler<Env>;
