import { type FileHandle, open, stat } from "node:fs/promises";
import { setTimeout as sleep } from "node:timers/promises";
import * as z from "zod";

// A container's log as the kubelet's containerLogs endpoint gives it. A line of the file is: time, stream, F or P, text.

const POLL_MS = 100;
const CHUNK_BYTES = 256 * 1024;

const flag = z.stringbool({ truthy: ["true", "1"], falsy: ["false", "0", ""] }).default(false);

/** What may be asked for; times are in RFC 3339. */
export const logQuerySchema = z.object({
  follow: flag,
  previous: flag,
  timestamps: flag,
  tailLines: z.coerce.number().int().min(0).optional(),
  sinceSeconds: z.coerce.number().int().min(1).optional(),
  sinceTime: z.iso.datetime({ offset: true }).optional(),
  limitBytes: z.coerce.number().int().min(1).optional(),
  stream: z.enum(["All", "Stdout", "Stderr"]).default("All"),
});
export type LogQuery = z.infer<typeof logQuerySchema>;

interface Entry {
  readonly time: string;
  readonly stream: string;
  /** A line that goes on in the next entry. */
  readonly partial: boolean;
  readonly text: string;
}

/** An entry of the log; undefined for a line that is none, such as one that a full disk has cut. */
export function parseEntry(line: string): Entry | undefined {
  const match = /^(\S+) (stdout|stderr) ([FP]) ?(.*)$/s.exec(line);
  if (match === null) return undefined;
  const [, time = "", stream = "", tag = "", text = ""] = match;
  return { time, stream, partial: tag === "P", text };
}

/** Decides what of each entry is shown; pure but for what it has shown so far. */
export class LogFilter {
  readonly #query: LogQuery;
  readonly #since: number;
  #atStart = true;
  #left: number;

  constructor(query: LogQuery, now: number) {
    this.#query = query;
    const { sinceSeconds, sinceTime } = query;
    if (sinceTime !== undefined) this.#since = Date.parse(sinceTime);
    else this.#since = sinceSeconds === undefined ? Number.NEGATIVE_INFINITY : now - sinceSeconds * 1000;
    this.#left = query.limitBytes ?? Number.POSITIVE_INFINITY;
  }

  /** True when as many bytes were shown as may be. */
  get full(): boolean {
    return this.#left <= 0;
  }

  wants(line: string): boolean {
    const entry = parseEntry(line);
    if (entry === undefined || Date.parse(entry.time) < this.#since) return false;
    return this.#query.stream === "All" || this.#query.stream.toLowerCase() === entry.stream;
  }

  show(line: string): Buffer {
    const entry = parseEntry(line);
    if (entry === undefined || this.full) return Buffer.alloc(0);
    const time = this.#query.timestamps && this.#atStart ? `${entry.time} ` : "";
    this.#atStart = !entry.partial;
    const bytes = Buffer.from(`${time}${entry.text}${entry.partial ? "" : "\n"}`);
    const shown = bytes.subarray(0, Math.min(bytes.length, this.#left));
    this.#left -= shown.length;
    return shown;
  }
}

export interface LogSource {
  readonly path: string;
  /** Whether something may still be written. */
  readonly running: () => boolean;
}

/** Writes what is asked for of a log, what was put aside of it first; with `follow` until its container has ended. */
export async function writeLog(
  source: LogSource,
  query: LogQuery,
  write: (bytes: Buffer) => Promise<void>,
  signal: AbortSignal,
): Promise<void> {
  const filter = new LogFilter(query, Date.now());
  const reader = await LogReader.open(source.path);
  try {
    let lines = (await reader.lines(signal)).filter((line) => filter.wants(line));
    if (query.tailLines !== undefined) lines = query.tailLines === 0 ? [] : lines.slice(-query.tailLines);
    for (;;) {
      if (lines.length > 0) await write(Buffer.concat(lines.map((line) => filter.show(line))));
      if (!query.follow || filter.full || signal.aborted) return;
      // Asked before the reading: what was written before the end is read after it.
      const running = source.running();
      lines = (await reader.lines(signal)).filter((line) => filter.wants(line));
      if (lines.length > 0) continue;
      if (!running) return;
      await sleep(POLL_MS, undefined, { signal }).catch(() => {});
    }
  } finally {
    await reader.close();
  }
}

/** Reads the complete lines of a log, over the moment when it is put aside. */
class LogReader {
  readonly #path: string;
  #file: FileHandle;
  #position = 0;
  #rest: Buffer = Buffer.alloc(0);
  #older: FileHandle | undefined;

  private constructor(path: string, older: FileHandle | undefined, file: FileHandle) {
    this.#path = path;
    this.#older = older;
    this.#file = file;
  }

  static async open(path: string): Promise<LogReader> {
    const older = await open(`${path}.1`).catch(() => undefined);
    return new LogReader(path, older, await open(path));
  }

  /** All complete lines that have come since the last call. */
  async lines(signal: AbortSignal): Promise<string[]> {
    const lines: string[] = [];
    if (this.#older !== undefined) {
      const file = this.#file;
      this.#file = this.#older;
      this.#older = undefined;
      await this.#drain(lines, signal);
      await this.#switchTo(file);
    }
    await this.#drain(lines, signal);
    const now = await stat(this.#path).catch(() => undefined);
    if (now !== undefined && now.ino !== (await this.#file.stat()).ino) {
      await this.#drain(lines, signal);
      await this.#switchTo(await open(this.#path));
      await this.#drain(lines, signal);
    }
    return lines;
  }

  async close(): Promise<void> {
    await this.#older?.close();
    await this.#file.close();
  }

  async #switchTo(file: FileHandle): Promise<void> {
    await this.#file.close();
    this.#file = file;
    this.#position = 0;
  }

  async #drain(lines: string[], signal: AbortSignal): Promise<void> {
    const buffer = Buffer.alloc(CHUNK_BYTES);
    while (!signal.aborted) {
      const { bytesRead } = await this.#file.read(buffer, 0, buffer.length, this.#position);
      if (bytesRead === 0) return;
      this.#position += bytesRead;
      const whole = Buffer.concat([this.#rest, buffer.subarray(0, bytesRead)]);
      const end = whole.lastIndexOf(10);
      this.#rest = whole.subarray(end + 1);
      if (end >= 0) lines.push(...whole.subarray(0, end).toString("utf8").split("\n"));
    }
  }
}
