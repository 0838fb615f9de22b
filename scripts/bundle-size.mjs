// npm run bundle [-- --json]: what a deploy would upload, part by part. The edge stays small and without the package
// `agents`, because each cold start pays for both; the agents' Worker only has to build.
import { execFileSync } from "node:child_process";
import { mkdtempSync, readFileSync, readdirSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { gzipSync } from "node:zlib";
import { bundleAgents } from "./lib/agents-bundle.mjs";
import { nodeBinary, ROOT, quietEnv, wrangler } from "./lib/paths.mjs";
import { Sentence, bold, dim, main, say } from "./lib/term.mjs";

/** Where the edge should be (docs/decisions/022-the-edge-is-larger-than-its-goal.md), and what it must not grow past. */
const GOAL_KIB = 250;
const LIMIT_KIB = 420;
const FORBIDDEN = /(^|\/)node_modules\/agents\//;
/** Parts below this share of the whole stand together in one line. */
const SMALL_SHARE = 0.01;
/** What wrangler writes beside the modules that it would upload. */
const NOT_UPLOADED = /\.map$|^README\.md$|^meta\.json$/;

const kib = (bytes) => Number((bytes / 1024).toFixed(1));

/** The package that a module is of, or the folder of ours: the two names by which something can be done about it. */
function partOf(module) {
  const name = /.*\bnode_modules\/((?:@[^/]+\/)?[^/]+)/.exec(module)?.[1];
  if (name !== undefined) return name;
  const folders = module.split("/").slice(0, -1);
  return folders.length === 0 ? "legate.config.ts" : folders.slice(0, 2).join("/");
}

/** Bundles the edge as a deploy would, in a folder of its own. */
function bundleEdge() {
  const out = mkdtempSync(join(tmpdir(), "legate-bundle-"));
  try {
    const meta = join(out, "meta.json");
    const options = ["--dry-run", "--minify", "--outdir", out, "--metafile", meta, "-c", "wrangler.jsonc"];
    execFileSync(nodeBinary(), wrangler("deploy", ...options), {
      cwd: ROOT,
      env: quietEnv(),
      stdio: ["ignore", "ignore", "inherit"],
    });
    const files = readdirSync(out).filter((file) => !NOT_UPLOADED.test(file));
    const uploads = files.map((file) => ({ file, bytes: readFileSync(join(out, file)) }));
    return { uploads, meta: JSON.parse(readFileSync(meta, "utf8")) };
  } finally {
    rmSync(out, { recursive: true });
  }
}

/** Bytes by part, the largest first; they add up to the whole upload. */
function sizes({ uploads, meta }) {
  const script = Object.entries(meta.outputs).find(([file]) => file.endsWith(".js"))?.[1];
  const bytes = new Map();
  const add = (part, more) => bytes.set(part, (bytes.get(part) ?? 0) + more);
  for (const [module, { bytesInOutput }] of Object.entries(script.inputs)) add(partOf(module), bytesInOutput);
  const whole = uploads.reduce((sum, upload) => sum + upload.bytes.length, 0);
  const migrations = uploads.filter(({ file }) => file.endsWith(".sql"));
  if (migrations.length > 0) {
    add(
      "migrations (.sql)",
      migrations.reduce((sum, upload) => sum + upload.bytes.length, 0),
    );
  }
  add("between modules", whole - [...bytes.values()].reduce((sum, part) => sum + part, 0));
  return { whole, parts: [...bytes].toSorted(([, a], [, b]) => b - a) };
}

function table({ whole, parts }) {
  const line = (part, bytes) =>
    `  ${part.padEnd(32)}${kib(bytes).toFixed(1).padStart(8)} KiB ${dim(`${((100 * bytes) / whole).toFixed(0).padStart(3)} %`)}`;
  const large = parts.filter(([, bytes]) => bytes >= SMALL_SHARE * whole);
  const rest = parts.slice(large.length).reduce((sum, [, bytes]) => sum + bytes, 0);
  return [
    ...large.map(([part, bytes]) => line(part, bytes)),
    line(`${parts.length - large.length} smaller parts`, rest),
  ];
}

await main(async () => {
  const isJson = process.argv.includes("--json");
  const agentsKib = kib(readFileSync(await bundleAgents()).length);
  const edge = bundleEdge();
  const measured = sizes(edge);
  const inputs = Object.keys(edge.meta.inputs);
  const figures = {
    edge_kib: kib(measured.whole),
    edge_gzip_kib: kib(gzipSync(Buffer.concat(edge.uploads.map(({ bytes }) => bytes))).length),
    edge_goal_kib: GOAL_KIB,
    edge_limit_kib: LIMIT_KIB,
    edge_modules: inputs.length,
    agents_kib: agentsKib,
  };
  if (isJson) {
    const parts = Object.fromEntries(measured.parts.map(([part, bytes]) => [part, kib(bytes)]));
    say(JSON.stringify({ figures, parts }));
  } else {
    say(`agents' bundle: ${agentsKib} KiB, not minified`);
    say(
      bold(
        `edge bundle: ${figures.edge_kib} KiB minified, ${figures.edge_gzip_kib} KiB gzip, ${inputs.length} modules`,
      ),
    );
    for (const line of table(measured)) say(line);
    if (figures.edge_kib > GOAL_KIB)
      say(`The goal is ${GOAL_KIB} KiB; it is missed by ${(figures.edge_kib - GOAL_KIB).toFixed(1)}.`);
  }
  const carried = inputs.find((input) => FORBIDDEN.test(input));
  if (carried) throw new Sentence(`The edge must not carry the package agents; it carries ${carried}.`);
  if (measured.whole > LIMIT_KIB * 1024) {
    throw new Sentence(`The edge bundle may have at most ${LIMIT_KIB} KiB; it has ${figures.edge_kib}.`);
  }
  return 0;
});
