// Stands between a server and whoever started it, as the leader of the server's process group. Its stdin is a pipe
// from the starter: the kernel closes it however the starter dies, SIGKILL included, and then the whole group ends.
import { spawn } from "node:child_process";

const GRACE_MS = 3_000;
// Nobody waits for a server whose starter is gone, and its broken output pipes keep wrangler from a quick end.
const ORPHANED_GRACE_MS = 1_000;
const [command, ...args] = process.argv.slice(2);
const child = spawn(command, args, { stdio: ["ignore", "inherit", "inherit"] });

let isEnding = false;

// Node's `process.kill(0, …)` reaches everybody in the group, this process too: nothing may come after it.
const endGroup = () => process.kill(0, "SIGKILL");

function end(graceMs) {
  if (isEnding) return;
  isEnding = true;
  child.kill("SIGTERM");
  setTimeout(endGroup, graceMs);
}
const endOrphaned = () => end(ORPHANED_GRACE_MS);
const endAsked = () => end(GRACE_MS);

child.once("error", endGroup);
// wrangler may be gone while a workerd of its is not.
child.once("exit", endGroup);
process.stdin.once("end", endOrphaned).once("error", endOrphaned).resume();
process.on("SIGTERM", endAsked).on("SIGINT", endAsked).on("SIGHUP", endAsked);
