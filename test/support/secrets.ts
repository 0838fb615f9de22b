// Secrets of the tests: fixed, so that a failure replays, and as varied as random ones, for a weak secret is refused.
// LEGATE_IDENTITY_KEY is derived from LEGATE_SECRET by the same function that makes the development secrets.
import { createHash } from "node:crypto";
import { deriveIdentityKey } from "../../scripts/lib/dev-env.mjs";

const fixed = (name: string): string => createHash("sha256").update(`legate test ${name}`).digest("base64url");

const LEGATE_SECRET = fixed("secret");

export const TEST_SECRETS = {
  LEGATE_SECRET,
  LEGATE_ID_KEY: fixed("id"),
  LEGATE_SECRET_ALSO: "",
  // A code is good for a day from the second that it begins with.
  LEGATE_BOOTSTRAP: `${Math.floor(Date.now() / 1000)}.test-bootstrap-code-000001`,
};

export const TEST_IDENTITY_KEY = deriveIdentityKey(LEGATE_SECRET, "legate-agents");
