import { spawn } from "node:child_process";
import { Command } from "commander";
import { needEngine } from "../docker.ts";
import { LocalError, messageOf } from "../local/errors.ts";
import { createKind, downKind, isThere, kubeconfigOf, kubectl, loadKind, upKind } from "./cluster.ts";
import { startEngine, stopEngine } from "./engine.ts";

const program = new Command("kind")
  .description("The whole platform on kind: real kubelets and containers (needs a Docker engine)")
  .option("--name <name>", "which cluster", "baton")
  .option("--json", "print JSON instead of text")
  // 2 where the line is not understood, 1 where it fails.
  .exitOverride(({ exitCode }) => process.exit(exitCode === 0 ? 0 : 2))
  .showHelpAfterError();

const options = () => program.opts<{ name: string; json?: boolean }>();
const progress = (line: string) => console.error(line);

program
  .command("up")
  .description("create the cluster, build and load the images, apply the platform and wait until it is ready")
  .option("--only-nodes", "create the cluster and nothing in it")
  .action(async ({ onlyNodes }: { onlyNodes?: boolean }) => {
    const { name } = options();
    if (onlyNodes === true) await createKind(name, progress);
    else await upKind(name, progress);
    await show(name);
  });

program
  .command("load")
  .description(
    "build the images again and bring them to the nodes (pods that run keep theirs until they restart)",
  )
  .action(() => loadKind(options().name, progress));

program
  .command("status")
  .description("nodes and pods; exit code 3 when there is no cluster")
  .action(async () => {
    const { name } = options();
    await needEngine();
    if (await isThere(name)) return show(name);
    console.log(options().json ? JSON.stringify({ name, nodes: [] }) : `there is no cluster ${name}`);
    process.exitCode = 3;
  });

program
  .command("test")
  .description(
    "run the tests that need real nodes, on the cluster that KIND_CLUSTER names, or one of their own that goes away",
  )
  .action(async () => {
    await needEngine();
    const child = spawn(process.execPath, ["tests/run.ts", "--project", "kind"], { stdio: "inherit" });
    for (const signal of ["SIGINT", "SIGTERM"] as const) process.on(signal, () => child.kill(signal));
    process.exitCode = await new Promise<number>((resolve) =>
      child.on("close", (code) => resolve(code ?? 1)),
    );
  });

program
  .command("down")
  .description("delete the cluster and all that is in it")
  .action(async () => {
    const { name } = options();
    const was = await downKind(name, progress);
    console.log(was ? `cluster ${name} deleted` : `there was no cluster ${name}`);
  });

const engine = program.command("engine").description("a Docker engine where none runs (Debian, as root)");
engine
  .command("start")
  .description("install and start one; does nothing when one answers")
  .action(() => startEngine(progress));
engine
  .command("stop")
  .description("stop the one that was started so")
  .action(async () =>
    console.log((await stopEngine()) ? "the Docker engine is stopped" : "none was started here"),
  );

async function show(name: string): Promise<void> {
  const kubeconfig = kubeconfigOf(name);
  if (options().json) {
    const [nodes, pods] = await Promise.all(
      ["nodes", "pods"].map(async (kind) => JSON.parse(await kubectl(name, "get", kind, "-A", "-o", "json"))),
    );
    console.log(JSON.stringify({ name, kubeconfig, nodes: nodes.items, pods: pods.items }, null, 2));
    return;
  }
  console.log(await kubectl(name, "get", "nodes"));
  console.log(
    `\n${await kubectl(name, "get", "pods", "-A", "--field-selector=metadata.namespace!=kube-system")}`,
  );
  console.log(`\nexport KUBECONFIG=${kubeconfig}`);
}

try {
  await program.parseAsync();
} catch (error) {
  console.error(error instanceof LocalError ? `error ${error.code}: ${error.message}` : messageOf(error));
  process.exitCode = 1;
}
