// Runs a command with the project's own dependencies, installing them first when they are missing or
// out of date. Plain JavaScript on purpose: on a fresh clone the system's Node (20 or later) runs it,
// and the command that follows gets the Node that npm installed.
import { spawn, spawnSync } from "node:child_process";
import { createHash } from "node:crypto";
import { existsSync, mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { delimiter, join } from "node:path";

const root = join(import.meta.dirname ?? new URL(".", import.meta.url).pathname, "..");
const modules = join(root, "node_modules");
const marker = join(modules, ".baton-installed");
const wanted = createHash("sha256")
  .update(readFileSync(join(root, "package-lock.json")))
  .digest("hex");

function installed() {
  return existsSync(marker) && readFileSync(marker, "utf8") === wanted;
}

if (!installed()) {
  const started = Date.now();
  console.error("baton: installing npm dependencies ...");
  // Not `npm ci`: it refuses a lock file that lacks another platform's optional package, and some registries do
  // not carry all of those. With the lock file present, `npm install` takes the versions and hashes from it.
  const args = ["install", "--no-save", "--no-audit", "--no-fund", "--loglevel=error"];
  const result = spawnSync("npm", args, {
    cwd: root,
    stdio: ["ignore", 2, "inherit"],
  });
  if (result.status !== 0) {
    console.error("baton: npm install failed; see its output above, then run the command again.");
    process.exit(result.status ?? 1);
  }
  mkdirSync(modules, { recursive: true });
  writeFileSync(marker, wanted);
  console.error(`baton: dependencies installed in ${((Date.now() - started) / 1000).toFixed(1)} s`);
}

// Formatting and a look for secrets before each commit; nothing to install.
if (process.env.CI !== "true")
  spawnSync("git", ["config", "core.hooksPath", ".githooks"], { cwd: root, stdio: "ignore" });

const [command, ...args] = process.argv.slice(2);
if (command === undefined) process.exit(0);
const path = [join(modules, ".bin"), process.env.PATH].join(delimiter);
// Hundreds of short processes run the same code: what it was compiled to is kept, which is a third of what a start costs.
const compiled = process.env.NODE_COMPILE_CACHE ?? join(modules, ".cache", "node");
const env = { ...process.env, PATH: path, NODE_COMPILE_CACHE: compiled };
const child = spawn(command, args, { stdio: "inherit", env });
// The terminal sends Ctrl-C to the whole group; the child decides when it is done.
for (const signal of ["SIGINT", "SIGTERM", "SIGHUP"]) {
  process.on(signal, () => signal !== "SIGINT" && child.kill(signal));
}
child.on("error", (error) => {
  console.error(`baton: cannot run ${command}: ${error.message}`);
  process.exit(127);
});
child.on("exit", (code, signal) => process.exit(signal === null ? (code ?? 1) : 130));
