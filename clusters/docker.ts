import { execFile, spawn } from "node:child_process";
import { promisify } from "node:util";
import { errnoOf, LocalError } from "./local/errors.ts";

const run = promisify(execFile);
const MOST_OUTPUT = 64 * 1024 * 1024;

/** Runs the docker client; resolves with what it printed. Throws what it said when it failed. */
export async function docker(...args: readonly string[]): Promise<string> {
  try {
    const { stdout } = await run("docker", args, { maxBuffer: MOST_OUTPUT });
    return stdout.trim();
  } catch (error) {
    if (errnoOf(error) === "ENOENT") throw new LocalError("NO_ENGINE", NO_ENGINE);
    const said = (error as { stderr?: string }).stderr?.trim();
    throw new LocalError("DOCKER_FAILED", `docker ${args[0]}: ${said || String(error)}`, { cause: error });
  }
}

const NO_ENGINE =
  "no Docker engine answers: start one, or on Debian as root let `npm run kind -- engine start` install and start it";

/** Throws NO_ENGINE when no Docker engine answers. */
export async function needEngine(): Promise<void> {
  await docker("version", "--format", "{{.Server.Version}}").catch((error: unknown) => {
    throw new LocalError("NO_ENGINE", NO_ENGINE, { cause: error });
  });
}

/** Runs a command to its end with its output on stderr, as progress. Throws DOCKER_FAILED with its name. */
export async function follow(
  command: string,
  args: readonly string[],
  env: Readonly<Record<string, string>> = {},
): Promise<void> {
  const child = spawn(command, args, { stdio: ["ignore", 2, 2], env: { ...process.env, ...env } });
  const code = await new Promise<number | null>((resolve, reject) => {
    child.on("error", reject);
    child.on("close", resolve);
  });
  if (code !== 0) throw new LocalError("DOCKER_FAILED", `${command} ${args[0]} ended with exit code ${code}`);
}
