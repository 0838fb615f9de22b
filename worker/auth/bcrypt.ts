// Hashes that were imported, alone in a module: most deployments never load it, and a dynamic import of the package itself
// would keep all of it (esbuild takes names away only from static imports).
import { compare } from "bcryptjs";

const PASSWORD_MAX_BYTES = 72;

/**
 * bcrypt reads 72 bytes and, in many implementations, stops at a NUL: a longer password would fit with any ending, so it
 * never fits here. Whoever had one is given a new hash by `npm run users -- import`.
 */
export async function bcryptFits(password: string, stored: string): Promise<boolean> {
  const isExact = Buffer.byteLength(password) <= PASSWORD_MAX_BYTES && !password.includes("\0");
  return (await compare(password, stored)) && isExact;
}
