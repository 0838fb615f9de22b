/**
 * A gate and an authority that do as a test says: the counterpart of the mixin, without the rest of Legate. `POST /script`
 * sets how they answer and forgets what they were asked, `GET /log` tells it; everything under /agents/ goes to a probe,
 * with an envelope as the real gate seals it, or with whatever the query asks to be wrong about it.
 */
import { WorkerEntrypoint } from "cloudflare:workers";
import { decodeBase64url } from "../../../../core/base64url.ts";
import type { Denial } from "../../../../core/denial.ts";
import { err, ok, type Result } from "../../../../core/result.ts";
import { importIdentityKey, sealIdentity, type Identity } from "../../../../core/wire/identity.ts";
import type { AgentSocketsRpc } from "../../../../core/wire/agents.ts";
import type { Manner, Script } from "../../mixin-script.ts";

interface GateEnv {
  readonly LEGATE_IDENTITY_KEY: string;
  readonly PROBE: DurableObjectNamespace;
  /** The example's, beside a researcher that answers as slowly as a test wants. */
  readonly PLANNER: DurableObjectNamespace;
}

let script: Script = {};
let log: unknown[] = [];

async function behave<T>(manner: Manner = "answer", value: T): Promise<Result<T, Denial>> {
  if (manner === "slow") await new Promise((wake) => setTimeout(wake, 500));
  if (manner === "silent") await new Promise((wake) => setTimeout(wake, 8_000));
  if (manner === "fail") throw new Error("the authority failed");
  return script.denial === undefined ? ok(value) : err(script.denial);
}

export class Authority extends WorkerEntrypoint<GateEnv> {
  register(question: { connection: string; object: string }) {
    log.push({ asked: "register", connection: question.connection, object: question.object });
    const expires = script.expires ?? Date.now() + 3_600_000;
    return behave(script.register, { handle: `handle of ${question.connection}`, expires });
  }

  admit({ handle, cost, delegation }: { handle: string; cost: number; delegation: boolean }) {
    log.push({ asked: "admit", handle, cost, delegation });
    return behave(script.admit, { remaining: 7, expires: 0, delegation: null });
  }

  disconnect({ handle, code }: { handle: string; code: number }) {
    log.push({ asked: "disconnect", handle, code });
    return ok(null);
  }

  /** Loses the answer to every first try of a charge where the script says so. */
  charge({ id, ...question }: { id: string; micros: number }) {
    const isAgain = log.some((entry) => (entry as { id?: string }).id === id);
    log.push({ asked: "charge", id, ...question });
    return behave(isAgain ? "answer" : script.charge, { charged: question.micros, held: 0, remaining: 7 });
  }

  settle({ cost }: { identity: string; cost: number }) {
    log.push({ asked: "settle", cost });
    return ok({ cost, repeated: false });
  }

  override async fetch(request: Request): Promise<Response> {
    const { url, headers } = request;
    await behave(script.fetch, null);
    return Response.json({
      path: new URL(url).pathname,
      authorization: headers.get("authorization"),
      traceparent: headers.get("traceparent"),
    });
  }
}

function identityOf(request: Request, url: URL, instance: string): Identity {
  return {
    subject: "usr_subject",
    tier: "free",
    actors: [{ sub: "agt_root", proven: true }],
    session: "ses_session",
    node: "ses_session.node",
    scope: ["research"],
    agents: null,
    remaining: 100,
    callId: url.searchParams.get("call") ?? "call-1",
    hold: "hld_hold",
    held: 200,
    level: "strict",
    traceparent: "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
    slug: "probe",
    instance,
    worker: "mixin-agents",
    method: request.method,
    path: `${url.pathname}${url.search}`,
    tokenExpires: Date.now() + 3_600_000,
    expires: Date.now() + 2_000,
  } as unknown as Identity;
}

async function call(request: Request, url: URL, env: GateEnv): Promise<Response> {
  const [, , slug, instance = "default"] = url.pathname.split("/");
  const key = await importIdentityKey(decodeBase64url(env.LEGATE_IDENTITY_KEY) ?? new Uint8Array(32));
  const wrong = JSON.parse(request.headers.get("x-wrong") ?? "{}") as Partial<Identity>;
  const headers = new Headers(request.headers);
  if (!headers.has("x-no-envelope"))
    headers.set("legate-identity", await sealIdentity(key, { ...identityOf(request, url, instance), ...wrong }));
  const object = headers.get("x-object") ?? `usr_subject.${instance}`;
  return (slug === "planner" ? env.PLANNER : env.PROBE).getByName(object).fetch(new Request(request, { headers }));
}

export default {
  async fetch(request, env) {
    const url = new URL(request.url);
    if (url.pathname === "/script") {
      script = await request.json<Script>();
      log = [];
      return Response.json({ ok: true });
    }
    if (url.pathname === "/log") return Response.json(log);
    if (url.pathname === "/close") {
      const { object, ...order } = await request.json<
        { object: string } & Parameters<AgentSocketsRpc["legateClose"]>[0]
      >();
      const probe = env.PROBE.getByName(object) as unknown as AgentSocketsRpc;
      return Response.json({ closed: await probe.legateClose(order) });
    }
    return call(request, url, env);
  },
} satisfies ExportedHandler<GateEnv>;
