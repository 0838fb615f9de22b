// node --import: LEGATE_TEST_CONFIG stands in the place of legate.config.ts, for scripts that import it.
import { registerHooks } from "node:module";
import { pathToFileURL } from "node:url";

registerHooks({
  resolve: (specifier, context, next) =>
    specifier === "../legate.config.ts"
      ? next(pathToFileURL(process.env.LEGATE_TEST_CONFIG ?? "").href, context)
      : next(specifier, context),
});
