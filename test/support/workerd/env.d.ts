// Bindings that only the tests have. They are added to the base interface: augmenting Cloudflare.Env alone leaves
// `Server<Env>` and `Agent<Env>` without them.
interface __BaseEnv_Env {
  TEST_MIGRATIONS: import("cloudflare:test").D1Migration[];
}
