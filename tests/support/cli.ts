import { runCli } from "#apps/baton/cli.ts";

export interface CliRun {
  readonly code: number;
  /** Both streams. */
  readonly output: string;
}

/** Runs the command line in this process, with these variables and none of its own; one at a time. */
export async function cli(
  env: Readonly<Record<string, string | undefined>>,
  ...args: readonly string[]
): Promise<CliRun> {
  const before = process.env;
  const { PATH = "" } = before;
  const written: string[] = [];
  const write = (chunk: unknown) => {
    written.push(String(chunk));
    return true;
  };
  const streams = [process.stdout, process.stderr];
  const writes = streams.map((stream) => stream.write);
  const { log, error } = console;
  const line = (...parts: readonly unknown[]) => void written.push(`${parts.join(" ")}\n`);
  process.env = { PATH, HOME: "/nonexistent", ...env };
  for (const stream of streams) stream.write = write;
  Object.assign(console, { log: line, error: line });
  try {
    return { code: await runCli(args), output: written.join("") };
  } finally {
    Object.assign(console, { log, error });
    for (const [i, stream] of streams.entries()) stream.write = writes[i] as typeof stream.write;
    process.env = before;
    process.exitCode = undefined;
  }
}
