import { rm, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { parseArgs } from "node:util";
import { applyBase } from "../base-objects.ts";
import { messageOf } from "../errors.ts";
import { rotateLogs } from "../log-file.ts";
import { checkPorts, openCluster, supervisorPid, writeAtomic } from "../state.ts";
import { ensureToolchain } from "../toolchain/index.ts";
import { prepareCluster, processSpecs } from "./processes.ts";
import { type ProcessStatus, Supervisor } from "./supervise.ts";

/** What `status.json` holds; the file is how the supervisor talks to the command line. */
export interface StatusFile {
  readonly phase: "starting" | "ready" | "stopping" | "failed";
  readonly message: string | undefined;
  readonly startedAt: string;
  readonly readyMs: number | undefined;
  readonly processes: readonly ProcessStatus[];
}

const ROTATE_MS = 30_000;

async function main(): Promise<void> {
  const { values } = parseArgs({ options: { name: { type: "string", default: "local" } } });
  const cluster = await openCluster(values.name);
  const other = await supervisorPid(cluster.folder);
  if (other !== undefined) throw new Error(`cluster ${cluster.name} is already run by process ${other}`);
  await writeFile(join(cluster.folder, "supervisor.pid"), String(process.pid));

  const startedAt = Date.now();
  let phase: StatusFile["phase"] = "starting";
  let message: string | undefined;
  let readyMs: number | undefined;
  let supervisor: Supervisor | undefined;
  let writing = Promise.resolve();
  const publish = () => {
    const status: StatusFile = {
      phase,
      message,
      startedAt: new Date(startedAt).toISOString(),
      readyMs,
      processes: supervisor?.status() ?? [],
    };
    writing = writing.then(() => writeAtomic(join(cluster.folder, "status.json"), JSON.stringify(status)));
  };

  let stopping: Promise<void> | undefined;
  const stop = (exitCode: number) => {
    stopping ??= (async () => {
      if (phase !== "failed") phase = "stopping";
      publish();
      await supervisor?.stop();
      publish();
      await writing;
      await rm(join(cluster.folder, "supervisor.pid"), { force: true });
      process.exit(exitCode);
    })();
    return stopping;
  };
  process.on("SIGTERM", () => void stop(0));
  process.on("SIGINT", () => void stop(0));

  try {
    publish();
    await checkPorts(cluster);
    const toolchain = await ensureToolchain({ progress: (line) => console.log(line) });
    await rm(join(cluster.folder, "node-agent.json"), { force: true });
    await prepareCluster(cluster);
    supervisor = new Supervisor(await processSpecs(cluster, toolchain), publish);
    await Promise.all([supervisor.start(), applyBase(cluster)]);
    phase = "ready";
    readyMs = Date.now() - startedAt;
    console.log(`cluster ${cluster.name} ready after ${readyMs} ms`);
    publish();
  } catch (error) {
    if (stopping === undefined) {
      phase = "failed";
      message = messageOf(error);
      console.error(message);
      await stop(1);
    }
  }
  setInterval(() => void rotateLogs(join(cluster.folder, "logs")), ROTATE_MS);
}

await main();
