// The house rules that no linter knows, as pure functions over a file's path and text: STYLE's import rules, file
// lengths, and what no committed file may name. test/tidy.test.ts runs them over the repository, and over planted
// offences, so that each rule is seen to fail.
import { dirname, posix } from "node:path";
import { parseSync } from "rolldown/utils";

/** One import, re-export or dynamic import of a file. */
interface Import {
  /** The module as written, or for a relative one its path from the repository's root. */
  readonly to: string;
  readonly names: readonly string[];
  readonly isTypeOnly: boolean;
  readonly isReexport: boolean;
  readonly isNamespace: boolean;
  readonly isDynamic: boolean;
}

export interface SourceFile {
  readonly path: string;
  readonly text: string;
  readonly imports: readonly Import[];
}

const LINES_MAX = 420;

/** Parses a file's imports; files that are not TypeScript or JavaScript have none. */
export function sourceFile(path: string, text: string): SourceFile {
  return { path, text, imports: /\.(ts|mjs|js|tsx)$/.test(path) ? importsOf(path, text) : [] };
}

function importsOf(path: string, text: string): Import[] {
  const { module } = parseSync(path, text);
  const resolve = (to: string) => (to.startsWith(".") ? posix.join(dirname(path), to) : to);
  const found: Import[] = module.staticImports.map(({ moduleRequest, entries, start, end }) => ({
    to: resolve(moduleRequest.value),
    names: entries.map((entry) => entry.importName.name ?? "*"),
    isTypeOnly:
      /^import\s+type\b/.test(text.slice(start, end)) || (entries.length > 0 && entries.every(({ isType }) => isType)),
    isReexport: false,
    isNamespace: entries.some((entry) => entry.importName.kind === "NamespaceObject"),
    isDynamic: false,
  }));
  for (const { entries } of module.staticExports) {
    for (const { moduleRequest, importName, isType } of entries) {
      if (moduleRequest === null) continue;
      const names = [importName.name ?? "*"];
      const to = resolve(moduleRequest.value);
      found.push({ to, names, isTypeOnly: isType, isReexport: true, isNamespace: false, isDynamic: false });
    }
  }
  for (const { moduleRequest } of module.dynamicImports) {
    const written = /^["'`](.*)["'`]$/.exec(text.slice(moduleRequest.start, moduleRequest.end))?.[1];
    if (written === undefined) continue;
    const to = resolve(written);
    found.push({ to, names: ["*"], isTypeOnly: false, isReexport: false, isNamespace: true, isDynamic: true });
  }
  return found;
}

/** Says what is wrong with one file, as sentences without its path. */
type Rule = (file: SourceFile) => string[];

const isIn = (path: string, ...folders: string[]) => folders.some((folder) => path.startsWith(`${folder}/`));
const isOurs = (path: string) =>
  /^(core|worker|durable-objects|drizzle|sdk|cli|console|examples|scripts|test)\//.test(path);
const isGenerated = (path: string) => path.includes("/migrations/") || path.endsWith("package-lock.json");

/** A rule about single imports: the files it holds for, and what it says against an import. */
const forImports =
  (holdsFor: (path: string) => boolean, against: (to: Import, path: string) => string | false): Rule =>
  ({ path, imports }) =>
    holdsFor(path) ? imports.map((to) => against(to, path)).filter((problem) => problem !== false) : [];

const KNOWS_D1 = (path: string) =>
  path === "durable-objects/authority/delivery.ts" ||
  isIn(path, "worker/auth", "worker/oauth", "worker/admin", "drizzle", "test", "scripts", "cli", "bench");

const D1_QUERIES = /^drizzle\/(d1|postgres)\/queries\b/;

const CORE_FORBIDS: readonly (readonly [RegExp, string])[] = [
  [/\bDate\.now\b|\bnew Date\(\s*\)|\bperformance\.now\b/, "reads a clock; time is a value given to core/"],
  [/\bMath\.random\b|\bgetRandomValues\b|\brandomUUID\b/, "makes randomness; it is a value given to core/"],
  [/\bprocess\.env\b/, "reads the environment"],
];

/** Where a `///` or block comment tells of what code must not do, the code still does not do it. */
const withoutComments = (text: string) => text.replaceAll(/\/\*[\s\S]*?\*\/|(^|\s)\/\/.*$/gm, "");

export const FILE_RULES: Record<string, Rule> = {
  "core imports only core": forImports(
    (path) => isIn(path, "core"),
    ({ to }) => !isIn(to, "core") && `core/ imports ${to}`,
  ),
  "core has no clock and no chance": ({ path, text }) =>
    isIn(path, "core") && path.endsWith(".ts")
      ? CORE_FORBIDS.filter(([pattern]) => pattern.test(withoutComments(text))).map(([, problem]) => problem)
      : [],
  "sdk imports of ours only core": forImports(
    (path) => isIn(path, "sdk"),
    ({ to }) => isOurs(to) && !isIn(to, "core", "sdk") && `sdk/ imports ${to}`,
  ),
  "console and cli import of ours only core and sdk": forImports(
    (path) => isIn(path, "console", "cli"),
    ({ to }, path) => isOurs(to) && !isIn(to, "core", "sdk", path.split("/")[0] ?? "") && `${path} imports ${to}`,
  ),
  "worker knows state only as types": forImports(
    (path) => isIn(path, "worker") && path !== "worker/index.ts",
    ({ to, isTypeOnly }) =>
      isIn(to, "durable-objects", "drizzle/authority") && !isTypeOnly && `worker/ imports ${to} as a value`,
  ),
  "only worker/index.ts re-exports the objects' classes": forImports(
    (path) => !isIn(path, "durable-objects", "test"),
    ({ to, isTypeOnly, isReexport }, path) =>
      isIn(to, "durable-objects") &&
      !isTypeOnly &&
      !(path === "worker/index.ts" && isReexport) &&
      `takes ${to} as a value`,
  ),
  "objects import neither worker nor sdk": forImports(
    (path) => isIn(path, "durable-objects"),
    ({ to }) => isIn(to, "worker", "sdk") && `durable-objects/ imports ${to}`,
  ),
  "D1's queries have few readers": forImports(
    (path) => !KNOWS_D1(path),
    ({ to, isTypeOnly }) => D1_QUERIES.test(to) && !isTypeOnly && `imports ${to}`,
  ),
  "env is an argument": forImports(
    (path) => isIn(path, "core", "worker", "durable-objects", "sdk", "examples", "drizzle"),
    ({ to, names }) => to === "cloudflare:workers" && names.includes("env") && "imports env from cloudflare:workers",
  ),
  "zod is a namespace or mini": forImports(
    () => true,
    ({ to, isNamespace, isTypeOnly }) =>
      /^zod($|\/)/.test(to) && to !== "zod/mini" && !isNamespace && !isTypeOnly && `imports names from ${to}: 459 KiB`,
  ),
  "the edge imports packages statically": forImports(
    (path) => isIn(path, "core", "worker", "durable-objects", "drizzle"),
    ({ to, isDynamic }) =>
      isDynamic && !isOurs(to) && `imports all of ${to} by import(); import names in a file of ours, and import() that`,
  ),
  "no barrels": ({ path, imports }) => {
    const reexports = imports.filter(({ isReexport }) => isReexport).map(({ to }) => to);
    const isEntry = path === "worker/index.ts" || /^sdk\/[a-z]+\.ts$/.test(path) || path === "examples/agents/index.ts";
    const problems = isEntry || reexports.length === 0 ? [] : [`re-exports ${reexports.join(", ")}`];
    const isIndex = /(^|\/)index\.(ts|mjs)$/.test(path);
    const mayBeIndex = isEntry || isIn(path, "bench", "cli", "console") || isGenerated(path);
    return isIndex && !mayBeIndex ? [...problems, "is an index file, and no entry point"] : problems;
  },
  "relative imports name their file": ({ path, imports, text }) =>
    isGenerated(path)
      ? []
      : imports
          .filter(({ to }) => isOurs(to) && !/\.(ts|mjs|js|json|sql|css|html)$/.test(to))
          .map(({ to }) => `imports ${to} without its extension (${text.length} characters)`),
  "files stay short": ({ path, text }) => {
    const lines = text.split("\n").length - 1;
    return /\.(ts|mjs|tsx)$/.test(path) && !isGenerated(path) && lines > LINES_MAX ? [`has ${lines} lines`] : [];
  },
};

/** Paths written with `[/]`, so that this file does not name what no file may name. */
const MACHINE = [
  [/(^|[^\w.])[/](work|root)[/]|[/]home[/][a-z]/m, "names a path of one machine"],
  [/[.][.][/]shared[/]|\bshared[/](DESIGN|STYLE|reference|tools|hooks)\b/, "names a folder beside the repository"],
  [
    /[/]{2}(?!registry\.npmjs\.org)[\w.-]*(registry|npm|pypi|artifactory|nexus|verdaccio)[\w.-]*\.(?!js\b|md\b)[a-z]{2,}[:/]/,
    "names a package registry other than npmjs",
  ],
] as const;

/** What no file of any kind may say. */
export function machineProblems(text: string): string[] {
  return MACHINE.filter(([pattern]) => pattern.test(text)).map(([, problem]) => problem);
}

/** The `resolved` hosts of a lock file other than npm's own. */
export function foreignHosts(lock: string): string[] {
  return [...lock.matchAll(/"resolved": "\w+:\/\/([^/"]+)/g)]
    .map(([, host]) => host ?? "")
    .filter((host) => host !== "registry.npmjs.org");
}

/** Cycles of value imports between our files, each as its path. Types vanish before anything runs. */
export function cycles(files: readonly SourceFile[]): string[] {
  const edges = new Map(
    files.map(({ path, imports }) => [path, imports.filter(({ isTypeOnly }) => !isTypeOnly).map(({ to }) => to)]),
  );
  const done = new Set<string>();
  const found: string[] = [];
  const visit = (path: string, trail: readonly string[]): void => {
    const start = trail.indexOf(path);
    if (start !== -1) found.push([...trail.slice(start), path].join(" -> "));
    if (start !== -1 || done.has(path)) return;
    for (const to of edges.get(path) ?? []) visit(to, [...trail, path]);
    done.add(path);
  };
  for (const path of edges.keys()) visit(path, []);
  return found;
}
