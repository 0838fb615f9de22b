// npm run bench -- <name> [--json]: runs bench/<name>.ts. Without a name it lists what there is.
import { spawnSync } from "node:child_process";
import { existsSync, readdirSync } from "node:fs";
import { join } from "node:path";
import { install } from "../scripts/lib/install.mjs";
import { nodeBinary, ROOT } from "../scripts/lib/paths.mjs";
import { Sentence, main, say } from "../scripts/lib/term.mjs";

const benches = () =>
  readdirSync(join(ROOT, "bench"))
    .filter((file) => file.endsWith(".ts"))
    .map((file) => file.slice(0, -3));

await main(async () => {
  const [name, ...args] = process.argv.slice(2);
  if (name === undefined || name.startsWith("-")) {
    return say(`Usage: npm run bench -- <name> [--json]\n\nBenches: ${benches().join(", ") || "none yet"}`);
  }
  const file = join(ROOT, "bench", `${name}.ts`);
  if (!/^[a-z-]+$/.test(name) || !existsSync(file)) {
    throw new Sentence(`There is no bench "${name}". There are: ${benches().join(", ") || "none yet"}`);
  }
  await install();
  // Thousands of sockets, and each takes two descriptors in each of the server's processes: as many as the machine gives.
  const unbound = ["-c", 'ulimit -Sn "$(ulimit -Hn)" 2>/dev/null; exec "$@"', "sh"];
  return spawnSync("/bin/sh", [...unbound, nodeBinary(), file, ...args], { cwd: ROOT, stdio: "inherit" }).status ?? 1;
});
