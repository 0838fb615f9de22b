// oidc-provider 9 brings no types; this much of it is used (test/conformance/federation.test.ts and gcp.test.ts).
declare module "oidc-provider" {
  import type { IncomingMessage, ServerResponse } from "node:http";
  export interface GrantContext {
    readonly oidc: { readonly params?: Readonly<Record<string, string | undefined>>; readonly client: unknown };
    body: unknown;
  }
  interface AccessToken {
    readonly accountId: string;
    readonly expiration: number;
    save(): Promise<string>;
  }
  interface AccessTokens {
    new (of: { client: unknown; accountId: string | undefined; scope: string | undefined }): AccessToken;
    find(text: string): Promise<AccessToken | undefined>;
  }
  export class Provider {
    constructor(issuer: string, configuration: object);
    readonly AccessToken: AccessTokens;
    callback(): (request: IncomingMessage, response: ServerResponse) => void;
    registerGrantType(name: string, handler: (context: GrantContext) => Promise<void>, members: string[]): void;
  }
  type Refusal = new (description: string) => Error;
  export const errors: { InvalidRequest: Refusal; InvalidTarget: Refusal; InvalidGrant: Refusal };
}
