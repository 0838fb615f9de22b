// Notices that whoever started this script is gone. SIGTERM to `npm` alone ends npm and tells its children nothing.
import { execFileSync } from "node:child_process";

const INTERVAL_MS = 500;

function ps(pid, field) {
  try {
    return execFileSync("ps", ["-o", `${field}=`, "-p", String(pid)], {
      encoding: "utf8",
      stdio: ["ignore", "pipe", "ignore"],
    }).trim();
  } catch {
    return ""; // No ps on this machine, or no such process.
  }
}

function isAlive(pid) {
  try {
    process.kill(pid, 0);
    return true;
  } catch (error) {
    return error.code === "EPERM";
  }
}

/** Calls back once when the parent ends; under npm also when npm itself does, with the shell it puts between still there. */
export function onOrphaned(callback) {
  const parent = process.ppid;
  if (parent <= 1) return;
  const underNpm =
    process.env.npm_lifecycle_event !== undefined && /(^|\/)-?(sh|bash|dash|zsh)$/.test(ps(parent, "comm"));
  const grandparent = underNpm ? Number(ps(parent, "ppid")) : 0;
  const timer = setInterval(() => {
    if (process.ppid === parent && (grandparent <= 1 || isAlive(grandparent))) return;
    clearInterval(timer);
    callback();
  }, INTERVAL_MS);
  timer.unref();
}
