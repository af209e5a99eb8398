import { spawn } from "node:child_process";
import { createInterface } from "node:readline";

export interface ExecResult {
  readonly code: number | null;
  readonly signal: NodeJS.Signals | null;
  /** The last lines of stdout and stderr together, for an error message. */
  readonly tail: readonly string[];
}

export interface ExecOptions {
  readonly cwd?: string;
  readonly env?: Readonly<Record<string, string | undefined>>;
  /** Ends the command; what it does at its end is waited for, and the promise rejects with the signal's reason. */
  readonly signal?: AbortSignal | undefined;
}

const TAIL_LINES = 40;

/** Runs a command to its end, keeping the last lines of its output. Never rejects on a non-zero exit. */
export function exec(
  command: string,
  args: readonly string[],
  options: ExecOptions = {},
): Promise<ExecResult> {
  return new Promise((resolve, reject) => {
    const child = spawn(command, args, {
      stdio: ["ignore", "pipe", "pipe"],
      cwd: options.cwd,
      env: { ...process.env, ...options.env },
    });
    const end = () => child.kill();
    if (options.signal?.aborted === true) end();
    options.signal?.addEventListener("abort", end, { once: true });
    const tail: string[] = [];
    for (const stream of [child.stdout, child.stderr]) {
      createInterface({ input: stream }).on("line", (line) => {
        tail.push(line);
        if (tail.length > TAIL_LINES) tail.shift();
      });
    }
    child.on("error", reject);
    child.on("close", (code, signal) => {
      options.signal?.removeEventListener("abort", end);
      if (options.signal?.aborted === true) reject(options.signal.reason);
      else resolve({ code, signal, tail });
    });
  });
}
