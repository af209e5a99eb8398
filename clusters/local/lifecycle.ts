import { type ChildProcess, spawn } from "node:child_process";
import { closeSync, openSync } from "node:fs";
import { readFile, rm } from "node:fs/promises";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { LocalError } from "./errors.ts";
import { lastLines } from "./log-file.ts";
import { isolationWarning, readIsolation } from "./node-agent/isolation.ts";
import {
  type ClusterState,
  clusterFolder,
  ensureFolders,
  openCluster,
  REPOSITORY,
  supervisorPid,
} from "./state.ts";
import type { StatusFile } from "./supervisor/main.ts";
import { ensureToolchain } from "./toolchain/index.ts";
import { alive } from "./toolchain/install.ts";

const POLL_MS = 50;
const UP_TIMEOUT_MS = 120_000;
const DOWN_TIMEOUT_MS = 60_000;

/**
 * Starts a cluster in the background and resolves when all of it is ready; does nothing when it runs. When the signal is
 * aborted before, what was started is stopped again, and the promise rejects with the signal's reason.
 */
export async function upCluster(
  name: string,
  progress: (line: string) => void,
  signal?: AbortSignal,
): Promise<ClusterState> {
  // Here rather than in the background: the first time takes minutes and its progress is worth seeing.
  await ensureToolchain({ progress, signal });
  signal?.throwIfAborted();
  const state = await openCluster(name);
  let child: ChildProcess | undefined;
  if ((await supervisorPid(state.folder)) === undefined) {
    await rm(join(state.folder, "status.json"), { force: true });
    await ensureFolders(state.folder, ["logs"]);
    const log = openSync(join(state.folder, "logs", "supervisor.log"), "a");
    const main = join(REPOSITORY, "clusters/local/supervisor/main.ts");
    child = spawn(process.execPath, [main, "--name", name], { stdio: ["ignore", log, log], detached: true });
    closeSync(log);
    child.unref();
  }
  const died = () => child !== undefined && child.exitCode !== null;
  await waitReady(state, progress, died, signal).catch(async (error: unknown) => {
    if (signal?.aborted === true && child !== undefined) await endSupervisor(child);
    throw error;
  });
  return state;
}

/** It may not have written its number down yet. */
async function endSupervisor(child: ChildProcess): Promise<void> {
  const ended = new Promise((resolve) => child.once("exit", resolve));
  if (child.exitCode !== null || child.signalCode !== null) return;
  child.kill("SIGTERM");
  const late = setTimeout(() => child.kill("SIGKILL"), DOWN_TIMEOUT_MS);
  await ended;
  clearTimeout(late);
}

async function waitReady(
  state: ClusterState,
  progress: (line: string) => void,
  died: () => boolean,
  signal: AbortSignal | undefined,
): Promise<void> {
  const deadline = Date.now() + UP_TIMEOUT_MS;
  const told = new Set<string>();
  while (Date.now() < deadline) {
    signal?.throwIfAborted();
    const over = died();
    const status = await readStatus(state.folder);
    for (const member of status?.processes ?? []) {
      if (member.state !== "ready" || told.has(member.name)) continue;
      told.add(member.name);
      progress(`${member.name} ready after ${((member.readyMs ?? 0) / 1000).toFixed(1)} s`);
    }
    if (status?.phase === "ready") {
      const isolation = await readIsolation(state.folder);
      const warning = isolation && isolationWarning(isolation);
      if (warning !== undefined) progress(`warning: ${warning}`);
      return;
    }
    if (status?.phase === "failed") {
      throw new LocalError("NOT_READY", status.message ?? "the cluster did not start");
    }
    if (over) break;
    await sleep(POLL_MS);
  }
  const lines = await lastLines(join(state.folder, "logs", "supervisor.log"), 5).catch(() => []);
  throw new LocalError(
    "NOT_READY",
    `cluster ${state.name} did not start; its supervisor says:\n${lines.join("\n")}`,
  );
}

/** Stops a cluster in order; false when it was not running. */
export async function downCluster(name: string): Promise<boolean> {
  const folder = clusterFolder(name);
  const pid = await supervisorPid(folder);
  if (pid === undefined) return false;
  process.kill(pid, "SIGTERM");
  const deadline = Date.now() + DOWN_TIMEOUT_MS;
  while (Date.now() < deadline) {
    if (!alive(pid)) return true;
    await sleep(POLL_MS);
  }
  // The kernel ends the children with it.
  process.kill(pid, "SIGKILL");
  await rm(join(folder, "supervisor.pid"), { force: true });
  return true;
}

/** Stops a cluster and deletes everything it holds. */
export async function resetCluster(name: string): Promise<void> {
  await downCluster(name);
  await rm(clusterFolder(name), { recursive: true, force: true });
}

export async function readStatus(folder: string): Promise<StatusFile | undefined> {
  const text = await readFile(join(folder, "status.json"), "utf8").catch(() => undefined);
  return text === undefined ? undefined : (JSON.parse(text) as StatusFile);
}
