// Sixteen of them, fixed: counts failed sign-ins by name and by address, so that no name creates an object.
import { DurableObject } from "cloudflare:workers";

export class LoginLimiter extends DurableObject<Env> {}
