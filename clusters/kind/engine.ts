import { spawn } from "node:child_process";
import { closeSync, openSync } from "node:fs";
import { mkdir, readFile, rm, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { needEngine } from "../docker.ts";
import { LocalError } from "../local/errors.ts";
import { REPOSITORY } from "../local/state.ts";
import { ensureProgram } from "../local/toolchain/index.ts";
import { alive } from "../local/toolchain/install.ts";

// A Docker engine where none runs: Debian's, started by hand, for machines without a service manager such as CI's.

const FOLDER = join(REPOSITORY, ".baton", "kind");
const PID_FILE = join(FOLDER, "dockerd.pid");
const START_MS = 60_000;

/** Installs and starts a Docker engine; does nothing when one answers. */
export async function startEngine(progress: (line: string) => void): Promise<void> {
  if (await answers()) return progress("a Docker engine runs already");
  await ensureProgram("dockerd", "docker.io", progress);
  await ensureProgram("iptables", "iptables", progress);
  await mkdir(FOLDER, { recursive: true });
  const log = openSync(join(FOLDER, "dockerd.log"), "a");
  const child = spawn("dockerd", [], { stdio: ["ignore", log, log], detached: true });
  closeSync(log);
  child.unref();
  const ended = new Promise<string>((resolve) => {
    child.on("error", (error) => resolve(error.message));
    child.on("exit", (code) => resolve(`exit code ${code}`));
  });
  await writeFile(PID_FILE, String(child.pid ?? 0));
  for (const deadline = Date.now() + START_MS; Date.now() < deadline; ) {
    if (await answers()) return progress(`the Docker engine answers (process ${child.pid})`);
    const end = await Promise.race([ended, sleep(500)]);
    if (end !== undefined) {
      await rm(PID_FILE, { force: true });
      throw new LocalError("NO_ENGINE", `dockerd ended (${end}); ${join(FOLDER, "dockerd.log")} says why`);
    }
  }
  throw new LocalError("NO_ENGINE", `dockerd does not answer; ${join(FOLDER, "dockerd.log")} says why`);
}

/** Stops the engine that {@link startEngine} started; false when it started none. */
export async function stopEngine(): Promise<boolean> {
  const pid = Number(await readFile(PID_FILE, "utf8").catch(() => "0"));
  if (pid <= 0 || !alive(pid)) return false;
  process.kill(pid, "SIGTERM");
  while (alive(pid)) await sleep(100);
  await rm(PID_FILE, { force: true });
  return true;
}

async function answers(): Promise<boolean> {
  return needEngine().then(
    () => true,
    () => false,
  );
}
