// npm run bundle: what a deploy would upload. The edge stays small and without the package `agents`, because each cold
// start pays for both; the agents' Worker only has to build.
import { execFileSync } from "node:child_process";
import { mkdtempSync, readFileSync, readdirSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { gzipSync } from "node:zlib";
import { bundleAgents } from "./lib/agents-bundle.mjs";
import { NODE, ROOT, quietEnv, wrangler } from "./lib/paths.mjs";
import { Sentence, main, say } from "./lib/term.mjs";

const LIMIT_KIB = 250;
const FORBIDDEN = /(^|\/)node_modules\/agents\//;
const kib = (bytes) => (bytes / 1024).toFixed(1);

await main(async () => {
  const agents = await bundleAgents();
  say(`agents' bundle: ${kib(readFileSync(agents).length)} KiB, not minified`);
  const out = mkdtempSync(join(tmpdir(), "legate-bundle-"));
  try {
    const meta = join(out, "meta.json");
    const options = ["--dry-run", "--minify", "--outdir", out, "--metafile", meta, "-c", "wrangler.jsonc"];
    execFileSync(NODE, wrangler("deploy", ...options), {
      cwd: ROOT,
      env: quietEnv(),
      stdio: ["ignore", "ignore", "inherit"],
    });
    const parts = readdirSync(out).filter((file) => /\.(js|mjs|wasm|sql)$/.test(file));
    const bundle = Buffer.concat(parts.map((file) => readFileSync(join(out, file))));
    const inputs = Object.keys(JSON.parse(readFileSync(meta, "utf8")).inputs);
    say(
      `edge bundle: ${kib(bundle.length)} KiB minified, ${kib(gzipSync(bundle).length)} KiB gzip, ${inputs.length} modules`,
    );
    const carried = inputs.find((input) => FORBIDDEN.test(input));
    if (carried) throw new Sentence(`The edge must not carry the package agents; it carries ${carried}.`);
    if (bundle.length > LIMIT_KIB * 1024) throw new Sentence(`The edge bundle may have at most ${LIMIT_KIB} KiB.`);
    return 0;
  } finally {
    rmSync(out, { recursive: true });
  }
});
