// Against a real Ceph: what it checks, it checks for itself. Its STS fetches this deployment's discovery document and keys,
// and its S3 takes or refuses what the credentials may. The clients are Amazon's own, unmodified.
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import {
  CreateBucketCommand,
  GetObjectCommand,
  PutObjectCommand,
  S3Client,
  type S3ServiceException,
} from "@aws-sdk/client-s3";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import type { LegateConfigInput } from "../../core/config.ts";
import { input } from "../../legate.config.ts";
import { newOidcKey } from "../../scripts/lib/oidc-key.mjs";
import { Ceph } from "../support/ceph.ts";
import { Member, send, type RegisteredAgent } from "../support/conformance/people.ts";
import { Variant } from "../support/conformance/variant.ts";

const SCOPES = ["aws:files", "aws:tagged", "aws:signed"];
const BUCKET = "legate-files";

let ceph: Ceph;
let variant: Variant;
let member: Member;
let first: RegisteredAgent;
let second: RegisteredAgent;

function deployment(endpoint: string): LegateConfigInput {
  const role = (alias: string, over: object) => ({
    provider: "aws" as const,
    alias,
    atRest: "encrypted" as const,
    roleArn: `arn:aws:iam:::role/${alias}`,
    region: "default",
    endpoint,
    requiredTier: "free" as const,
    ...over,
  });
  const own = ["arn:aws:s3:::legate-files/${legate:user}/*"];
  return {
    ...input,
    scopes: [
      ...input.scopes,
      ...SCOPES.map((name) => ({ name, leastTier: "free" as const, description: "Files in the object store." })),
    ],
    roles: [
      role("files", {
        policy: {
          Statement: [
            { Effect: "Allow", Action: ["s3:GetObject", "s3:PutObject"], Resource: own },
            { Effect: "Allow", Action: "s3:CreateBucket", Resource: "*" },
          ],
        },
      }),
      role("tagged", {}),
      role("signed", { proxy: { service: "s3", origins: [endpoint] } }),
    ],
  };
}

/** Amazon's own client, which finds its credentials where any would: in the environment. */
function s3Of(alias: string, token: Readonly<Record<string, string>>) {
  return async <T>(act: (s3: S3Client) => Promise<T>): Promise<T> => {
    const env = { AWS_CONTAINER_CREDENTIALS_FULL_URI: `${variant.url}/federation/aws/${alias}`, ...token };
    Object.assign(process.env, env);
    const s3 = new S3Client({ endpoint: ceph.endpoint, region: "default", forcePathStyle: true, maxAttempts: 1 });
    try {
      return await act(s3);
    } finally {
      s3.destroy();
      for (const name of Object.keys(env)) Reflect.deleteProperty(process.env, name);
    }
  };
}

const asAgent = <T>(token: string, alias: string, act: (s3: S3Client) => Promise<T>) =>
  s3Of(alias, { AWS_CONTAINER_AUTHORIZATION_TOKEN: token })(act);

const put = (Key: string, Body: string) => (s3: S3Client) =>
  s3.send(new PutObjectCommand({ Bucket: BUCKET, Key, Body }));
const get = (Key: string) => async (s3: S3Client) => {
  const { Body } = await s3.send(new GetObjectCommand({ Bucket: BUCKET, Key }));
  return Body?.transformToString();
};
/** @returns the name of the refusal, or "done" */
const refusal = (act: Promise<unknown>) =>
  act.then(
    () => "done",
    (error: S3ServiceException) => error.name,
  );

beforeAll(async () => {
  ceph = await Ceph.start();
  const vars = { LEGATE_OIDC_KEYS: JSON.stringify([newOidcKey()]) };
  variant = await Variant.start({ input: deployment(ceph.endpoint), vars });
  await variant.migrate();
  member = await Member.signUp(variant.url);
  const scope = ["plan", ...SCOPES].join(" ");
  first = await member.registerAgent({ name: "first", scope });
  second = await member.registerAgent({ name: "second", scope });
  await ceph.trust(variant.url);
  const all = [{ Effect: "Allow", Action: "s3:*", Resource: "arn:aws:s3:::*" }];
  await ceph.role("files", variant.url, all);
  await ceph.role("signed", variant.url, all);
  await ceph.role("tagged", variant.url, [
    { ...all[0], Condition: { StringEquals: { "aws:PrincipalTag/legate-agent": first.clientId } } },
  ]);
});
afterAll(async () => {
  await variant?.end();
  await ceph?.end();
});

describe("an agent with a delegated token", () => {
  test("puts and gets an object, with a client that knows nothing of Legate", async () => {
    const session = await first.open({ scope: ["plan", "aws:files"] });
    const writer = await session.spawn("writer", { scope: ["aws:files"] });
    const token = await writer.token();
    await asAgent(token, "files", (s3) => s3.send(new CreateBucketCommand({ Bucket: BUCKET })));
    const key = `${member.id}/hello`;
    await asAgent(token, "files", put(key, "from an agent"));
    expect(await asAgent(token, "files", get(key))).toBe("from an agent");
  });

  test("does so with a token file, too, that the SDK keeps", async () => {
    const folder = mkdtempSync(join(tmpdir(), "legate-token-"));
    const session = await first.open({ scope: ["aws:files"] });
    const file = await session.tokenFile(join(folder, "token"));
    const key = `${member.id}/by-file`;
    const s3 = s3Of("files", { AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE: file.path });
    await s3(put(key, "by a file"));
    expect(await s3(get(key))).toBe("by a file");
    file.close();
    rmSync(folder, { recursive: true });
  });

  test("is refused the prefix of another user, by the session policy", async () => {
    const token = await tokenOf(first, "aws:files");
    expect(await refusal(asAgent(token, "files", put("usr_other/hello", "x")))).toBe("AccessDenied");
    expect(await refusal(asAgent(token, "files", put(`${member.id}/again`, "x")))).toBe("done");
  });

  test("is told apart from its sibling by its tags", async () => {
    const key = `${member.id}/tagged`;
    expect(await refusal(asAgent(await tokenOf(first, "aws:tagged"), "tagged", put(key, "x")))).toBe("done");
    expect(await refusal(asAgent(await tokenOf(second, "aws:tagged"), "tagged", put(key, "x")))).toBe("AccessDenied");
  });

  test("is out as soon as its session is", async () => {
    const session = await first.open({ scope: ["aws:files"] });
    const token = await session.token();
    expect(await refusal(asAgent(token, "files", put(`${member.id}/last`, "x")))).toBe("done");
    await member.browser.done("DELETE", `/sessions/${session.node}`);
    expect(await refusal(asAgent(token, "files", put(`${member.id}/late`, "x")))).not.toBe("done");
  });
});

describe("the signing proxy", () => {
  const place = (key: string) =>
    `${variant.url}/federation/aws/signed/proxy/${new URL(ceph.endpoint).host}/${BUCKET}/${key}`;

  test("puts and gets with no credential in the agent, bodies of a megabyte and more", async () => {
    const bearer = await tokenOf(first, "aws:signed");
    const body = "0123456789abcdef".repeat(131_072);
    const key = `${member.id}/signed object+1`;
    const sent = await send(place(key), "PUT", { bearer, body, headers: { "content-type": "text/plain" } });
    expect(sent.status).toBe(200);
    const got = await send(place(key), "GET", { bearer });
    expect(got.status).toBe(200);
    expect(got.text === body).toBe(true);
    expect(got.headers.get("content-security-policy")).toContain("sandbox");
    const part = await send(place(key), "GET", { bearer, headers: { range: "bytes=0-3" } });
    expect([part.status, part.text]).toEqual([206, "0123"]);
  });

  test("reaches what the role lists, and nothing else", async () => {
    const bearer = await tokenOf(first, "aws:signed");
    for (const host of ["127.0.0.1:1", "s3.example.com", "169.254.169.254", ""]) {
      const url = `${variant.url}/federation/aws/signed/proxy/${host}/x`;
      expect((await send(url, "GET", { bearer })).body["code"]).toBe("invalid_target");
    }
    const files = await tokenOf(first, "aws:files");
    const own = `${variant.url}/federation/aws/files/proxy/${new URL(ceph.endpoint).host}/x`;
    expect((await send(own, "GET", { bearer: files })).body["code"]).toBe("invalid_target");
  });
});

async function tokenOf(agent: RegisteredAgent, scope: string): Promise<string> {
  return (await agent.open({ scope: [scope] })).token();
}
