import { spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtemp, readFile, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { logText } from "#clusters/local/log-file.ts";
import { containerFolders, containerMounts, makeFolders } from "#clusters/local/node-agent/container-view.ts";
import { ContainerProcess, type IsolationMode } from "#clusters/local/node-agent/helper.ts";
import { DEFAULT_USER } from "#clusters/local/node-agent/security.ts";

// Runs a script as a container with a canary beside it, and prints what became of both. Only to be started as process 1 of a
// PID namespace, where a script that reaches beyond its container harms nobody.

if (process.pid > 2) throw new Error("not in a PID namespace made for this");
const [helper = "", mode = "", script = ""] = process.argv.slice(2);
const repository = join(import.meta.dirname, "..", "..");

const canary = spawn("sleep", ["1000"], { env: { CANARY: "secret" }, detached: true });
await once(canary, "spawn");
const base = await mkdtemp(join(tmpdir(), "baton-contained-"));
try {
  const folders = containerFolders(base, "main");
  await makeFolders(folders, mode as IsolationMode, DEFAULT_USER);
  const log = join(base, "main.log");
  const begun = performance.now();
  const container = new ContainerProcess(helper, {
    mode: mode as IsolationMode,
    args: ["sh", "-c", script],
    env: ["PATH=/usr/bin:/bin"],
    cwd: "/",
    hostname: "contained",
    process: { ...DEFAULT_USER, groups: [], capabilities: [], noNewPrivileges: true },
    root: folders.root,
    mounts: containerMounts({ repository, hidden: [], paths: [], credentials: undefined, folders }),
    log: { path: log, maxBytes: 1_000_000 },
  });
  const end = await container.ended;
  const ms = performance.now() - begun;
  // The word that the canary has died may be on its way.
  await sleep(50);
  const output = (await readFile(log, "utf8")).split("\n").map(logText).join("\n");
  console.log(JSON.stringify({ end, output, canary: canary.signalCode ?? "alive", ms }));
} finally {
  canary.kill("SIGKILL");
  await rm(base, { recursive: true, force: true });
}
