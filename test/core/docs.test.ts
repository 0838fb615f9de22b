// What the documents name is there: files they link to and files they mention, headings, scripts, tests with their
// titles, tables, codes, and every member of legate.config.ts. A document that drifts from the code fails here.
import { execFileSync } from "node:child_process";
import { existsSync, readFileSync } from "node:fs";
import { dirname, join, normalize } from "node:path";
import { parseSync } from "rolldown/utils";
import { describe, expect, test } from "vitest";
import { explainCode } from "../../core/explain.ts";

const ROOT = join(import.meta.dirname, "../..");
const read = (path: string) => readFileSync(join(ROOT, path), "utf8");
const files = execFileSync("git", ["ls-files", "-z", "--cached", "--others", "--exclude-standard"], { cwd: ROOT })
  .toString()
  .split("\0")
  .filter((path) => path !== "" && existsSync(join(ROOT, path)));
const documents = files.filter((path) => path.endsWith(".md"));

/** GitHub's anchor of a heading. */
const anchorOf = (heading: string) =>
  heading
    .toLowerCase()
    .replaceAll(/[^\p{L}\p{N} _-]/gu, "")
    .replaceAll(" ", "-");
const anchorsOf = (path: string) =>
  [...read(path).matchAll(/^#+ (.+)$/gm)].map(([, heading]) => anchorOf(heading ?? ""));

function brokenLinks(path: string): string[] {
  return [...read(path).matchAll(/\]\(([^)\s]+)\)/g)]
    .map(([, link]) => link ?? "")
    .filter((link) => !/^https?:/.test(link))
    .filter((link) => {
      const [file = "", anchor] = link.split("#");
      const target = file === "" ? path : normalize(join(dirname(path), file));
      if (!existsSync(join(ROOT, target))) return true;
      return anchor !== undefined && !anchorsOf(target).includes(anchor);
    });
}

/** `worker/gate.ts` must be there; `authority/leases.ts` and `gate.ts` alone must end some file's path. */
function missingFiles(path: string): string[] {
  return [...read(path).matchAll(/`([\w@./-]+\.(?:ts|mjs|jsonc))`/g)]
    .map(([, file]) => file ?? "")
    .filter((file) => !files.some((known) => known === file || known.endsWith(`/${file}`)));
}

/** `test/x.test.ts`: "a title", "another": each must be a title in that file. */
function missingTitles(path: string): string[] {
  return [...read(path).matchAll(/`(test\/[\w/.-]+\.test\.ts)`: ("[^"]+"(?:, "[^"]+")*)/g)].flatMap(
    ([, file, titles]) => {
      const text = existsSync(join(ROOT, file ?? "")) ? read(file ?? "") : "";
      return [...(titles ?? "").matchAll(/"([^"]+)"/g)]
        .filter(([, title]) => !text.includes(title ?? ""))
        .map(([, title]) => `${file}: ${title}`);
    },
  );
}

function missingScripts(path: string): string[] {
  const { scripts } = JSON.parse(read("package.json")) as { scripts: Record<string, string> };
  return [...read(path).matchAll(/npm run ([a-z:]+)/g)]
    .map(([, name]) => name ?? "")
    .filter((name) => !(name in scripts));
}

describe.each(documents)("%s", (path) => {
  test("links to what is there", () => expect(brokenLinks(path)).toEqual([]));
  test("names files that are there", () => expect(missingFiles(path)).toEqual([]));
  test("cites tests by their titles", () => expect(missingTitles(path)).toEqual([]));
  test("runs scripts that are there", () => expect(missingScripts(path)).toEqual([]));
});

/** Where the members of each input type stand in docs/configuration.md. */
const PLACES: Readonly<Record<string, string>> = {
  LegateConfigInput: "",
  AgentEntryInput: "agents[].",
  ScopeInput: "scopes[].",
  AudienceInput: "audiences[].",
  LimitsInput: "limits.",
  RateInput: "rates[].",
  Curve: "curve.",
  CommonInput: "roles[].",
  AwsRoleInput: "roles[].",
  GcpRoleInput: "roles[].",
  AzureRoleInput: "roles[].",
  IssuerInput: "issuers[].",
  SubjectInput: "subjects[].",
};
const SOURCES = ["core/config.ts", "core/budget/rates.ts", "core/budget/throttle.ts", "core/credential/roles.ts"];

interface Node {
  readonly type: string;
  readonly key?: { readonly name?: string };
  readonly id?: { readonly name?: string };
  readonly declaration?: Node | null;
  readonly body?: { readonly body: readonly Node[] };
  readonly members?: readonly Node[];
  readonly typeAnnotation?: { readonly typeAnnotation: Node };
}

/** Names of an interface's members, and of the objects written out in it. */
function membersOf(nodes: readonly Node[], place: string): string[] {
  return nodes.flatMap(({ type, key, typeAnnotation }) => {
    if (type !== "TSPropertySignature" || key?.name === undefined) return [];
    const inner = typeAnnotation?.typeAnnotation;
    return [`${place}${key.name}`, ...membersOf(inner?.members ?? [], `${place}${key.name}.`)];
  });
}

function inputMembers(): Map<string, string[]> {
  const found = new Map<string, string[]>();
  for (const source of [...SOURCES, "core/credential/issuers.ts"]) {
    for (const statement of parseSync(source, read(source)).program.body as unknown as Node[]) {
      const declared = statement.declaration ?? statement;
      const name = declared.id?.name ?? "";
      if (declared.type !== "TSInterfaceDeclaration" || !(name.endsWith("Input") || name === "Curve")) continue;
      found.set(name, membersOf(declared.body?.body ?? [], PLACES[name] ?? `${name}?`));
    }
  }
  return found;
}

describe("docs/configuration.md", () => {
  const members = inputMembers();
  const rows = [...read("docs/configuration.md").matchAll(/^\| `([a-zA-Z[\].]+)` \|/gm)].map(
    ([, member]) => member ?? "",
  );
  test("knows every input type", () => expect([...members.keys()].toSorted()).toEqual(Object.keys(PLACES).toSorted()));
  test.each([...members])("%s: every member has a row", (_, wanted) => {
    expect(wanted.length).toBeGreaterThan(0);
    expect(wanted.filter((member) => !rows.includes(member))).toEqual([]);
  });
  test("has no row for what is no member", () => {
    const known = new Set([...members.values()].flat());
    expect(rows.filter((row) => !known.has(row))).toEqual([]);
  });
});

describe("docs/storage.md", () => {
  const text = read("docs/storage.md");
  test.each(["drizzle/authority/schema.ts", "drizzle/authority/credential-tables.ts", "drizzle/d1/schema.ts"])(
    "has every table of %s",
    (schema) => {
      const tables = [...read(schema).matchAll(/sqliteTable\(\s*"(\w+)"/g)].map(([, table]) => table ?? "");
      expect(tables.length).toBeGreaterThan(0);
      expect(tables.filter((table) => !text.includes(`\`${table}\``))).toEqual([]);
    },
  );
});

test("docs/operations.md explains every code", () => {
  const codes = [...read("core/explain.ts").matchAll(/^ {2}([a-z_]+):/gm)].map(([, code]) => code ?? "");
  expect(codes.filter((code) => explainCode(code) === null)).toEqual([]);
  expect(codes.filter((code) => !read("docs/operations.md").includes(`\`${code}\``))).toEqual([]);
});

test("docs/decisions/README.md lists every decision", () => {
  const decisions = documents
    .filter((path) => /^docs\/decisions\/\d{3}-/.test(path))
    .map((path) => path.split("/").at(-1) ?? "");
  expect(decisions.filter((name) => !read("docs/decisions/README.md").includes(`](${name})`))).toEqual([]);
});
