/**
 * The tour's operator: made once with the bootstrap code, remembered in a file that only its owner can read. A second
 * tour on the same state signs in with what is remembered.
 */
import { randomBytes } from "node:crypto";
import { existsSync, mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { dirname } from "node:path";
import { LegateError } from "../../sdk/client.ts";
import { Sentence } from "../lib/term.mjs";
import { Person } from "./person.ts";

interface Remembered {
  readonly username: string;
  readonly password: string;
}

function recall(file: string): Remembered | null {
  if (!existsSync(file)) return null;
  const { operator } = JSON.parse(readFileSync(file, "utf8")) as { operator?: Remembered };
  return operator ?? null;
}

/** @throws Sentence when there is neither an operator to remember nor a code to make one */
export async function findOperator(issuer: string, file: string, bootstrap: string): Promise<Person> {
  const person = new Person(issuer);
  const known = recall(file);
  if (known !== null) {
    try {
      await person.signIn(known.username, known.password);
      return person;
    } catch (error) {
      // The server's state may be younger than the file: then the code is there again.
      if (!(error instanceof LegateError) || error.code !== "sign_in_failed" || bootstrap === "") throw error;
    }
  }
  const operator = {
    username: `operator-${randomBytes(4).toString("hex")}`,
    password: randomBytes(18).toString("base64url"),
  };
  try {
    await person.signUp(operator.username, operator.password, bootstrap);
  } catch (error) {
    if (!(error instanceof LegateError) || (error.code !== "not_found" && bootstrap !== "")) throw error;
    throw new Sentence(
      `There is no operator for the tour: ${file} remembers none, and the bootstrap code was used or is older than a day.` +
        " Delete .legate/ to start anew.",
    );
  }
  mkdirSync(dirname(file), { recursive: true, mode: 0o700 });
  writeFileSync(file, `${JSON.stringify({ operator }, null, 2)}\n`, { mode: 0o600 });
  return person;
}
