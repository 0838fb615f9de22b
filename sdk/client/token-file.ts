/**
 * A file that always holds a token which is good for a while yet, for clients that read it by themselves: AWS SDKs and the
 * CLI, by AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE. It is replaced whole, so that nobody reads half a token, and readable by
 * its owner alone. When no token is to be had any more, the file goes: what cannot be used should not lie about.
 */
import { LegateError } from "./errors.ts";
import { readFacts, type TokenSource } from "./source.ts";

const CHECK_MAX_MS = 30_000; // a machine that slept looks soon after
const CHECK_MIN_MS = 1_000;
const RETRY_MS = 5_000;

interface Files {
  writeFileSync(path: string, text: string, options: { mode: number; flag: string }): void;
  renameSync(from: string, to: string): void;
  rmSync(path: string, options: { force: boolean }): void;
}

/** node, Bun and Deno have it; asked for this way, no bundler looks for it on behalf of a browser. */
function files(): Files {
  const { process } = globalThis as { process?: { getBuiltinModule?(name: string): unknown } };
  const found = process?.getBuiltinModule?.("node:fs") as Files | undefined;
  if (found === undefined)
    throw new LegateError("unsupported", "There are no files here: node, Bun or Deno is needed.");
  return found;
}

export interface TokenFileOptions {
  /** Told of each failure. While the last token holds the file stays, and another try follows. */
  readonly onError?: (error: unknown) => void;
}

export class TokenFile {
  readonly path: string;
  readonly #source: TokenSource;
  readonly #files = files();
  readonly #onError: (error: unknown) => void;
  #written = "";
  #timer: ReturnType<typeof setTimeout> | undefined;
  #isOpen = true;

  private constructor(path: string, source: TokenSource, { onError = () => {} }: TokenFileOptions) {
    this.path = path;
    this.#source = source;
    this.#onError = onError;
  }

  /** @throws LegateError, or the file system's, when the first token can't be had or written */
  static async open(path: string, source: TokenSource, options: TokenFileOptions): Promise<TokenFile> {
    const file = new TokenFile(path, source, options);
    file.#write(await source.token());
    file.#arm();
    return file;
  }

  /** Removes the file, and keeps it no longer. */
  close(): void {
    this.#isOpen = false;
    clearTimeout(this.#timer);
    this.#files.rmSync(this.path, { force: true });
  }

  /** Written beside and moved into its place: readers see the old token or the new one. A link there is replaced, not followed. */
  #write(token: string): void {
    if (token === this.#written) return;
    const beside = `${this.path}.${crypto.randomUUID()}`;
    try {
      this.#files.writeFileSync(beside, token, { mode: 0o600, flag: "wx" });
      this.#files.renameSync(beside, this.path);
      this.#written = token;
    } catch (error) {
      this.#files.rmSync(beside, { force: true });
      throw error;
    }
  }

  #arm(): void {
    if (!this.#isOpen) return;
    const leftMs = readFacts(this.#source.current).exp * 1000 - Date.now();
    this.#again(Math.max(CHECK_MIN_MS, Math.min(CHECK_MAX_MS, leftMs / 6)));
  }

  /** A timer that keeps no process from ending. */
  #again(ms: number): void {
    this.#timer = setTimeout(() => void this.#check(), ms);
    (this.#timer as { unref?(): void }).unref?.();
  }

  async #check(): Promise<void> {
    try {
      const token = await this.#source.token();
      if (!this.#isOpen) return;
      this.#write(token);
      this.#arm();
    } catch (error) {
      if (!this.#isOpen) return;
      const isOver = error instanceof LegateError && error.status >= 400 && error.status < 500 && error.status !== 429;
      if (isOver) this.close();
      else this.#again(RETRY_MS);
      this.#onError(error);
    }
  }
}
