// Secrets of the tests: fixed, so that a failure replays. LEGATE_IDENTITY_KEY is derived from LEGATE_SECRET by the
// same function that makes the development secrets.
import { deriveIdentityKey } from "../../scripts/lib/dev-env.mjs";

const LEGATE_SECRET = Buffer.alloc(32, 1).toString("base64url");

export const TEST_SECRETS = {
  LEGATE_SECRET,
  LEGATE_ID_KEY: Buffer.alloc(32, 2).toString("base64url"),
  LEGATE_SECRET_ALSO: "",
  LEGATE_BOOTSTRAP: "1800000000.test-bootstrap-code-01",
};

export const TEST_IDENTITY_KEY = deriveIdentityKey(LEGATE_SECRET, "legate-agents");
