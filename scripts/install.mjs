// Installs what is missing or older than package-lock.json, as npm start and npm test do by themselves.
import { install } from "./lib/install.mjs";
import { main } from "./lib/term.mjs";

await main(install);
