/**
 * Every bound on what others send, and every lifetime, in one place; the unit is in the name, the reason beside it.
 * Tests try each at the edge value and one over. Nothing here is configuration: a deployment can only be stricter
 * (`legate.config.ts` limits).
 */

// The token (DESIGN.md §3).
export const TOKEN_LENGTH_MAX_BYTES = 4_096; // a header of more is an attack; counted before any HMAC
export const ACTORS_MAX = 8; // deeper chains are a loop or an attack
export const SEGMENTS_MAX = 12; // of a node path below its session, counted over the whole path before any HMAC
export const BLOCKS_MAX = SEGMENTS_MAX; // each block is a segment
export const BLOCK_NONCE_LENGTH = 12; // 72 random bits: two narrowings never share a node by accident
export const SLUG_LENGTH_MAX = 64;
export const INSTANCE_LENGTH_MAX = 64; // becomes part of a Durable Object's name, which ends at 1,024 bytes
export const SCOPES_MAX = 64; // of one token; a longer list is a mistake
export const SCOPE_LENGTH_MAX = 64;
export const AGENTS_MAX = 64; // slugs that one block may name

// Lifetimes.
export const TOKEN_LIFE_MAX_SECONDS = 3_600; // a window in a grant; renewing is one asymmetric check
export const COOKIE_LIFE_SECONDS = 43_200; // a working day
export const DELEGATION_LIFE_MAX_SECONDS = 300; // Legate-Delegation lives in an agent's memory only
export const FOREIGN_AUDIENCE_LIFE_MAX_SECONDS = 300; // a stop reaches those servers no later than this
export const GRANT_LIFE_MIN_SECONDS = 60; // shorter grants are asked for by mistake; a block's exp may be shorter
export const GRANT_LIFE_DEFAULT_SECONDS = 3_600;
export const GRANT_LIFE_MAX_SECONDS = 86_400; // an agent that runs longer opens another session
export const CLOCK_SKEW_SECONDS = 1; // hosts' clocks are assumed that close (docs/threats.md); an end has no skew at all
export const ASSERTION_LIFE_MAX_SECONDS = 60; // RFC 7523 §3: short, because its jti is remembered that long
export const ASSERTION_SKEW_SECONDS = 30; // clocks of agents' machines; our own tokens have none
export const ENVELOPE_SLACK_MS = 2_000; // the way from the gate to the agent's object (DESIGN.md §2)
export const ASK_LIFE_MS = 2_000; // an asked call counts as a live lease no longer than its envelope
export const LEASE_DEFAULT_MS = 2_000; // a stop waits that long; a caller at 10 a second asks every twentieth call
export const LEASE_MAX_MS = 10_000; // longer, and a stop is no stop
export const LOST_SLICE_MS = 60_000; // then a slice that nobody reported is settled in full
export const HOLD_LIFE_DEFAULT_MS = 600_000; // a call that has not settled by then is charged in full
export const TICKET_LIFE_MS = 30_000; // from buying it to knocking
export const EXPIRING_LEAD_MS = 60_000; // a client is told that long before its token's end, or a third of its window
export const IDLE_DEFAULT_SECONDS = 3_600; // a socket that has sent nothing for that long is closed with 4408
export const RECONCILE_MS = 300_000; // how often agents' objects are asked which of their connections are still open
export const HOLD_LIFE_SECONDS = 60; // of a resource server, where it names none
export const HOLD_LIFE_MAX_SECONDS = 3_600;
export const STREAM_LIFE_MS = 3_600_000; // no stream outlives its token's window
export const IDEMPOTENCY_LIFE_MS = 86_400_000;
export const OUTSIDE_DEADLINE_MS = 5_000; // for anything an object asks of another party
export const BOOTSTRAP_LIFE_SECONDS = 86_400; // the first operator signs up on the day of the deployment

// The tree below a session (DESIGN.md §3).
export const LIVE_CHILDREN_MAX = 64;
export const LIVE_NODES_SESSION_MAX = 1_000;
export const LIVE_NODES_BELOW_MAX = 250;
export const CHARGES_HOLD_MAX = 1_000; // of one call: an agent that charges by the token gathers first
export const CHARGES_SOCKET_KEPT = 16; // to know a repeated one by: a socket charges one at a time
export const CONNECTIONS_SESSION_MAX = 1_000;
export const CONNECTIONS_USER_MAX = 10_000; // one object takes 32,768 sockets of its own; these are rows
export const CHANNELS_SESSION_MAX = 16; // control channels of one session: one a client
export const TICKETS_USER_MAX = 2_000; // not used yet; each lives half a minute
export const TICKETS_SESSION_MAX = 200; // so that one session's hoard is not everyone's
export const TICKETS_NODE_MAX = 50; // at or below a node that was handed on: a sub-agent's is not its parent's
export const STOP_NAMES_MAX = 500; // connections named in one order to an agent's object
export const IDEMPOTENCY_KEYS_SESSION_MAX = 10_000;
export const AGENTS_USER_MAX = 200;
export const SESSIONS_USER_MAX = 1_000; // open at one time

// The isolate's memory of verified tokens.
export const REMEMBERED_TOKENS_MAX = 2_000;
export const REMEMBERED_TOKENS_SESSION_MAX = 64; // one session can't push everyone else out

// The isolate's leases (worker/leases.ts).
export const LEASED_NODES_MAX = 2_000;
export const LEASED_REFUSALS_MAX = 2_000;
export const REFUSALS_SECOND_MAX = 20; // then the isolate refuses by itself, so that a refused caller can't drown its object
export const REFUSALS_FOLDED_MS = 60_000; // what one call is refused again and again is a row of the log a minute
export const REPORTS_CALL_MAX = 50; // slices told of in one call
export const REPORT_DELAY_MS = 500; // time for a report to ride on a call that is made anyway

// What comes in.
export const BODY_MAX_BYTES = 65_536;
export const AGENT_BODY_MAX_BYTES = 1_048_576; // of a request to a protected agent; larger things go by reference
export const JSON_DEPTH_MAX = 32;
export const HEADER_VALUE_MAX_BYTES = 8_192;
export const USERNAME_LENGTH_MAX = 64;
export const PASSWORD_LENGTH_MIN = 8;
export const PASSWORD_LENGTH_MAX = 256;
export const REASON_LENGTH_MAX = 500;
export const CLIENT_NAME_LENGTH_MAX = 100;
export const USER_AGENT_LENGTH_MAX = 256;
export const IDEMPOTENCY_KEY_LENGTH_MAX = 128;
export const PAGE_ROWS_MAX = 100;
export const PAGE_ROWS_DEFAULT = 25;
export const ROLE_DAYS_MAX = 366; // of what roles were asked for: a row for each role and day
export const ROLE_DAYS_DEFAULT = 7;

// Towards D1.
export const DELIVERY_BATCH_ROWS = 40; // each is two or three statements in one D1 batch
export const DELIVERY_DELAY_MS = 250; // gathers a burst into one batch; an operator's list is that much behind

// Cloud credentials (core/credential/**).
export const EXCHANGE_DEADLINE_MS = 10_000; // over the whole answer: a body that is sent by the byte ends there too
export const FLIGHT_DEADLINE_MS = 25_000; // of what waiters share: two tries of an exchange, and the pause between them
export const EXCHANGE_ANSWER_MAX_BYTES = 65_536; // an STS answer is 2 KiB; AWS warns that session tokens may grow
export const EXCHANGES_MINUTE_MAX = 10; // of one user and role: more is a key that changes with every call
export const WEB_IDENTITY_LIFE_SECONDS = 300; // a JWT that an STS reads once, at once
export const CREDENTIAL_LIFE_MIN_SECONDS = 900; // AWS STS takes no less
export const CREDENTIAL_LIFE_MAX_SECONDS = 43_200; // and no more
export const CREDENTIAL_SERVE_MIN_MS = 60_000; // with less to live it would end in the caller's hands
export const CREDENTIALS_USER_MAX = 100; // kept at one time; the least used goes
export const SESSION_POLICY_LENGTH_MAX = 2_048; // AWS STS, Policy
export const PROXY_BODY_MAX_BYTES = 1_048_576; // where the service wants the body's hash before the body

// Foreign issuers (worker/federation/**).
export const JWKS_DEADLINE_MS = 5_000;
export const JWKS_MAX_BYTES = 65_536;
export const JWKS_KEPT_MS = 600_000; // then fetched again; served on while the issuer is down
export const JWKS_REFRESH_MIN_MS = 30_000; // one forced refresh for a key that is not known, however many ask
export const FOREIGN_TOKEN_LENGTH_MAX = 8_192;
export const FOREIGN_AGE_DEFAULT_SECONDS = 600;

// Sign-in (core/signin.ts).
export const LOGIN_LIMITERS = 16; // fixed, so that strangers' names create no objects
