import { copyFile, open, readdir, rename, rm, stat, truncate } from "node:fs/promises";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { errnoOf } from "./errors.ts";

/** A log grows to this size and one older copy of the same size is kept beside it. */
export const LOG_BYTES = 32 * 1024 * 1024;

/**
 * Cuts a log that has grown too large, keeping what it held as `<file>.1`. The writer appends through its own
 * descriptor, so the file is emptied in place; lines written during the copy may be lost.
 */
export async function rotateLog(path: string, limit = LOG_BYTES): Promise<void> {
  const size = (await stat(path).catch(() => undefined))?.size ?? 0;
  if (size <= limit) return;
  await copyFile(path, `${path}.1`);
  await truncate(path, 0);
}

/** Puts the log of a container's earlier run aside, as `<name>.previous.log`, in place of the one before. */
export async function keepPrevious(path: string): Promise<void> {
  const previous = path.replace(/\.log$/, ".previous.log");
  for (const suffix of ["", ".1"]) {
    await rm(`${previous}${suffix}`, { force: true });
    await rename(`${path}${suffix}`, `${previous}${suffix}`).catch((error: unknown) => {
      if (errnoOf(error) !== "ENOENT") throw error;
    });
  }
}

/** The text of a line of a container's log: without its time, its stream, and the mark of a part of a line. */
export function logText(line: string): string {
  return line.replace(/^\S+ (?:stdout|stderr) [FP] /, "");
}

export async function rotateLogs(folder: string): Promise<void> {
  for (const name of await readdir(folder).catch(() => [])) {
    if (name.endsWith(".log")) await rotateLog(join(folder, name));
  }
}

/** The last `count` lines of a file; at most its last 256 KiB are read. */
export async function lastLines(path: string, count: number): Promise<string[]> {
  const file = await open(path, "r");
  try {
    const { size } = await file.stat();
    const length = Math.min(size, 256 * 1024);
    const buffer = Buffer.alloc(length);
    await file.read(buffer, 0, length, size - length);
    return buffer.toString("utf8").replace(/\n$/, "").split("\n").slice(-count);
  } finally {
    await file.close();
  }
}

/** Calls `line` with each line of a text that comes in pieces. */
export function byLine(line: (text: string) => void): (piece: string) => void {
  let rest = "";
  return (piece) => {
    const lines = `${rest}${piece}`.split("\n");
    rest = lines.pop() ?? "";
    for (const text of lines) line(text);
  };
}

/** Writes what is appended to a file to `write`, until the signal aborts. Follows a file that is cut. */
export async function followFile(
  path: string,
  write: (text: string) => void,
  signal: AbortSignal,
): Promise<void> {
  let position = (await stat(path)).size;
  while (!signal.aborted) {
    const size = (await stat(path).catch(() => undefined))?.size ?? 0;
    if (size < position) position = 0;
    if (size > position) {
      const file = await open(path, "r");
      const buffer = Buffer.alloc(Math.min(size - position, 1024 * 1024));
      const { bytesRead } = await file.read(buffer, 0, buffer.length, position);
      await file.close();
      position += bytesRead;
      write(buffer.subarray(0, bytesRead).toString("utf8"));
    }
    await sleep(200, undefined, { signal }).catch(() => {});
  }
}
