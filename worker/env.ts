/**
 * The only reader of `env` in the edge. It turns bindings and secrets into one `Edge`: checked configuration, keys by
 * purpose, and ports to what lies outside. Kept per isolate as a value; two first requests may both make it, for a
 * promise that another request began may never settle (workerd, connection reset).
 */
import { createHmac } from "node:crypto";
import { decodeBase64url } from "../core/base64url.ts";
import { audienceWithin, type AgentEntry, type LegateConfig } from "../core/config.ts";
import type { Denial } from "../core/denial.ts";
import type { EpochMs, IdMac, RandomBytes, UserId } from "../core/ids.ts";
import { err, type Result } from "../core/result.ts";
import {
  cookieTokenKey,
  liveSecrets,
  sealKey,
  sessionTokenKey,
  type LiveSecret,
  type SealKey,
  type TokenKey,
} from "../core/token/keyring.ts";
import { deriveBytes, LABEL, parseSecret, type Secret } from "../core/token/mac.ts";
import { importIdentityKey, type IdentityKey } from "../core/wire/identity.ts";
import { CHANNEL_HEADER } from "../core/wire/http.ts";
import type { ChannelOrder } from "../core/wire/questions.ts";
import type { AuthorityRpc } from "../core/wire/rpc.ts";
import { config } from "../legate.config.ts";

/** What of an agent's object the gate uses. */
export interface AgentStub {
  /** By address and parts, not by a Request, which the platform would only copy again (workerd, 2026-11). */
  fetch(url: string, init: RequestInit): Promise<Response>;
}

/** One of the sixteen login limiters (durable-objects/login-limiter.ts). */
export type LimiterStub = DurableObjectStub<import("./index.ts").LoginLimiter>;

export interface Edge {
  readonly issuer: string;
  readonly config: LegateConfig;
  readonly db: D1Database;
  readonly idMac: IdMac;
  readonly random: RandomBytes;
  readonly sessionKey: TokenKey;
  readonly cookieKey: TokenKey;
  /** Signing secret first: for keys of audiences, derived when asked for. */
  readonly secrets: readonly LiveSecret[];
  /** Seals handles of connections, which outlive a rotation of the secret. */
  readonly connectionKey: SealKey;
  readonly cursorKey: SealKey;
  readonly deviceKey: SealKey;
  /** Tags tickets, so that an invented one touches no object. */
  readonly ticketKey: SealKey;
  /** Keys of envelopes, by agents' Worker; the first signs. */
  readonly identityKeys: ReadonlyMap<string, readonly IdentityKey[]>;
  readonly bootstrap: string | null;
  /** Public halves of the configured signing keys, for jwks.json. */
  readonly publicJwks: readonly PublicJwk[];
  now(): EpochMs;
  /** Asks a user's SessionAuthority. Whatever goes wrong on the way is `authority_unavailable`, never a throw. */
  ask<T>(user: UserId, question: (authority: AuthorityRpc) => Promise<Result<T, Denial>>): Promise<Result<T, Denial>>;
  /** Opens a control channel: a request that is built here, to the user's own object. Null: out of reach. */
  channel(user: UserId, order: ChannelOrder): Promise<WebSocket | null>;
  /** The agent's object of that exact name, or null where the binding is missing. */
  agent(entry: AgentEntry, object: string): AgentStub | null;
  limiter(index: number): LimiterStub;
  /** False when an anonymous caller of that address has asked too often. */
  anonymousMayAsk(address: string): Promise<boolean>;
  /** Telemetry; never throws, never waits. */
  event(kind: string, detail: readonly string[]): void;
}

/** Optional secrets: wrangler.jsonc cannot list them without requiring them. */
interface OptionalEnv {
  readonly LEGATE_SECRET_ALSO?: string;
  readonly LEGATE_BOOTSTRAP?: string;
  readonly LEGATE_OIDC_KEYS?: string;
  readonly LEGATE_RECEIPT_KEYS?: string;
}

/** Members that a public key has (RFC 7517 §4, RFC 7518 §6.2.1, RFC 8037 §2); what is not named here is not copied. */
const PUBLIC_MEMBERS = ["kty", "crv", "x", "y", "kid", "alg", "use"] as const;
export type PublicJwk = Readonly<Partial<Record<(typeof PUBLIC_MEMBERS)[number], string>>> & {
  /** RFC 7517 §4.7: a certificate of the key itself, for those who take no key without one (Ceph). */
  readonly x5c?: readonly string[];
};

function publicJwksOf(name: string, text: string | undefined): readonly PublicJwk[] {
  if (!text) return [];
  const mistake = new Error(`${name} must be a JSON array of private JWKs; make one with: npm run keys`);
  let keys: unknown;
  try {
    keys = JSON.parse(text);
  } catch {
    throw mistake; // without its cause, which would quote the text
  }
  if (!Array.isArray(keys)) throw mistake;
  return keys.map((key: unknown) => {
    if (typeof key !== "object" || key === null) throw mistake;
    const members = PUBLIC_MEMBERS.map((member) => [member, (key as Record<string, unknown>)[member]] as const);
    const { x5c } = key as { x5c?: unknown };
    const isChain = Array.isArray(x5c) && x5c.every((certificate) => typeof certificate === "string");
    return {
      ...Object.fromEntries(members.filter(([, value]) => typeof value === "string")),
      ...(isChain ? { x5c } : {}),
    };
  });
}

const made = new WeakMap<Env, Edge>();

/** What `edgeOf` has made before: nothing to wait for. */
export function knownEdge(env: Env): Edge | undefined {
  return made.get(env);
}

export async function edgeOf(env: Env): Promise<Edge> {
  const known = knownEdge(env);
  if (known !== undefined) return known;
  const edge = await makeEdge(env);
  made.set(env, edge);
  return edge;
}

function requireSecret(name: string, text: string | undefined): Secret {
  const secret = parseSecret(text ?? "");
  if (secret === null)
    throw new Error(`${name} must be 32 random bytes in base64url; make one with: npm run keys -- secret`);
  return secret;
}

async function makeEdge(env: Env): Promise<Edge> {
  const optional = env as Env & OptionalEnv;
  const issuer = env.LEGATE_ISSUER;
  if (!/^https:\/\/[^/]+$|^http:\/\/(?:127\.0\.0\.1|localhost)(?::\d+)?$/.test(issuer)) {
    throw new Error("LEGATE_ISSUER must be this deployment's https origin, without a slash at the end.");
  }
  const forgeable = audienceWithin(config, issuer);
  if (forgeable !== null)
    throw new Error(
      `legate.config.ts names the audience ${forgeable}, which is this deployment: its key signs sessions.`,
    );
  const roots = [requireSecret("LEGATE_SECRET", env.LEGATE_SECRET)];
  if (optional.LEGATE_SECRET_ALSO) roots.push(requireSecret("LEGATE_SECRET_ALSO", optional.LEGATE_SECRET_ALSO));
  const idKey = decodeBase64url(env.LEGATE_ID_KEY ?? "");
  if (idKey === null || idKey.length !== 32)
    throw new Error("LEGATE_ID_KEY must be 32 random bytes in base64url; make one with: npm run keys -- id");
  const secrets = await liveSecrets(roots);
  const bindings = env as unknown as Record<string, unknown>;
  return {
    issuer,
    config,
    db: env.DB,
    idMac: (text) => createHmac("sha256", idKey).update(text).digest(),
    random: (length) => crypto.getRandomValues(new Uint8Array(length)),
    sessionKey: await sessionTokenKey(secrets, issuer),
    cookieKey: await cookieTokenKey(secrets, issuer),
    secrets,
    connectionKey: await sealKey(secrets, LABEL.connection),
    cursorKey: await sealKey(secrets, LABEL.cursor),
    deviceKey: await sealKey(secrets, LABEL.device),
    ticketKey: await sealKey(secrets, LABEL.ticket),
    identityKeys: await identityKeysOf(config, roots),
    bootstrap: optional.LEGATE_BOOTSTRAP || null,
    publicJwks: [
      ...publicJwksOf("LEGATE_OIDC_KEYS", optional.LEGATE_OIDC_KEYS),
      ...publicJwksOf("LEGATE_RECEIPT_KEYS", optional.LEGATE_RECEIPT_KEYS),
    ],
    now: () => Date.now() as EpochMs,
    async ask(user, question) {
      try {
        return await question(env.AUTHORITY.getByName(user));
      } catch {
        return err({ reason: "authority_unavailable" });
      }
    },
    async channel(user, order) {
      const headers = { upgrade: "websocket", [CHANNEL_HEADER]: JSON.stringify(order) };
      try {
        return (await env.AUTHORITY.getByName(user).fetch("https://authority/channel", { headers })).webSocket;
      } catch {
        return null;
      }
    },
    agent(entry, object) {
      const namespace = bindings[entry.binding] as DurableObjectNamespace | undefined;
      return namespace === undefined ? null : namespace.getByName(object);
    },
    limiter: (index) => env.LOGIN_LIMITER.getByName(`limiter-${index}`),
    async anonymousMayAsk(address) {
      try {
        return (await env.ANON_LIMIT.limit({ key: address })).success;
      } catch {
        return true; // the limiter protects against floods; its own failure must not lock everyone out
      }
    },
    event(kind, detail) {
      try {
        env.EVENTS?.writeDataPoint({ indexes: [kind], blobs: [kind, ...detail] });
      } catch {
        // telemetry is never worth an answer
      }
    },
  };
}

async function identityKeysOf(
  checked: LegateConfig,
  roots: readonly Secret[],
): Promise<Map<string, readonly IdentityKey[]>> {
  const keys = new Map<string, readonly IdentityKey[]>();
  for (const { worker } of checked.agents.values()) {
    if (keys.has(worker)) continue;
    const ofWorker: IdentityKey[] = [];
    for (const root of roots)
      ofWorker.push(await importIdentityKey((await deriveBytes(root, LABEL.identity(worker))).revealBytes()));
    keys.set(worker, ofWorker);
  }
  return keys;
}
