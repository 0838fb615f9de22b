/**
 * A host's clock that a test may set. Where a C compiler is at hand the workerd's real one is stepped, by a shim that is
 * loaded before it; elsewhere each copy's `Date` is, which workerd's timers do not follow either.
 */
import { spawnSync } from "node:child_process";
import { existsSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { Copies, type Options } from "./workerd.ts";

export class HostClock {
  readonly #folder = mkdtempSync(join(tmpdir(), "legate-clock-"));
  readonly #file = join(this.#folder, "step");
  readonly #shim = join(this.#folder, "clock.so");
  readonly isReal: boolean;

  constructor() {
    this.#write(0);
    const source = join(import.meta.dirname, "clock.c");
    const made = spawnSync("cc", ["-shared", "-fPIC", "-O1", "-o", this.#shim, source, "-ldl"], { encoding: "utf8" });
    this.isReal = process.platform === "linux" && made.status === 0;
  }

  start(options: Options): Promise<Copies> {
    const env = this.isReal ? { LD_PRELOAD: this.#shim, LEGATE_CLOCK_STEP: this.#file } : {};
    return Copies.start({ ...options, env });
  }

  /** How far the clock is from the true one, from now on. */
  async set(copies: Copies, offsetMs: number): Promise<void> {
    if (this.isReal) this.#write(offsetMs);
    else for (let i = 0; i < copies.count; i++) await copies.order(i, { do: "clock", offsetMs });
  }

  #write(offsetMs: number): void {
    const bytes = Buffer.alloc(8);
    bytes.writeBigInt64LE(BigInt(Math.round(offsetMs)) * 1_000_000n);
    writeFileSync(this.#file, bytes, { flag: existsSync(this.#file) ? "r+" : "w" }); // in place: it is mapped
  }

  end(): void {
    rmSync(this.#folder, { recursive: true, force: true });
  }
}
