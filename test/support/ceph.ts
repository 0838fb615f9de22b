// A real Ceph with STS and S3 for the tests of one file: started by the project's own script, its roles made through the
// official IAM client, gone at the end.
import { execFile } from "node:child_process";
import { mkdtempSync, rmSync } from "node:fs";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { promisify } from "node:util";
import {
  CreateOpenIDConnectProviderCommand,
  CreateRoleCommand,
  IAMClient,
  PutRolePolicyCommand,
} from "@aws-sdk/client-iam";
import { ROOT } from "../../scripts/lib/paths.mjs";

const run = promisify(execFile);
const script = (name: string) => join(ROOT, "scripts/ceph", name);

async function freePort(): Promise<number> {
  const server = createServer();
  await new Promise<void>((ready) => server.listen(0, "127.0.0.1", ready));
  const address = server.address();
  await new Promise((closed) => server.close(closed));
  return typeof address === "object" && address !== null ? address.port : 0;
}

export class Ceph {
  readonly #folder: string;
  readonly endpoint: string;
  readonly #iam: IAMClient;

  private constructor(folder: string, port: number) {
    this.#folder = folder;
    this.endpoint = `http://127.0.0.1:${port}`;
    this.#iam = new IAMClient({
      endpoint: this.endpoint,
      region: "default",
      credentials: { accessKeyId: "ADMINKEY", secretAccessKey: "adminsecret" },
    });
  }

  static async start(): Promise<Ceph> {
    const folder = mkdtempSync(join(tmpdir(), "legate-ceph-"));
    const port = await freePort();
    const monitor = 20_000 + (port % 10_000);
    await run(script("up.sh"), [folder, String(port), String(monitor)]);
    return new Ceph(folder, port);
  }

  async end(): Promise<void> {
    this.#iam.destroy();
    await run(script("down.sh"), [this.#folder, "--wipe"]);
    rmSync(this.#folder, { recursive: true, force: true });
  }

  /** Trusts tokens of that issuer, as AWS is made to. */
  async trust(issuer: string): Promise<void> {
    const order = { Url: issuer, ClientIDList: ["sts.amazonaws.com"], ThumbprintList: ["0".repeat(40)] };
    await this.#iam.send(new CreateOpenIDConnectProviderCommand(order));
  }

  /** @returns the role's ARN */
  async role(name: string, issuer: string, statements: readonly object[], trusted: object = {}): Promise<string> {
    const provider = issuer.replace(/^https?:\/\//, "");
    const trust = {
      Version: "2012-10-17",
      Statement: [
        {
          Effect: "Allow",
          Principal: { Federated: [`arn:aws:iam:::oidc-provider/${provider}`] },
          Action: ["sts:AssumeRoleWithWebIdentity", "sts:TagSession"],
          Condition: { StringEquals: { [`${provider}:aud`]: "sts.amazonaws.com" }, ...trusted },
        },
      ],
    };
    const { Role } = await this.#iam.send(
      new CreateRoleCommand({ RoleName: name, AssumeRolePolicyDocument: JSON.stringify(trust) }),
    );
    const PolicyDocument = JSON.stringify({ Version: "2012-10-17", Statement: statements });
    await this.#iam.send(new PutRolePolicyCommand({ RoleName: name, PolicyName: "it", PolicyDocument }));
    return Role?.Arn ?? "";
  }
}
