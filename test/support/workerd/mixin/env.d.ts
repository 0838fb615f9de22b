// The example's planner runs here as well; of its bindings it uses those of the mixin alone.
interface AgentsEnv extends Cloudflare.Env {}
