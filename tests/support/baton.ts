import { join } from "node:path";
import { Subject } from "./processes.ts";

const MAIN = join(import.meta.dirname, "../../apps/baton/main.ts");

export interface BatonRun {
  readonly code: number | null;
  /** Both streams. */
  readonly output: string;
  /** When it had ended, milliseconds since 1970. */
  readonly at: number;
}

/** The command line in a process of its own. */
export function batonProcess(env: Readonly<Record<string, string>>, ...args: readonly string[]): Subject {
  return new Subject(process.execPath, [MAIN, ...args], env);
}

/** Runs the command line to its end. */
export async function baton(
  env: Readonly<Record<string, string>>,
  ...args: readonly string[]
): Promise<BatonRun> {
  const cli = batonProcess(env, ...args);
  cli.start();
  const code = await cli.ended();
  return { code, output: cli.output, at: Date.now() };
}
