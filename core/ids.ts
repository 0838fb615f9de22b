/**
 * Branded ids and units. An id says where it lives: from `ses_<user>_…` the edge knows the object to ask without a
 * look-up. Wherever an id is written it ends in a short MAC tag under `LEGATE_ID_KEY`, which gives no right: it only
 * lets the edge refuse invented ids before it touches an object (DESIGN.md §4). Never derive an object's name from an
 * id that is neither tagged nor taken from a verified token.
 *
 *   usr_<random><tag>   agt_<owner>_<random><tag>   ses_<user>_<random><tag>   hld_…   rct_…
 *
 * `<random>`, and the `<owner>` or `<user>` that repeats a user's random part, are 20 characters of lower-case base32
 * (RFC 4648 alphabet; 100 bits), the tag 8 (40 bits): an invented id reaches an object once in 2^40 tries.
 */
import { encodeBase64url } from "./base64url.ts";
import { BLOCK_NONCE_LENGTH, INSTANCE_LENGTH_MAX, SEGMENTS_MAX, SLUG_LENGTH_MAX } from "./limits.ts";

declare const brand: unique symbol;
type Brand<T, B extends string> = T & { readonly [brand]: B };

export type UserId = Brand<string, "UserId">;
export type AgentId = Brand<string, "AgentId">;
export type SessionId = Brand<string, "SessionId">;
export type HoldId = Brand<string, "HoldId">;
export type ReceiptId = Brand<string, "ReceiptId">;
/** Drawn by the object for one slice; known to one isolate. */
export type LeaseId = Brand<string, "LeaseId">;
/** `ses_….segment…`: a place in the delegation tree. A session's root is its id. */
export type NodePath = Brand<string, "NodePath">;
/** Made by the agent's side for one socket or stream. */
export type ConnectionId = Brand<string, "ConnectionId">;
/** Made by the gate for one call. */
export type CallId = Brand<string, "CallId">;
export type Slug = Brand<string, "Slug">;
/** Whole seconds since 1970, as in a JWT's NumericDate. */
export type EpochSeconds = Brand<number, "EpochSeconds">;
/** Milliseconds since 1970, as `Date.now()` gives them. */
export type EpochMs = Brand<number, "EpochMs">;
/** Millionths of the deployment's unit of account: a non-negative safe integer. */
export type Micros = Brand<number, "Micros">;

/** HMAC-SHA256 of a text under `LEGATE_ID_KEY`, synchronous; at least the first five bytes. Given by the shell. */
export type IdMac = (text: string) => Uint8Array;
/** Cryptographically strong random bytes, given by the shell. */
export type RandomBytes = (length: number) => Uint8Array;

const BASE32 = "abcdefghijklmnopqrstuvwxyz234567";
const RANDOM_LENGTH = 20;
const TAG_LENGTH = 8;
const PART = `[a-z2-7]{${RANDOM_LENGTH}}`;
const TAGGED = `${PART}[a-z2-7]{${TAG_LENGTH}}`;
const USER_PATTERN = new RegExp(`^usr_${TAGGED}$`);
const OWNED_PATTERNS = {
  agt: new RegExp(`^agt_${PART}_${TAGGED}$`),
  ses: new RegExp(`^ses_${PART}_${TAGGED}$`),
  hld: new RegExp(`^hld_${PART}_${TAGGED}$`),
  rct: new RegExp(`^rct_${PART}_${TAGGED}$`),
} as const;
const SEGMENT_PATTERN = new RegExp(
  `^(?:[A-Za-z0-9_-]{${BLOCK_NONCE_LENGTH}}|~[a-z][a-z0-9-]{0,${SLUG_LENGTH_MAX - 1}})$`,
);
const SLUG_PATTERN = new RegExp(`^[a-z][a-z0-9-]{0,${SLUG_LENGTH_MAX - 1}}$`);
const INSTANCE_PATTERN = new RegExp(`^[A-Za-z0-9_-]{1,${INSTANCE_LENGTH_MAX}}$`);

type OwnedIds = { agt: AgentId; ses: SessionId; hld: HoldId; rct: ReceiptId };

function base32(bytes: Uint8Array, length: number): string {
  let text = "";
  for (let i = 0; i < length; i++) text += BASE32[(bytes[i] as number) & 31] as string;
  return text;
}

function tagOf(untagged: string, mac: IdMac): string {
  // Five bits of each of the first eight bytes; the MAC is uniform, so nothing is lost but length.
  return base32(mac(untagged), TAG_LENGTH);
}

/** @returns a new user's id, tagged */
export function makeUserId(random: RandomBytes, mac: IdMac): UserId {
  const untagged = `usr_${base32(random(RANDOM_LENGTH), RANDOM_LENGTH)}`;
  return `${untagged}${tagOf(untagged, mac)}` as UserId;
}

/** @returns a new id of the given kind that lives in `user`'s object, tagged */
export function makeOwnedId<K extends keyof OwnedIds>(
  kind: K,
  user: UserId,
  random: RandomBytes,
  mac: IdMac,
): OwnedIds[K] {
  const untagged = `${kind}_${user.slice(4, 4 + RANDOM_LENGTH)}_${base32(random(RANDOM_LENGTH), RANDOM_LENGTH)}`;
  return `${untagged}${tagOf(untagged, mac)}` as OwnedIds[K];
}

function isTagged(id: string, mac: IdMac): boolean {
  const at = id.length - TAG_LENGTH;
  return tagOf(id.slice(0, at), mac) === id.slice(at); // a filter, no secret to time: any id shown anywhere has its tag
}

/** @returns the id, or null unless it has the grammar and a tag of this deployment */
export function parseUserId(text: string, mac: IdMac): UserId | null {
  return USER_PATTERN.test(text) && isTagged(text, mac) ? (text as UserId) : null;
}

/** @returns the id, or null unless it has the grammar of that kind and a tag of this deployment */
export function parseOwnedId<K extends keyof OwnedIds>(kind: K, text: string, mac: IdMac): OwnedIds[K] | null {
  return OWNED_PATTERNS[kind].test(text) && isTagged(text, mac) ? (text as OwnedIds[K]) : null;
}

/** The user in whose object a tagged or verified id lives. The tag of the user's own id is made anew. */
export function userOf(id: AgentId | SessionId | HoldId | ReceiptId | NodePath, mac: IdMac): UserId {
  const untagged = `usr_${id.slice(4, 4 + RANDOM_LENGTH)}`;
  return `${untagged}${tagOf(untagged, mac)}` as UserId;
}

/** Grammar alone, for text that a verified MAC covers. */
export function isUserId(text: string): text is UserId {
  return USER_PATTERN.test(text);
}

/** Grammar alone, for text that a verified MAC covers. */
export function isAgentId(text: string): text is AgentId {
  return OWNED_PATTERNS.agt.test(text);
}

/** Grammar alone: a session id and at most `SEGMENTS_MAX` segments. */
export function isNodePath(text: string): text is NodePath {
  const dot = text.indexOf(".");
  if (dot === -1) return OWNED_PATTERNS.ses.test(text);
  const segments = text.slice(dot + 1).split(".");
  return (
    OWNED_PATTERNS.ses.test(text.slice(0, dot)) &&
    segments.length <= SEGMENTS_MAX &&
    segments.every((segment) => SEGMENT_PATTERN.test(segment))
  );
}

/** @returns the path, or null unless it has the grammar and its session carries a tag of this deployment */
export function parseNodePath(text: string, mac: IdMac): NodePath | null {
  return isNodePath(text) && isTagged(sessionOf(text), mac) ? text : null;
}

export function sessionOf(path: NodePath): SessionId {
  const dot = path.indexOf(".");
  return (dot === -1 ? path : path.slice(0, dot)) as SessionId;
}

/** The path one level up, or null for a session's root. */
export function parentOf(path: NodePath): NodePath | null {
  const dot = path.lastIndexOf(".");
  return dot === -1 ? null : (path.slice(0, dot) as NodePath);
}

export function childOf(path: NodePath, segment: string): NodePath {
  return `${path}.${segment}` as NodePath;
}

/** `~<slug>`: the node of what an agent behind the gate does on behalf of its caller. No block can make one. */
export function gateSegment(slug: Slug): string {
  return `~${slug}`;
}

/** Session root first, the node itself last. */
export function lineOf(path: NodePath): NodePath[] {
  const line: NodePath[] = [];
  for (let dot = path.indexOf("."); dot !== -1; dot = path.indexOf(".", dot + 1))
    line.push(path.slice(0, dot) as NodePath);
  line.push(path);
  return line;
}

/** Segments below the session. */
export function depthOf(path: NodePath): number {
  let depth = 0;
  for (let dot = path.indexOf("."); dot !== -1; dot = path.indexOf(".", dot + 1)) depth++;
  return depth;
}

/** True of the node itself and of everything under it. */
export function isAtOrBelow(path: NodePath, ancestor: NodePath): boolean {
  return path === ancestor || (path.startsWith(ancestor) && path[ancestor.length] === ".");
}

export function isSlug(text: string): text is Slug {
  return SLUG_PATTERN.test(text);
}

export function isInstance(text: string): boolean {
  return INSTANCE_PATTERN.test(text);
}

/** 72 random bits as twelve base64url characters: a block's `n`, a grant's segment. */
export function makeSegment(random: RandomBytes): string {
  return encodeBase64url(random((BLOCK_NONCE_LENGTH / 4) * 3));
}

/** 96 random bits; a name inside one object. */
export function makeLeaseId(random: RandomBytes): LeaseId {
  return encodeBase64url(random(12)) as LeaseId;
}

/** 128 random bits; unguessable, and short enough for a tag or a header. */
export function makeCallId(random: RandomBytes): CallId {
  return encodeBase64url(random(16)) as CallId;
}

/** A whole number that JSON and memory spell alike: safe, not negative, and not the nought that is. */
function isCount(value: unknown): boolean {
  return typeof value === "number" && Number.isSafeInteger(value) && value >= 0 && !Object.is(value, -0);
}

export function isMicros(value: unknown): value is Micros {
  return isCount(value);
}

export function isEpochSeconds(value: unknown): value is EpochSeconds {
  return isCount(value);
}

export function toEpochSeconds(ms: EpochMs): EpochSeconds {
  return Math.floor(ms / 1000) as EpochSeconds;
}

export function toEpochMs(seconds: EpochSeconds): EpochMs {
  return (seconds * 1000) as EpochMs;
}
