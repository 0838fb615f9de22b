// Tools that npm doesn't bring. A test layer that lacks one is skipped with the line that would install it.
import { accessSync, constants } from "node:fs";
import { delimiter, join } from "node:path";

function which(...names) {
  for (const folder of (process.env.PATH ?? "").split(delimiter)) {
    for (const name of names) {
      try {
        const file = join(folder, name);
        accessSync(file, constants.X_OK);
        return file;
      } catch {
        // Not in this folder.
      }
    }
  }
  return null;
}

/** @type {Record<string, {name: string, find: () => string | null, packages: string[]}>} */
export const TOOLS = {
  ceph: {
    name: "Ceph's gateway",
    find: () => which("radosgw") && which("ceph-mon") && which("ceph-osd") && which("ceph"),
    packages: ["radosgw", "ceph-mon", "ceph-osd", "ceph-common"],
  },
  chromium: { name: "Chromium", find: () => which("chromium", "chromium-browser"), packages: ["chromium"] },
};

export const aptLine = (packages) => `apt-get install -y --no-install-recommends ${packages.join(" ")}`;
