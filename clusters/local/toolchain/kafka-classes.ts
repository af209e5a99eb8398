import { spawn } from "node:child_process";
import { existsSync } from "node:fs";
import { rm } from "node:fs/promises";
import { basename, dirname, join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { LocalError, messageOf } from "../errors.ts";
import { type BrokerSpec, brokerArgs, classArchive, connects, prepareBroker } from "../kafka.ts";
import { freePort } from "../ports.ts";
import { tied } from "../supervisor/supervise.ts";
import { installOnce } from "./install.ts";

// Java spends half of a broker's start on reading and checking its classes. It can share what it has made of them (AppCDS): a
// broker that runs for a moment leaves it behind.

const START_MS = 60_000;
/** Folder of the broker that runs for a moment. */
const BROKER = "broker";

/** Writes down the classes that a broker loads from a folder of jars. That is tried once: without them it starts as it always did. */
export async function ensureClassArchive(
  libs: string,
  progress: (line: string) => void,
  signal?: AbortSignal,
): Promise<void> {
  const folder = dirname(classArchive(libs));
  if (existsSync(folder)) return;
  progress("toolchain: writing down Kafka's classes, for it to start in half the time ...");
  const build = async (temporary: string) => {
    await write(libs, temporary, signal).catch((error: unknown) => {
      // It is tried once, and that was none.
      signal?.throwIfAborted();
      if (error instanceof LocalError && error.code === "TOOL_MISSING") throw error;
      progress(`toolchain: that failed; remove ${folder} to have it tried again: ${messageOf(error)}`);
    });
    await rm(join(temporary, BROKER), { recursive: true, force: true });
  };
  await installOnce(folder, build, undefined, signal);
}

async function write(libs: string, folder: string, signal: AbortSignal | undefined): Promise<void> {
  const [port, controllerPort] = [await freePort(), await freePort()];
  const quorum = [{ nodeId: 1, controllerPort }];
  const spec: BrokerSpec = { nodeId: 1, folder: join(folder, BROKER), port, controllerPort, quorum };
  await prepareBroker(libs, spec);
  const archive = join(folder, basename(classArchive(libs)));
  const args = [`-XX:ArchiveClassesAtExit=${archive}`, ...brokerArgs(libs, spec)];
  signal?.throwIfAborted();
  const broker = spawn(...tied("java", args), { stdio: "ignore" });
  const ended = new Promise((resolve) => broker.once("close", resolve));
  try {
    const deadline = Date.now() + START_MS;
    const isUp = () =>
      connects(port).then(
        () => true,
        () => false,
      );
    while (!(await isUp())) {
      signal?.throwIfAborted();
      if (Date.now() > deadline || broker.exitCode !== null)
        throw new LocalError("BAD_STATE", "a broker that was to run for a moment does not start");
      await sleep(100);
    }
    broker.kill("SIGTERM");
    await ended;
  } finally {
    broker.kill("SIGKILL");
    await ended;
  }
}
