/** What drizzle-kit's `migrations.js` exports: the journal, and the SQL of each migration by name. */
declare const migrations: {
  journal: { entries: { idx: number; when: number; tag: string; breakpoints: boolean }[] };
  migrations: Record<string, string>;
};
export default migrations;
