// Pure parts of cloud credentials: classification, freshness, STS texts, policies, claims, roles and issuers as tables.
import { describe, expect, test } from "vitest";
import { checkConfig, isTier, type Scope } from "../../core/config.ts";
import { classify, pauseMs } from "../../core/credential/failure.ts";
import { freshnessOf, jitterOf, refreshAtMs } from "../../core/credential/freshness.ts";
import { subjectOf, tagsOf, tagValue, webIdentityClaims } from "../../core/credential/identity.ts";
import {
  checkIssuers,
  hasClaims,
  matchesSubject,
  subjectFor,
  type IssuerInput,
} from "../../core/credential/issuers.ts";
import { bindPolicy, checkPolicy, denyPolicy } from "../../core/credential/policy.ts";
import { checkRoles, type AwsRole, type RoleInput } from "../../core/credential/roles.ts";
import { assumeRoleForm, readAssumedRole, readErrorCode } from "../../core/credential/sts.ts";
import type { EpochSeconds, NodePath } from "../../core/ids.ts";
import { ALICE, BOB, PLANNER, SEARCHER, SESSION, ISSUER } from "../support/deployment.ts";

const scopes = new Map<string, Scope>(
  ["aws:files", "gcp:files", "azure:files"].map((name) => [name, { name, leastTier: "free", description: "x" }]),
);
const AWS: RoleInput = {
  provider: "aws",
  alias: "files",
  atRest: "encrypted",
  roleArn: "arn:aws:iam::123456789012:role/files",
  region: "eu-central-1",
};

function rolesOf(...input: RoleInput[]) {
  const mistakes: string[] = [];
  return { roles: checkRoles(input, scopes, isTier, mistakes), mistakes };
}
const role = rolesOf(AWS).roles.get("aws:files") as AwsRole;

describe("roles", () => {
  test("defaults are the strict ones", () => {
    expect(rolesOf(AWS).mistakes).toEqual([]);
    expect(role).toMatchObject({
      scope: "aws:files",
      requiredTier: "admin",
      actors: { allow: "own", unproven: true },
      durationSeconds: 3_600,
      audience: "sts.amazonaws.com",
      endpoint: "https://sts.eu-central-1.amazonaws.com/",
      policy: null,
      proxy: null,
    });
  });

  test.each<[string, object, RegExp]>([
    ["no decision about rest", { atRest: undefined }, /there is no default/],
    ["another word for rest", { atRest: "plain" }, /there is no default/],
    ["a scope that is not listed", { alias: "other" }, /needs the scope "aws:other"/],
    ["an alias that is no word", { alias: "My Files" }, /an alias is/],
    ["an unknown member", { roleARN: "x" }, /unknown member "roleARN"/],
    ["plain http elsewhere", { endpoint: "http://sts.example.com/" }, /https, or http on this machine/],
    ["a user in the endpoint", { endpoint: "https://a@sts.example.com/" }, /https, or http/],
    ["no role's ARN", { roleArn: "files" }, /no role's ARN/],
    ["too short a life", { durationSeconds: 899 }, /between 900 and 43200/],
    ["too long a life", { durationSeconds: 43_201 }, /between 900 and 43200/],
    ["a proxy with a path", { proxy: { service: "s3", origins: ["https://s3.example.com/x"] } }, /proxy origin/],
    [
      "an unknown placeholder",
      { policy: { Statement: [{ Resource: "${legate:name}" }] } },
      /unknown placeholder "name"/,
    ],
    ["an unknown tier", { requiredTier: "gold" }, /requiredTier/],
  ])("%s is a mistake", (_, over, mistake) => {
    expect(rolesOf({ ...AWS, ...over }).mistakes.join("\n")).toMatch(mistake);
  });

  test("http on loopback is for development", () => {
    for (const endpoint of ["http://127.0.0.1:8480/", "http://localhost:1/", "http://[::1]:2"])
      expect(rolesOf({ ...AWS, endpoint }).mistakes).toEqual([]);
  });

  test("the other providers", () => {
    const { roles, mistakes } = rolesOf(
      { provider: "gcp", alias: "files", atRest: "none", audience: "//iam.googleapis.com/x", scope: "s" },
      { provider: "azure", alias: "files", atRest: "none", endpoint: "https://a.example/t", clientId: "c", scope: "s" },
    );
    expect(mistakes).toEqual([]);
    expect([...roles.keys()]).toEqual(["gcp:files", "azure:files"]);
  });

  test("a deployment carries them", () => {
    const checked = checkConfig({
      agents: [],
      scopes: [{ name: "aws:files", leastTier: "free", description: "Files." }],
      roles: [AWS],
    });
    expect(checked.ok && checked.value.roles.get("aws:files")?.alias).toBe("files");
  });
});

describe("failures are classified by code", () => {
  test.each<[string | null, number, string]>([
    ["InvalidIdentityToken", 400, "remint"],
    ["ExpiredTokenException", 400, "remint"],
    ["IDPCommunicationError", 400, "retry"],
    ["IDPRejectedClaim", 403, "permanent"],
    ["AccessDenied", 403, "permanent"],
    ["MalformedPolicyDocument", 400, "permanent"],
    ["PackedPolicyTooLarge", 400, "permanent"],
    ["ValidationError", 400, "permanent"],
    ["RegionDisabledException", 403, "permanent"],
    ["Throttling", 400, "retry"],
    ["ThrottlingException", 400, "retry"],
    ["InternalFailure", 500, "retry"],
    ["ServiceUnavailable", 503, "retry"],
    ["SomethingNew", 400, "permanent"],
    ["SomethingNew", 500, "retry"],
    ["constructor", 400, "permanent"],
    [null, 502, "retry"],
    [null, 429, "retry"],
    [null, 302, "permanent"],
    [null, 404, "permanent"],
  ])("%s with %i is %s", (code, status, kind) => expect(classify(code, status).kind).toBe(kind));

  test("what is not known is not repeated to anyone", () => {
    expect(classify("SomethingNew", 400).code).toBe("unknown");
  });

  test("pauses: five seconds where asking changes nothing, else doubling to a minute, within a quarter", () => {
    expect(pauseMs("permanent", 9, 0.3)).toBe(5_000);
    expect([1, 2, 3, 4, 7, 20].map((n) => pauseMs("retry", n, 0.5))).toEqual([
      1_000, 2_000, 4_000, 8_000, 60_000, 60_000,
    ]);
    expect([pauseMs("retry", 1, 0), pauseMs("retry", 1, 0.999)]).toEqual([750, 1_250]);
  });
});

describe("freshness", () => {
  const entry = { madeAt: 0, expiresAt: 3_600_000 };
  test.each<[number, number, string]>([
    [0, 0, "fresh"],
    [2_699_999, 0, "fresh"],
    [2_700_000, 0, "usable"],
    [3_540_000, 0, "usable"],
    [3_540_001, 0, "must-refresh"],
    [4_000_000, 0, "must-refresh"],
    [2_799_999, 0.999, "fresh"],
  ])("of an hour, after %i ms with jitter %f: %s", (now, jitter, is) =>
    expect(freshnessOf(entry, jitter, now)).toBe(is),
  );

  test("a short life has a window of a third; none ends before a minute is left", () => {
    expect(refreshAtMs(0, 900_000, 0)).toBe(600_000);
    expect(refreshAtMs(0, 100_000, 0)).toBe(40_000);
  });

  test("jitter is of the key", () => {
    expect(jitterOf("00000000ff")).toBe(0);
    expect(jitterOf("ffffffff00")).toBeLessThan(1);
    expect(jitterOf("80000000")).toBe(0.5);
  });
});

const AWS_ANSWER = `<AssumeRoleWithWebIdentityResponse xmlns="https://sts.amazonaws.com/doc/2011-06-15/">
  <AssumeRoleWithWebIdentityResult><Credentials>
    <AccessKeyId>ASIAX</AccessKeyId><SecretAccessKey>a/b+c=&amp;</SecretAccessKey>
    <SessionToken>tok</SessionToken><Expiration>2030-01-01T00:00:00Z</Expiration>
  </Credentials></AssumeRoleWithWebIdentityResult></AssumeRoleWithWebIdentityResponse>`;

describe("what an STS answers", () => {
  test("AWS, and Ceph with its nanoseconds and without a namespace", () => {
    expect(readAssumedRole(AWS_ANSWER)).toEqual({
      secrets: { provider: "aws", accessKeyId: "ASIAX", secretAccessKey: "a/b+c=&", sessionToken: "tok" },
      expiresAt: Date.UTC(2030, 0, 1),
    });
    const ceph = AWS_ANSWER.replace(/ xmlns="[^"]*"/, "").replace("00:00:00Z", "00:00:00.123456789Z");
    expect(readAssumedRole(ceph)?.expiresAt).toBe(Date.UTC(2030, 0, 1) + 123);
  });

  test.each([
    ["nothing", ""],
    ["a page", "<html><body>Sign in</body></html>"],
    ["one member too few", AWS_ANSWER.replace("SessionToken>tok", "SessionToken>")],
    ["no moment", AWS_ANSWER.replace("2030-01-01T00:00:00Z", "soon")],
    ["half of it", AWS_ANSWER.slice(0, 200)],
  ])("%s is no credential", (_, xml) => expect(readAssumedRole(xml)).toBeNull());

  test("a code, wrapped as AWS does and bare as Ceph does", () => {
    const bare = "<Error><Code>AccessDenied</Code><RequestId>x</RequestId></Error>";
    expect(readErrorCode(bare)).toBe("AccessDenied");
    expect(readErrorCode(`<ErrorResponse xmlns="x">${bare}</ErrorResponse>`)).toBe("AccessDenied");
    expect(readErrorCode("<html><Code>AccessDenied</Code></html>")).toBeNull();
    expect(readErrorCode("<Error><Code>a b<script></Code></Error>")).toBeNull();
  });

  test("the form", () => {
    const form = assumeRoleForm(role, {
      sessionName: "ses_x",
      webIdentity: "a.b.c",
      policy: '{"a":"&="}',
      durationSeconds: 900,
    });
    expect(Object.fromEntries(new URLSearchParams(form))).toEqual({
      Action: "AssumeRoleWithWebIdentity",
      Version: "2011-06-15",
      RoleArn: role.roleArn,
      RoleSessionName: "ses_x",
      WebIdentityToken: "a.b.c",
      DurationSeconds: "900",
      Policy: '{"a":"&="}',
    });
  });
});

describe("session policies", () => {
  const names = { user: ALICE, session: SESSION, grant: `${SESSION}.x`, agent: PLANNER };
  const END = 1_800_000_000;

  test("without a template: what the role may, until the node ends", () => {
    const { text, endsWithNode } = bindPolicy(null, names, END) ?? { text: "{}", endsWithNode: false };
    expect(endsWithNode).toBe(true);
    expect(JSON.parse(text)).toEqual({
      Version: "2012-10-17",
      Statement: [
        { Effect: "Allow", Action: "*", Resource: "*" },
        {
          Effect: "Deny",
          Action: "*",
          Resource: "*",
          Condition: { DateGreaterThanEquals: { "aws:CurrentTime": "2027-01-15T08:00:00Z" } },
        },
      ],
    });
  });

  test("placeholders are ours; the cloud's own stay", () => {
    const Resource = ["arn:aws:s3:::b/${legate:user}/*", "${aws:PrincipalTag/legate-agent}"];
    const bound = bindPolicy({ Statement: [{ Effect: "Allow", Action: "s3:*", Resource }] }, names, END);
    expect(bound?.text).toContain(`arn:aws:s3:::b/${ALICE}/*`);
    expect(bound?.text).toContain("${aws:PrincipalTag/legate-agent}");
  });

  test("room: 2,048 characters with the end, or without it, or not at all", () => {
    const base = { Effect: "Allow", Action: "s3:*" };
    const lengthOf = (n: number) => bindPolicy({ Statement: [{ ...base, Resource: "x".repeat(n) }] }, names, END);
    const bare = (lengthOf(1)?.text.length ?? 0) - 1;
    expect(lengthOf(2_048 - bare)?.endsWithNode).toBe(true);
    expect(lengthOf(2_048 - bare + 1)?.endsWithNode).toBe(false);
    expect(lengthOf(2_048)).toBeNull();
    expect(checkPolicy({ Statement: [{ ...base, Resource: "x".repeat(2_048) }] })).toHaveLength(1);
  });

  test("the text that ends at AWS what was handed out", () => {
    expect(JSON.parse(denyPolicy([SESSION], 1_800_000_000_500))).toEqual({
      Version: "2012-10-17",
      Statement: [
        {
          Effect: "Deny",
          Action: "*",
          Resource: "*",
          Condition: {
            StringLike: { "aws:PrincipalTag/legate-grant": [SESSION, `${SESSION}.*`] },
            DateLessThan: { "aws:TokenIssueTime": "2027-01-15T08:00:02Z" },
          },
        },
      ],
    });
  });
});

describe("the web-identity token", () => {
  const chain = [
    { sub: PLANNER, proven: true },
    { sub: SEARCHER, proven: true },
    { sub: `${SEARCHER}/reader`, proven: false },
  ];
  const grant = `${SESSION}.aaaaaaaaaaaa` as NodePath;
  const tags = tagsOf(ALICE, chain, grant);

  test("tags name the root agent, the nearest proven one, session and grant", () => {
    expect(tags).toEqual({
      "legate-root-agent": PLANNER,
      "legate-agent": SEARCHER,
      "legate-session": SESSION,
      "legate-grant": grant,
    });
    expect(tagsOf(ALICE, chain.slice(0, 2), grant)).toEqual(tags);
    expect(tagsOf(ALICE, [], grant)["legate-agent"]).toBe(ALICE);
    expect(tagValue("ses.~planner".padStart(300, "x"))).toMatch(/^x{244}ses\.@planner$/);
  });

  test("claims: one audience, integer times, five minutes, nothing personal", () => {
    const claims = webIdentityClaims({ issuer: ISSUER, role, user: ALICE, tags, jti: "j", now: 7 as EpochSeconds });
    expect(claims).toEqual({
      iss: ISSUER,
      sub: `${ALICE}:aws:files`,
      aud: "sts.amazonaws.com",
      iat: 7,
      exp: 307,
      jti: "j",
      "https://aws.amazon.com/tags": {
        principal_tags: Object.fromEntries(Object.entries(tags).map(([name, value]) => [name, [value]])),
        transitive_tag_keys: Object.keys(tags),
      },
      "https://aws.amazon.com/source_identity": ALICE,
    });
    expect(subjectOf(ALICE, role).length).toBeLessThan(255);
  });
});

const GITHUB: IssuerInput = {
  issuer: "https://token.actions.example.com",
  for: "sessions",
  audience: "https://legate.example.com",
  algorithms: ["RS256"],
  claims: { repository_id: "42" },
  subjects: [{ subject: "repo:O/R:ref:refs/heads/*", user: ALICE, client: PLANNER }],
};

describe("foreign issuers", () => {
  const check = (...input: IssuerInput[]) => {
    const mistakes: string[] = [];
    return { issuers: checkIssuers(input, scopes, mistakes), mistakes };
  };

  test.each<[string, string, boolean]>([
    ["repo:o/r", "repo:o/r", true],
    ["repo:o/r", "repo:o/r:x", false],
    ["repo:o/r", "xrepo:o/r", false],
    ["repo:o/*", "repo:o/r", true],
    ["repo:o/*", "repo:o/", false],
    ["repo:o/*:env:prod", "repo:o/r:env:prod", true],
    ["repo:o/*:env:prod", "repo:o/r:env:prod:x", false],
    ["*:prod", ":prod", false],
    ["a*b*c", "a1b2c", true],
    ["a*b*c", "abbbc", true],
    ["a*b*c", "abbc", false],
    ["a*b*c", "abc", false],
    ["a.c", "abc", false],
  ])("%s against %s: %s", (pattern, subject, is) => expect(matchesSubject(pattern, subject)).toBe(is));

  test("required claims are exact, own and plain", () => {
    expect(hasClaims({ repository_id: 42 }, { repository_id: "42" })).toBe(true);
    expect(hasClaims({ repository_id: ["42"] }, { repository_id: "42" })).toBe(false);
    expect(hasClaims({}, { constructor: "x" })).toBe(false);
  });

  test("an entry maps to one user and one client, or to nobody", () => {
    const issuer = check(GITHUB).issuers.get(GITHUB.issuer);
    if (issuer === undefined) throw new Error("no issuer");
    const claims = { sub: "repo:O/R:ref:refs/heads/main", repository_id: "42" };
    expect(subjectFor(issuer, claims)).toMatchObject({ user: ALICE, client: PLANNER });
    expect(subjectFor(issuer, { ...claims, repository_id: "43" })).toBeNull();
    expect(subjectFor(issuer, { ...claims, sub: "repo:O/X:ref:refs/heads/main" })).toBeNull();
    expect(subjectFor(issuer, { repository_id: "42" })).toBeNull();
  });

  test.each<[string, object, RegExp]>([
    ["plain http", { issuer: "http://idp.example.com" }, /must be https/],
    ["no algorithm", { algorithms: [] }, /needs algorithms/],
    ["none", { algorithms: ["none"] }, /needs algorithms/],
    ["a shared secret", { algorithms: ["HS256"] }, /needs algorithms/],
    ["nobody", { subjects: [] }, /maps no subject/],
    ["everybody", { subjects: [{ subject: "*", user: ALICE, client: PLANNER }] }, /nearly everyone/],
    ["another's client", { subjects: [{ subject: "repo", user: BOB, client: PLANNER }] }, /not an agent of that user/],
    ["no client", { subjects: [{ subject: "repo", user: ALICE }] }, /needs client/],
    ["an operator by proxy", { for: "operators" }, /acts in person/],
    ["an unknown scope", { subjects: [{ ...GITHUB.subjects[0], scope: ["x"] }] }, /gives the scope "x"/],
    ["no purpose", { for: "all" }, /what it is for/],
  ])("%s is a mistake", (_, over, mistake) => {
    expect(check({ ...GITHUB, ...over }).mistakes.join("\n")).toMatch(mistake);
  });

  test("the plain one has none", () => expect(check(GITHUB).mistakes).toEqual([]));
});
