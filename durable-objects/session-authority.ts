// One per user. A shell: what it may do is the interface AuthorityRpc and nothing else.
import { DurableObject } from "cloudflare:workers";

export class SessionAuthority extends DurableObject<Env> {}
