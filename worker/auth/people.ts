/**
 * Signing up, in and out. D1 knows names and password hashes; the person's object opens the session that the cookie
 * stands for, and ends it. At sign-in an unknown name, a wrong password and a disabled person get one answer, after the
 * same work. Nothing here says which it was, or writes a password anywhere.
 */
import * as z from "zod/mini";
import { isTier } from "../../core/config.ts";
import type { Denial } from "../../core/denial.ts";
import { makeUserId, type NodePath, type UserId } from "../../core/ids.ts";
import { PASSWORD_LENGTH_MAX, USERNAME_LENGTH_MAX } from "../../core/limits.ts";
import { err, ok, type Result } from "../../core/result.ts";
import type { VerifiedToken } from "../../core/token/verify.ts";
import type { GrantView } from "../../core/wire/answers.ts";
import type { By, Enrolment } from "../../core/wire/questions.ts";
import { findUserById, findUserByName, insertUser, replacePasswordHash } from "../../drizzle/d1/queries.ts";
import type { UserRow } from "../../drizzle/d1/rows.ts";
import { readJson } from "../body.ts";
import type { Answer, Call, SessionCaller } from "../call.ts";
import { identify, originOf } from "../inbound.ts";
import { grantCookie } from "../oauth/mint.ts";
import { empty, json } from "../respond.ts";
import { checkBootstrap } from "./bootstrap.ts";
import { CLEARED_SESSION_COOKIE, deviceCookie, sessionCookie } from "./cookies.ts";
import { hashPassword, passwordFits, passwordProblem } from "./password.ts";
import { countSignIn } from "./tries.ts";
import { isUsername } from "./username.ts";

/** Generous where the person is told what is wrong in words, below. */
const credentials = {
  username: z.string().check(z.minLength(1), z.maxLength(USERNAME_LENGTH_MAX)),
  password: z.string().check(z.minLength(1), z.maxLength(2 * PASSWORD_LENGTH_MAX)),
};
const registration = z.strictObject({ ...credentials, bootstrap: z.optional(z.string().check(z.maxLength(256))) });
const signIn = z.strictObject(credentials);

const SIGN_IN_FAILED: Result<never, Denial> = err({ reason: "sign_in_failed" });
/** How often sign-in looks again whether D1's tier has changed under it. */
const TIER_TRIES = 3;

function byPerson(id: UserId): By {
  return { kind: "person", id, reason: null };
}

export async function register(call: Call): Promise<Answer> {
  const { edge, now } = call;
  const body = await readJson(call.request, registration);
  if (!body.ok) return body;
  const { username, password, bootstrap } = body.value;
  if (!isUsername(username)) {
    return err({
      reason: "request_invalid",
      detail: `"username": up to ${USERNAME_LENGTH_MAX} letters, digits and . _ @ + -, a letter or digit first.`,
    });
  }
  const problem = passwordProblem(password, username);
  if (problem !== null) return err({ reason: "request_invalid", detail: problem });
  const code = bootstrap === undefined ? ok(null) : await checkBootstrap(bootstrap, edge, now);
  if (!code.ok) return code;
  // Asked before the work of hashing; the index decides in the end.
  const namesake = await findUserByName(edge.db, username);
  if (!namesake.ok) return namesake;
  if (namesake.value !== null) return err({ reason: "username_taken" });
  const row: UserRow = {
    id: makeUserId(edge.random, edge.idMac),
    username,
    passwordHash: await hashPassword(password, edge.random),
    tier: code.value === null ? "free" : "admin",
    createdAt: now,
  };
  const inserted = await insertUser(edge.db, row, code.value);
  if (!inserted.ok) return inserted;
  // The commit point. Should the object be out of reach now, the person exists and signs in a little later.
  return signedIn(call, row, 201);
}

export async function login(call: Call): Promise<Answer> {
  const { edge } = call;
  const body = await readJson(call.request, signIn);
  if (!body.ok) return body;
  const { username, password } = body.value;
  const counted = await countSignIn(call, username);
  if (!counted.ok) return counted;
  const found = await findUserByName(edge.db, username);
  if (!found.ok) {
    await counted.value.refund(); // nothing was learnt from it
    return found;
  }
  const row = found.value;
  const { fits, isOutdated } = await passwordFits(password, row?.passwordHash ?? null);
  if (row === null || !fits) {
    edge.event("sign_in_failed", [row === null ? "unknown" : "password"]);
    return SIGN_IN_FAILED;
  }
  const settled = await settleTier(call, row);
  if (!settled.ok) return settled.denial.reason === "user_disabled" ? SIGN_IN_FAILED : settled;
  await counted.value.refund();
  if (isOutdated) {
    const fresh = await hashPassword(password, edge.random);
    // Not worth the sign-in: where D1 fails now, the next one tries again.
    await replacePasswordHash(edge.db, row.id, row.passwordHash, fresh);
  }
  const answer = await signedIn(call, row, 200);
  return answer.ok || answer.denial.reason !== "user_disabled" ? answer : SIGN_IN_FAILED;
}

function enrolmentOf({ username, tier, createdAt }: UserRow): Enrolment {
  return { username, tier, createdAt: createdAt as Enrolment["createdAt"] };
}

/**
 * The object's tier decides, and D1's is where a deployment changes it (`npm run users -- tier`, PATCH /admin/users): a
 * sign-in carries it over. Written, then read again until both agree, so that an older reading never has the last word
 * over an operator, who writes D1 first.
 */
async function settleTier(call: Call, row: UserRow): Promise<Result<null, Denial>> {
  const id = row.id as UserId;
  const person = await call.edge.ask(id, (authority) => authority.enrol(enrolmentOf(row)));
  if (!person.ok) return person;
  if (person.value.state === "disabled") return err({ reason: "user_disabled" });
  let { tier } = row;
  if (person.value.tier === tier) return ok(null);
  for (let tries = 0; tries < TIER_TRIES; tries++) {
    const wanted = tier;
    const by: By = { kind: "legate", id: "users", reason: "The tier was changed in D1." };
    const changed = await call.edge.ask(id, (authority) => authority.setTier(wanted, by));
    if (!changed.ok) return changed;
    const again = await findUserById(call.edge.db, id);
    if (!again.ok) return again;
    if (again.value === null || !isTier(again.value.tier)) return SIGN_IN_FAILED;
    if (again.value.tier === wanted) return ok(null);
    tier = again.value.tier;
  }
  return err({ reason: "storage_unavailable" });
}

function open(call: Call, row: UserRow): Promise<Result<GrantView, Denial>> {
  return call.edge.ask(row.id as UserId, (authority) =>
    authority.open({
      kind: "person",
      enrolment: enrolmentOf(row),
      client: null,
      scope: null,
      agents: null,
      budget: null,
      ttlSeconds: null,
      origin: originOf(call.request),
      cookie: null,
      by: byPerson(row.id as UserId),
      idempotency: null,
    }),
  );
}

/** A new session and its cookie; the one that the browser came with ends (OWASP ASVS 5.0, 7.2.4). */
async function signedIn(call: Call, row: UserRow, status: 200 | 201): Promise<Answer> {
  const { edge, request, now } = call;
  const grant = await open(call, row);
  if (!grant.ok) return grant;
  const before = await identify(request, edge, now);
  if (before.via === "cookie" && before.token.ok) await signOut(call, before.token.value);
  const cookie = await grantCookie(edge, grant.value, now);
  const answer = json({ user: userView(row, grant.value.tier) }, status);
  answer.headers.append("set-cookie", sessionCookie(cookie.token));
  answer.headers.append("set-cookie", await deviceCookie(request, row.username, edge));
  return ok(answer);
}

function userView({ id, username, createdAt }: UserRow, tier: string): object {
  return { id, username, tier, createdAt };
}

function signOut({ edge }: Call, token: VerifiedToken): Promise<Result<unknown, Denial>> {
  return edge.ask(token.subject, (authority) =>
    authority.terminate({
      path: token.session as string as NodePath,
      why: "signed_out",
      by: byPerson(token.subject),
      reach: { kind: "person", cookie: null },
      wait: false,
      idempotency: null,
    }),
  );
}

/** Ends the session at its object; one that had ended already is as good. */
export async function logout(call: Call, { token }: SessionCaller): Promise<Answer> {
  const ended = await signOut(call, token);
  if (!ended.ok && ended.denial.reason !== "already_ended") return ended;
  return ok(empty(204, { "set-cookie": CLEARED_SESSION_COOKIE }));
}

export async function user(call: Call, { token }: SessionCaller): Promise<Answer> {
  const person = await call.edge.ask(token.subject, (authority) => authority.check(token));
  if (!person.ok) return person;
  const row = await findUserById(call.edge.db, token.subject);
  if (!row.ok) return row;
  if (row.value === null) return err({ reason: "not_found" });
  return ok(json({ user: userView(row.value, person.value.tier) }));
}
