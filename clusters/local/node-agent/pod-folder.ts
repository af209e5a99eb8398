import { mkdir, readFile, rm, writeFile } from "node:fs/promises";
import { join } from "node:path";
import type { PodTarget } from "./kubelet-server.ts";
import type { Pod } from "./types.ts";

/** A Pod that was over when the agent started. */
export function finishedTarget(pod: Pod, folder: string): PodTarget {
  return {
    podIp: pod.status?.podIP ?? "",
    containers: namesOf(pod.spec),
    waiting: () => undefined,
    running: () => undefined,
    logPath: (container, previous) => logFile(folder, container, previous),
  };
}

/** Names of all containers of a Pod, init containers first. */
export function namesOf(spec: Pod["spec"]): string[] {
  return [...(spec.initContainers ?? []), ...spec.containers].map((container) => container.name);
}

/** Where the log of a container's run is, or of the run before. */
export function logFile(folder: string, container: string, previous: boolean): string {
  return join(folder, `${container}${previous ? ".previous" : ""}.log`);
}

/** Makes a Pod's folder. What another Pod of the same name has left there, logs and token, is not its own. */
export async function ownFolder(folder: string, uid: string): Promise<void> {
  const note = join(folder, "uid");
  const owner = await readFile(note, "utf8").catch(() => undefined);
  if (owner === uid) return;
  await rm(folder, { recursive: true, force: true });
  await mkdir(folder, { recursive: true });
  await writeFile(note, uid);
}
