// Brings node_modules to what package-lock.json says, on the builtins of node 20 alone.
import { spawn } from "node:child_process";
import { existsSync, lstatSync, statSync } from "node:fs";
import { join } from "node:path";
import { ROOT, hasBundledNode } from "./paths.mjs";
import { Sentence, seconds, step } from "./term.mjs";

const LOCK = join(ROOT, "package-lock.json");
const MODULES = join(ROOT, "node_modules");
const INSTALLED = join(MODULES, ".package-lock.json");

/** Refuses a node that can't run what follows: npm brings node 24 on Linux x64 only. */
export function checkNode(version = process.versions.node, bundled = hasBundledNode) {
  const [major = 0, minor = 0] = version.split(".").map(Number);
  if (major < 20) throw new Sentence(`Legate needs node 20 or newer to start; this is ${version}.`);
  if (bundled || major > 22 || (major === 22 && minor >= 12)) return;
  throw new Sentence(
    `On ${process.platform} ${process.arch} Legate needs node 22.12 or newer; this is ${version}. Install one from nodejs.org.`,
  );
}

/** npm empties node_modules before it installs: through a link that would be another folder's, under whoever uses it. */
export function checkNotLinked(modules = MODULES) {
  if (!lstatSync(modules, { throwIfNoEntry: false })?.isSymbolicLink()) return;
  throw new Sentence("node_modules is a symbolic link; remove it, and Legate will install packages of its own here.");
}

const isInstalled = () => existsSync(INSTALLED) && statSync(INSTALLED).mtimeMs >= statSync(LOCK).mtimeMs;

/** Installs what is missing or older than the lock. Without a change it costs two stats. */
export async function install() {
  checkNode();
  checkNotLinked();
  if (isInstalled()) return;
  step("Installing packages (npm ci), about half a minute …");
  const began = Date.now();
  // System node 20 makes npm print pages of engine warnings for packages that node 24 will run.
  const npm = spawn("npm", ["ci", "--loglevel=error", "--no-audit", "--no-fund"], {
    cwd: ROOT,
    stdio: ["ignore", "ignore", "inherit"],
    shell: process.platform === "win32",
  });
  const ticker = setInterval(() => step(`  still installing, ${seconds(Date.now() - began)}`), 10_000);
  const code = await new Promise((resolve) => {
    npm.once("error", () => resolve(127));
    npm.once("close", resolve);
  });
  clearInterval(ticker);
  if (code !== 0)
    throw new Sentence(`npm ci failed (${code}). Its message stands above; run \`npm ci\` to see it alone.`);
  step(`Installed in ${seconds(Date.now() - began)}.`);
}
