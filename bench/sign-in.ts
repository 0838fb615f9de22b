// npm run bench -- sign-in [--json]: whether the time of an answer tells a name that exists from one that does not (OWASP
// ASVS 5.0, 6.3.8). Wrong passwords for both, in turn, against a running server; the ratio of the medians should lie
// between 0.5 and 2.
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { startServer } from "../scripts/lib/serve.mjs";
import { main, say, Sentence } from "../scripts/lib/term.mjs";

const PEOPLE = 4;
const ROUNDS = 8; // a name stands ten tries from strangers
const PASSWORD = "a lantern over the harbour";

const median = (times: readonly number[]) => times.toSorted((a, b) => a - b)[times.length >> 1] ?? NaN;

async function post(
  url: string,
  username: string,
  password: string,
  address: string,
  expected: number,
): Promise<number> {
  const from = performance.now();
  const answer = await fetch(url, {
    method: "POST",
    headers: { "content-type": "application/json", "cf-connecting-ip": address },
    body: JSON.stringify({ username, password }),
  });
  await answer.arrayBuffer();
  if (answer.status !== expected) throw new Sentence(`${url} answered ${answer.status}, not ${expected}.`);
  return performance.now() - from;
}

await main(async () => {
  const stateDir = mkdtempSync(join(tmpdir(), "legate-bench-"));
  const server = await startServer({ stateDir });
  try {
    const names = Array.from({ length: PEOPLE }, (_, i) => `person-${i}`);
    for (const name of names) await post(`${server.url}/auth/register`, name, PASSWORD, "192.0.2.1", 201);
    const known: number[] = [];
    const unknown: number[] = [];
    for (let round = 0; round < ROUNDS; round++) {
      for (const [i, name] of names.entries()) {
        const address = `198.51.100.${round * PEOPLE + i + 1}`;
        known.push(await post(`${server.url}/auth/login`, name, "not this one", address, 401));
        unknown.push(await post(`${server.url}/auth/login`, `nobody-${i}`, "not this one", address, 401));
      }
    }
    const result = {
      known_ms: median(known),
      unknown_ms: median(unknown),
      unknown_over_known: median(unknown) / median(known),
    };
    if (process.argv.includes("--json")) return say(JSON.stringify(result));
    for (const [name, value] of Object.entries(result)) say(`${name.padEnd(20)} ${value.toFixed(2)}`);
    return result.unknown_over_known >= 0.5 && result.unknown_over_known <= 2 ? 0 : 1;
  } finally {
    await server.stop();
    rmSync(stateDir, { recursive: true, force: true });
  }
});
