import { defineConfig } from "drizzle-kit";

export default defineConfig({
  dialect: "sqlite",
  driver: "durable-sqlite",
  schema: ["./drizzle/authority/schema.ts", "./drizzle/authority/credential-tables.ts"],
  out: "./drizzle/authority/migrations",
  casing: "snake_case",
});
