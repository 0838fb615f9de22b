// Runs once for each test file, inside workerd: brings the test's D1 to the newest schema. Files share one isolate: a clock
// that one of them has set would stand still for all that follow.
import { applyD1Migrations } from "cloudflare:test";
import { env } from "cloudflare:workers";
import { afterEach, vi } from "vitest";

await applyD1Migrations(env.DB, env.TEST_MIGRATIONS);

afterEach(() => void vi.useRealTimers());
