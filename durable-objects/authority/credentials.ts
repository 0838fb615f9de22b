/**
 * Credentials of clouds: exchanged once for all who ask for the same, kept as the role says, refreshed while the old one
 * still serves, and gone with their node. One exchange at a time per key; its outcome, good or bad, is everyone's. Nothing
 * is handed out after a stop, not even what an exchange that was under way brings home.
 */
import { and, asc, count, eq, gt, isNull, lt, max } from "drizzle-orm";
import { decodeBase64url } from "../../core/base64url.ts";
import { canonicalJson, type Json } from "../../core/audit/canonical.ts";
import { scopesWithin } from "../../core/config.ts";
import { freshnessOf, jitterOf } from "../../core/credential/freshness.ts";
import { subjectOf, tagsOf, tagValue } from "../../core/credential/identity.ts";
import { permitRole } from "../../core/credential/permit.ts";
import { bindPolicy, denyPolicy } from "../../core/credential/policy.ts";
import type { Role } from "../../core/credential/roles.ts";
import type { Secrets } from "../../core/credential/sts.ts";
import type { Denial } from "../../core/denial.ts";
import { lineOf, sessionOf, toEpochSeconds, type EpochMs, type EpochSeconds, type NodePath } from "../../core/ids.ts";
import { CREDENTIAL_LIFE_MIN_SECONDS, CREDENTIAL_SERVE_MIN_MS, CREDENTIALS_USER_MAX } from "../../core/limits.ts";
import { err, ok, type Result } from "../../core/result.ts";
import { SECRET_BYTES } from "../../core/token/mac.ts";
import type { CredentialQuestion, CredentialView } from "../../core/wire/credentials.ts";
import type { StopPlane } from "../../core/wire/answers.ts";
import * as t from "../../drizzle/authority/credential-tables.ts";
import { nodes } from "../../drizzle/authority/schema.ts";
import type { Alarms } from "./alarms.ts";
import type { Audit } from "./audit.ts";
import type { Context } from "./context.ts";
import { MemoryStore, SealedStore, Vault, type CredentialStore } from "./credential-store.ts";
import { Attempts } from "./credentials/attempts.ts";
import { fly, type Flown, type Wanted } from "./credentials/flight.ts";
import { signerOf, type Signer } from "./credentials/signer.ts";
import { Uses } from "./credentials/uses.ts";
import { atOrBelow, type Lines } from "./line.ts";

/** What is known of an entry beside its secrets. */
interface Entry {
  readonly owner: NodePath;
  readonly role: string;
  readonly madeAt: number;
  readonly expiresAt: number;
  usedAt: number;
}

/** What the caller may have, and when its session ends. */
interface Permitted {
  readonly role: Role;
  readonly sessionEnd: number;
}

const NO_KEY: Denial = { reason: "exchange_failed", kind: "permanent", code: "no_signing_key", retryAfterMs: 60_000 };
/** The shortest node whose credential is still worth an exchange, where the policy itself ends it. */
const NODE_LEFT_MIN_SECONDS = (2 * CREDENTIAL_SERVE_MIN_MS) / 1000;
const NOTED_MS = 60_000; // when an entry was used last is written once a minute, not at each answer
const MINUTE_MS = 60_000;

export class Credentials {
  readonly #context: Context;
  readonly #lines: Lines;
  readonly #audit: Audit;
  readonly #signer: Promise<Signer | null>;
  readonly #keepAlive: (work: Promise<unknown>) => void;
  readonly #stores: Readonly<Record<Role["atRest"], CredentialStore>>;
  readonly #entries = new Map<string, Entry>();
  readonly #flights = new Map<string, Promise<Result<CredentialView, Denial>>>();
  readonly #attempts: Attempts;
  readonly #uses: Uses;
  /** What the rows of handouts say: a warm answer writes none. */
  readonly #handedOut = new Map<string, number>();
  /** Moves at each stop: an exchange that began before one is looked at again before anything keeps it. */
  #generation = 0;

  constructor(parts: {
    context: Context;
    lines: Lines;
    audit: Audit;
    alarms: Alarms;
    /** LEGATE_OIDC_KEYS. */
    oidcKeys: string | undefined;
    /** LEGATE_SECRET, then LEGATE_SECRET_ALSO, as configured. */
    secrets: readonly (string | undefined)[];
    keepAlive: (work: Promise<unknown>) => void;
  }) {
    this.#context = parts.context;
    this.#lines = parts.lines;
    this.#audit = parts.audit;
    this.#attempts = new Attempts(parts.context);
    this.#uses = new Uses(parts.context, parts.audit, parts.alarms);
    this.#signer = signerOf(parts.oidcKeys);
    this.#keepAlive = parts.keepAlive;
    const roots = parts.secrets
      .map((text) => decodeBase64url(text ?? ""))
      .filter((root) => root?.length === SECRET_BYTES);
    const vault = new Vault(roots as Uint8Array[], parts.context.random);
    this.#stores = { none: new MemoryStore(), encrypted: new SealedStore(parts.context.db, vault) };
  }

  /**
   * @returns the credential; or what forbids it, what ended, `credential_too_short`, `rate_limited`, `exchange_failed`
   */
  async get(question: CredentialQuestion): Promise<Result<CredentialView, Denial>> {
    const signer = await this.#signer;
    if (signer === null) return err(NO_KEY);
    const now = this.#context.now();
    const wanted = this.#context.decide(() => this.#wanted(question, signer, now));
    if (!wanted.ok) return wanted;
    const { key } = wanted.value;
    const kept = this.#kept(wanted.value);
    const freshness = kept === null ? "must-refresh" : freshnessOf(kept.entry, jitterOf(key), now);
    if (kept !== null && freshness !== "must-refresh") {
      // The next one is fetched beside the answer; whatever becomes of that, this one serves.
      if (freshness === "usable") void this.#outcome(wanted.value, signer, now);
      return this.#serve(wanted.value, question, kept.entry, kept.secrets, now);
    }
    const outcome = await this.#outcome(wanted.value, signer, now);
    if (!outcome.ok) return outcome;
    // Seconds have passed: who waited may have been ended, have run out of time, or be of another tier.
    const after = this.#context.now();
    const still = this.#context.decide(() => this.#permitted(question, after));
    if (!still.ok) return still;
    const { secrets, expiresAt } = outcome.value;
    const entry = this.#entries.get(key) ?? this.#entryOf(wanted.value, after, expiresAt);
    return this.#serve(wanted.value, question, entry, secrets, after);
  }

  /** The caller may ask for that role now, and everything above it lives. Call inside a decision. */
  #permitted({ token, provider, alias }: CredentialQuestion, now: EpochMs): Result<Permitted, Denial> {
    const live = this.#lines.requireLive(token, now);
    if (!live.ok) return live;
    const { person, session } = live.value;
    const { config, issuer } = this.#context;
    const scope = new Set(scopesWithin(config, person.tier, token.scope));
    const role = permitRole(config, issuer, { ...token, tier: person.tier, scope }, provider, alias);
    return role.ok ? ok({ role: role.value, sessionEnd: session.expiresSeconds }) : role;
  }

  /** What exactly is asked for. Call inside a decision. */
  #wanted(question: CredentialQuestion, signer: Signer, now: EpochMs): Result<Wanted, Denial> {
    const permitted = this.#permitted(question, now);
    if (!permitted.ok) return permitted;
    const { role, sessionEnd } = permitted.value;
    const { token, provider } = question;
    const owner = token.grant;
    const end = this.#endOf(owner, token.caveatExp, sessionEnd);
    const { user } = this.#context;
    const tags = tagsOf(user, token.actors, owner);
    const [session, grant] = [tags["legate-session"], tags["legate-grant"]];
    const names = { user, session, grant, agent: tags["legate-agent"] };
    const bound = role.provider === "aws" ? bindPolicy(role.policy, names, end) : null;
    if (role.provider === "aws" && bound === null)
      return err({ reason: "exchange_failed", kind: "permanent", code: "policy_too_long", retryAfterMs: MINUTE_MS });
    const leastSeconds = leastLeft(role, bound?.endsWithNode ?? false);
    const leftSeconds = end - toEpochSeconds(now);
    if (leftSeconds < leastSeconds) return err({ reason: "credential_too_short", leastSeconds, leftSeconds });
    const policy = bound?.text ?? "";
    const asked: Json = {
      provider,
      role: role.scope,
      target: role.provider === "aws" ? role.roleArn : role.audience,
      endpoint: role.endpoint,
      subject: subjectOf(user, role),
      owner,
      policy,
      end,
      tags: { ...tags },
      duration: role.durationSeconds,
      kid: signer.kid,
    };
    return ok({ key: this.#context.sha256(canonicalJson(asked)), role, owner, end, policy, tags });
  }

  /**
   * When the node ends: its grant, or a caveat before that. A node behind the gate has no grant of its own; what was
   * narrowed above it lives as long as the last token seen for it.
   */
  #endOf(owner: NodePath, caveat: EpochSeconds | null, session: number): EpochSeconds {
    const ends = [this.#lines.grantOf(owner)?.expiresSeconds ?? 0, session, caveat ?? Infinity];
    for (const path of lineOf(owner)) {
      const { kind, liveUntilSeconds } =
        this.#context.db
          .select({ kind: nodes.kind, liveUntilSeconds: nodes.liveUntilSeconds })
          .from(nodes)
          .where(eq(nodes.path, path))
          .get() ?? {};
      if (kind === "narrowed" && liveUntilSeconds !== undefined) ends.push(liveUntilSeconds);
    }
    return Math.min(...ends) as EpochSeconds;
  }

  #kept({ key, role }: Wanted): { entry: Entry; secrets: Secrets } | null {
    const secrets = this.#stores[role.atRest].get(key);
    if (secrets === null) return null;
    const known = this.#entries.get(key);
    if (known !== undefined) return { entry: known, secrets };
    const row = this.#context.db.select().from(t.credentials).where(eq(t.credentials.key, key)).get();
    if (row === undefined || row.droppedAt !== null) return null;
    const entry: Entry = { ...row, owner: row.path as NodePath };
    this.#entries.set(key, entry);
    return { entry, secrets };
  }

  #entryOf({ owner, role }: Wanted, madeAt: number, expiresAt: number): Entry {
    return { owner, role: role.scope, madeAt, expiresAt, usedAt: madeAt };
  }

  /** Joins the flight of that key, or begins one; a failure that is still fresh is the answer. */
  #outcome(wanted: Wanted, signer: Signer, now: EpochMs): Promise<Result<CredentialView, Denial>> {
    const { key, role } = wanted;
    const flying = this.#flights.get(key);
    if (flying !== undefined) return flying;
    let refused: Denial | null = null;
    this.#context.commit(() => {
      refused = this.#attempts.begin(key, role.scope, now);
    });
    if (refused !== null) return Promise.resolve(err(refused));
    const flight = this.#fly(wanted, signer).finally(() => this.#flights.delete(key));
    this.#flights.set(key, flight);
    this.#keepAlive(flight);
    return flight;
  }

  /** Never rejects. Whoever began it may be gone by its end: it belongs to the object, not to a caller. */
  async #fly(wanted: Wanted, signer: Signer): Promise<Result<CredentialView, Denial>> {
    const generation = this.#generation;
    let landed: Result<CredentialView, Denial> = err({ reason: "storage_unavailable" });
    try {
      const flown = await fly(wanted, signer, this.#context, this.#attempts.failures(wanted.key));
      this.#context.commit(() => {
        landed = this.#land(wanted, flown, generation);
      });
    } catch {
      // What could not be written is nobody's: a stop that came later would not find it.
      return err({ reason: "storage_unavailable" });
    }
    return landed;
  }

  /** What an exchange brought home, as of this moment. Call inside a decision, which a failure must not roll back. */
  #land(wanted: Wanted, { outcome, tries }: Flown, generation: number): Result<CredentialView, Denial> {
    const now = this.#context.now();
    if (generation !== this.#generation) {
      const live = this.#lines.requireLivePath(wanted.owner, now);
      if (!live.ok) return live; // discarded: nobody gets it, nothing keeps it
    }
    const facts = { role: wanted.role.scope, node: wanted.owner, tries };
    if (!outcome.ok) {
      const { code } = outcome.denial.denial;
      this.#audit.append("credential.failed", sessionOf(wanted.owner), { ...facts, code }, now);
      this.#attempts.failed(wanted.key, outcome.denial, now);
      return err(outcome.denial.denial);
    }
    const { secrets, expiresAt } = outcome.value;
    this.#write(wanted, secrets, expiresAt, now);
    this.#audit.append("credential.exchanged", sessionOf(wanted.owner), { ...facts, expires: expiresAt }, now);
    return ok({ secrets, expiresAt: expiresAt as EpochMs });
  }

  /** The row, then what the role lets rest, then memory. Call inside a decision. */
  #write(wanted: Wanted, secrets: Secrets, expiresAt: number, now: EpochMs): void {
    const { key, owner, role } = wanted;
    const { db } = this.#context;
    const row = { role: role.scope, path: owner, madeAt: now, expiresAt, usedAt: now, droppedAt: null };
    db.insert(t.credentials)
      .values({ key, ...row, sealed: null, kid: null })
      .onConflictDoUpdate({ target: t.credentials.key, set: row })
      .run();
    const store = this.#stores[role.atRest];
    store.put(key, secrets);
    this.#attempts.succeeded(key);
    const gone = this.#sweep(now);
    this.#context.afterCommit(() => {
      store.keep(key, secrets);
      this.#entries.set(key, this.#entryOf(wanted, now, expiresAt));
      for (const old of gone) this.#forget(old);
    });
  }

  /** Removes what is over, and the least used of more than may be kept. */
  #sweep(now: EpochMs): string[] {
    const { db } = this.#context;
    const over = db
      .delete(t.credentials)
      .where(lt(t.credentials.expiresAt, now))
      .returning({ key: t.credentials.key })
      .all();
    db.delete(t.credentialHandouts).where(lt(t.credentialHandouts.until, now)).run();
    const kept = db.select({ n: count() }).from(t.credentials).where(isNull(t.credentials.droppedAt)).get()?.n ?? 0;
    const excess = db
      .select({ key: t.credentials.key })
      .from(t.credentials)
      .where(isNull(t.credentials.droppedAt))
      .orderBy(asc(t.credentials.usedAt))
      .limit(Math.max(0, kept - CREDENTIALS_USER_MAX))
      .all();
    for (const { key } of excess) db.delete(t.credentials).where(eq(t.credentials.key, key)).run();
    return [...over, ...excess].map(({ key }) => key);
  }

  #forget(key: string): void {
    this.#entries.delete(key);
    this.#stores.none.forget(key);
    this.#stores.encrypted.forget(key);
  }

  #serve(
    { key, owner, role }: Wanted,
    { token }: CredentialQuestion,
    entry: Entry,
    secrets: Secrets,
    now: EpochMs,
  ): Result<CredentialView, Denial> {
    const until = entry.expiresAt;
    this.#uses.count(role.scope, now);
    const place = `${token.node} ${role.scope}`;
    if ((this.#handedOut.get(place) ?? 0) < until) {
      this.#context.commit(() => {
        const row = { owner, until };
        this.#context.db
          .insert(t.credentialHandouts)
          .values({ path: token.node, role: role.scope, ...row })
          .onConflictDoUpdate({ target: [t.credentialHandouts.path, t.credentialHandouts.role], set: row })
          .run();
      });
      if (this.#handedOut.size >= 1_000) this.#handedOut.clear();
      this.#handedOut.set(place, until);
    }
    if (now - entry.usedAt > NOTED_MS) {
      entry.usedAt = now;
      this.#context.commit(() => {
        this.#context.db.update(t.credentials).set({ usedAt: now }).where(eq(t.credentials.key, key)).run();
      });
    }
    return ok({ secrets, expiresAt: until as EpochMs });
  }

  /** A stop's part: entries of the node and below are gone with the mark. Call inside its decision. */
  drop(path: NodePath, now: EpochMs): void {
    const gone = this.#context.db
      .update(t.credentials)
      .set({ sealed: null, kid: null, droppedAt: now })
      .where(and(atOrBelow(t.credentials.path, path), isNull(t.credentials.droppedAt)))
      .returning({ key: t.credentials.key })
      .all();
    this.#generation++; // at once: a flight that lands in this very turn must look again
    if (gone.length > 0)
      this.#audit.append("credential.dropped", sessionOf(path), { node: path, dropped: gone.length }, now);
    this.#context.afterCommit(() => gone.forEach(({ key }) => this.#forget(key)));
  }

  /** The stop report's line: what was dropped, until when what was handed out lives, and the text that ends it at AWS. */
  line(path: NodePath, now: EpochMs): StopPlane | null {
    const { db } = this.#context;
    const dropped = db
      .select({ n: count(), at: max(t.credentials.droppedAt) })
      .from(t.credentials)
      .where(atOrBelow(t.credentials.path, path))
      .get();
    const out = db
      .select()
      .from(t.credentialHandouts)
      .where(and(atOrBelow(t.credentialHandouts.path, path), gt(t.credentialHandouts.until, now)))
      .all();
    if ((dropped?.n ?? 0) === 0 && out.length === 0) return null;
    const owners = [...new Set(out.filter(({ role }) => role.startsWith("aws:")).map(({ owner }) => tagValue(owner)))];
    return {
      name: "credentials",
      dropped: dropped?.n ?? 0,
      pending: 0,
      until: out.length === 0 ? null : (Math.max(...out.map(({ until }) => until)) as EpochMs),
      ...(owners.length === 0 ? {} : { denyPolicy: denyPolicy(owners, dropped?.at ?? now) }),
    };
  }
}

/** Seconds that a node must have left: none outlives it, and clouds make none that is shorter. */
function leastLeft(role: Role, endsWithNode: boolean): number {
  if (role.provider === "aws") return endsWithNode ? NODE_LEFT_MIN_SECONDS : CREDENTIAL_LIFE_MIN_SECONDS;
  // A service account's token lives as long as it is asked for; the others as long as their cloud likes.
  return role.provider === "gcp" && role.serviceAccount !== null ? NODE_LEFT_MIN_SECONDS : role.durationSeconds;
}
