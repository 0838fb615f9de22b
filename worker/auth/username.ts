/** What a username may be: ASCII, so that two that look alike are alike, and so that SQLite's `lower` folds all of it. */
import { USERNAME_LENGTH_MAX } from "../../core/limits.ts";

const USERNAME_PATTERN = new RegExp(`^[A-Za-z0-9][A-Za-z0-9._@+-]{0,${USERNAME_LENGTH_MAX - 1}}$`);

export function isUsername(text: string): boolean {
  return USERNAME_PATTERN.test(text);
}
