import { existsSync } from "node:fs";
import { readdir } from "node:fs/promises";
import { join } from "node:path";
import { Command } from "commander";
import { LocalError, messageOf } from "./errors.ts";
import { EXIT_INTERRUPTED, interruption } from "./interrupt.ts";
import { downCluster, readStatus, resetCluster, upCluster } from "./lifecycle.ts";
import { byLine, followFile, lastLines, logText } from "./log-file.ts";
import { clusterFolder, needCluster, readCluster } from "./state.ts";
import { clusterEnv, clusterView, renderView } from "./view.ts";

const program = new Command("cluster")
  .description(
    "The local cluster: a real control plane, Kafka, Redis and Prometheus as processes, no containers",
  )
  .option("--name <name>", "which cluster", "local")
  .option("--json", "print JSON instead of text")
  // 2 where the line is not understood, 1 where it fails.
  .exitOverride(({ exitCode }) => process.exit(exitCode === 0 ? 0 : 2))
  .showHelpAfterError();

const options = () => program.opts<{ name: string; json?: boolean }>();

program
  .command("up")
  .description("build what is missing and start the cluster; what was deployed before runs again")
  .action(async () => {
    const { name, json } = options();
    const state = await upCluster(name, (line) => console.error(line), interruption());
    if (json) console.log(JSON.stringify(await clusterView(state), null, 2));
    else console.log(renderView(await clusterView(state)));
  });

program
  .command("down")
  .description("stop every process; the data stays")
  .action(async () => {
    await needNamed();
    const stopped = await downCluster(options().name);
    console.log(stopped ? `cluster ${options().name} stopped` : `cluster ${options().name} was not running`);
  });

program
  .command("status")
  .description("processes and Pods; exit code 3 when the cluster does not run")
  .action(async () => {
    const { name, json } = options();
    const state = await needCluster(name);
    const view = await clusterView(state);
    console.log(json ? JSON.stringify(view, null, 2) : renderView(view));
    if (view.phase !== "ready") process.exitCode = 3;
  });

program
  .command("logs")
  .argument("[name]", "a process (etcd, kafka, …) or a Pod, or the start of its name; none lists them")
  .option("-f, --follow", "keep printing")
  .option("-n, --lines <count>", "how many of the last lines", "100")
  .description("print the log of a process or Pod")
  .action(async (name: string | undefined, flags: { follow?: boolean; lines: string }) => {
    const { name: cluster } = options();
    await needCluster(cluster);
    const files = await logFiles(clusterFolder(cluster));
    if (name === undefined) {
      for (const key of files.keys()) console.log(key);
      return;
    }
    const matches = [...files].filter(([key]) => key === name || key.startsWith(name));
    const exact = matches.filter(([key]) => key === name);
    const chosen = exact.length > 0 ? exact : matches;
    if (chosen.length === 0) {
      throw new LocalError("UNKNOWN_LOG", `no log is called ${name}; \`cluster logs\` lists them`);
    }
    const stop = new AbortController();
    for (const signal of ["SIGINT", "SIGTERM"] as const) process.once(signal, () => stop.abort());
    const follows: Promise<void>[] = [];
    for (const [key, file] of chosen) {
      if (chosen.length > 1) console.log(`==> ${key} <==`);
      // A Pod's log has the kubelet's format.
      const shown = key.includes("/") ? logText : (line: string) => line;
      for (const line of await lastLines(file, Number(flags.lines) || 100)) console.log(shown(line));
      if (flags.follow)
        follows.push(
          followFile(
            file,
            byLine((line) => console.log(shown(line))),
            stop.signal,
          ),
        );
    }
    await Promise.all(follows);
  });

program
  .command("reset")
  .description("stop the cluster and delete everything it holds")
  .action(async () => {
    const { name } = options();
    await needNamed();
    const was = await readCluster(name).catch(() => "broken");
    await resetCluster(name);
    console.log(was === undefined ? `there was no cluster ${name}` : `cluster ${name} deleted`);
  });

program
  .command("env")
  .description('print shell variables for tools: eval "$(npm run -s cluster -- env)"')
  .action(async () => {
    const { name, json } = options();
    const state = await needCluster(name);
    const env = clusterEnv(state);
    if (json) console.log(JSON.stringify(env, null, 2));
    else for (const [key, value] of Object.entries(env)) console.log(`export ${key}='${value}'`);
  });

/** A cluster that was named has to be there; the usual one may be stopped and deleted as often as one likes. */
async function needNamed(): Promise<void> {
  const { name } = options();
  // What is broken can still be stopped and deleted.
  if (program.getOptionValueSource("name") !== "default" && !existsSync(clusterFolder(name)))
    await needCluster(name);
}

/** Log files by the name that a user gives: process names, and <namespace>_<pod>/<container>. */
async function logFiles(folder: string): Promise<Map<string, string>> {
  const files = new Map<string, string>();
  for (const name of await readdir(join(folder, "logs")).catch(() => [])) {
    if (name.endsWith(".log")) files.set(name.slice(0, -4), join(folder, "logs", name));
  }
  for (const pod of await readdir(join(folder, "pods")).catch(() => [])) {
    for (const name of await readdir(join(folder, "pods", pod)).catch(() => [])) {
      if (!name.endsWith(".log")) continue;
      files.set(`${pod.slice(pod.indexOf("_") + 1)}/${name.slice(0, -4)}`, join(folder, "pods", pod, name));
    }
  }
  return files;
}

try {
  await program.parseAsync();
} catch (error) {
  console.error(error instanceof LocalError ? `error ${error.code}: ${error.message}` : messageOf(error));
  const status = await Promise.resolve(options().name)
    .then((name) => readStatus(clusterFolder(name)))
    .catch(() => undefined);
  if (status?.phase === "failed") console.error("hint: `npm run cluster -- logs supervisor` shows more");
  process.exitCode = error instanceof LocalError && error.code === "INTERRUPTED" ? EXIT_INTERRUPTED : 1;
}
