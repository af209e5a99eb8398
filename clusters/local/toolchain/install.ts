import { mkdir, open, readdir, readFile, rename, rm, unlink } from "node:fs/promises";
import { dirname, join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { errnoOf, LocalError } from "../errors.ts";

/** True while a process of this number exists. */
export function alive(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return true;
  } catch (error) {
    return errnoOf(error) === "EPERM";
  }
}

/** Makes a folder, with an error that says what to do when the path cannot be written. */
export async function makeFolder(path: string): Promise<void> {
  try {
    await mkdir(path, { recursive: true });
  } catch (error) {
    throw new LocalError(
      "PATH_NOT_WRITABLE",
      `cannot write to ${path} (${errnoOf(error)}): make it writable, or name another folder with BATON_CACHE (downloads and builds) or BATON_STATE (clusters)`,
      { cause: error },
    );
  }
}

/**
 * Fills `folder` by calling `build` on a temporary neighbour and renaming that into place, so that the
 * folder is either whole or absent. Processes that want the same folder wait for each other, or until the signal is aborted.
 */
export async function installOnce(
  folder: string,
  build: (temporary: string) => Promise<void>,
  onWait: (pid: number) => void = () => {},
  signal?: AbortSignal,
): Promise<void> {
  const parent = dirname(folder);
  await makeFolder(parent);
  const unlock = await lock(`${folder}.lock`, onWait, signal);
  try {
    await removeLeftovers(folder);
    if (await exists(folder)) return;
    const temporary = `${folder}.tmp-${process.pid}`;
    try {
      await mkdir(temporary);
      await build(temporary);
      await rename(temporary, folder);
    } catch (error) {
      await rm(temporary, { recursive: true, force: true });
      throw error;
    }
  } finally {
    await unlock();
  }
}

async function exists(folder: string): Promise<boolean> {
  return (await readdir(folder).catch(() => undefined)) !== undefined;
}

/** What an interrupted build left behind; safe under the lock. */
async function removeLeftovers(folder: string): Promise<void> {
  const parent = dirname(folder);
  const prefix = `${folder.slice(parent.length + 1)}.tmp-`;
  for (const name of await readdir(parent)) {
    if (name.startsWith(prefix)) await rm(join(parent, name), { recursive: true, force: true });
  }
}

/** A lock file that holds its owner's process number; a dead owner's lock is taken over. */
async function lock(
  path: string,
  onWait: (pid: number) => void,
  signal: AbortSignal | undefined,
): Promise<() => Promise<void>> {
  for (let told = false; ; ) {
    signal?.throwIfAborted();
    try {
      const file = await open(path, "wx");
      await file.writeFile(String(process.pid));
      await file.close();
      return () => unlink(path);
    } catch (error) {
      if (errnoOf(error) !== "EEXIST") throw error;
    }
    const owner = Number(await readFile(path, "utf8").catch(() => "0"));
    if (owner > 0 && !alive(owner)) {
      await unlink(path).catch(() => {});
      continue;
    }
    if (!told && owner > 0) {
      told = true;
      onWait(owner);
    }
    await sleep(200);
  }
}
