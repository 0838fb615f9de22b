import { defineConfig } from "drizzle-kit";

export default defineConfig({
  dialect: "sqlite",
  schema: "./drizzle/d1/schema.ts",
  out: "./drizzle/d1/migrations",
  casing: "snake_case",
});
