// The agents' Worker of `npm run bench -- federation`: it asks its service binding for credentials, as any agents' Worker
// does, and says how long each answer took. Classes have the names of the deployment's entries; one of them measures.
import { DurableObject } from "cloudflare:workers";
import type { CredentialServiceRpc } from "../../core/wire/credentials.ts";

interface MeasuringEnv {
  readonly LEGATE: CredentialServiceRpc;
}

/** What to measure; a credential never leaves this Worker. */
interface Order {
  readonly token: string;
  readonly alias: string;
  /** Asked one after the other, or all at once. */
  readonly times: number;
  readonly atOnce: boolean;
}

export class Researcher extends DurableObject<MeasuringEnv> {
  override async fetch(request: Request): Promise<Response> {
    const { token, alias, times, atOnce }: Order = await request.json();
    const keys = new Set<string>();
    const ask = async (): Promise<number> => {
      const began = performance.now();
      const answer = await this.env.LEGATE.credentials({ alias, token });
      const took = performance.now() - began;
      if (!answer.ok) throw new Error(`refused: ${JSON.stringify(answer.denial)}`);
      const { secrets } = answer.value;
      keys.add(secrets.provider === "aws" ? secrets.accessKeyId : "");
      return took;
    };
    const tookMs: number[] = [];
    if (atOnce) tookMs.push(...(await Promise.all(Array.from({ length: times }, ask))));
    else for (let i = 0; i < times; i++) tookMs.push(await ask());
    return Response.json({ tookMs, credentials: keys.size });
  }
}

export class Planner extends Researcher {}
export class Catalog extends Researcher {}

export default {
  fetch: () => new Response("Not found", { status: 404 }),
} satisfies ExportedHandler<MeasuringEnv>;
