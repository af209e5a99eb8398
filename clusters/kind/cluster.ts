import { execFile } from "node:child_process";
import { existsSync } from "node:fs";
import { mkdir, readdir, readFile, rm, writeFile } from "node:fs/promises";
import { delimiter, join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { promisify } from "node:util";
import { parse, stringify } from "yaml";
import * as z from "zod";
import { docker, follow, needEngine } from "../docker.ts";
import { buildImages } from "../images/build.ts";
import { LocalError } from "../local/errors.ts";
import { REPOSITORY } from "../local/state.ts";
import { exec } from "../local/toolchain/exec.ts";
import { ensureToolchain, type Toolchain, toolPath } from "../local/toolchain/index.ts";
import { KIND } from "../local/toolchain/tools.ts";
import { ensureNodeImage, type NodeImage } from "./node-image.ts";

// The whole platform on nodes that are containers.

const MANIFESTS = join(REPOSITORY, "clusters", "kind", "manifests");
const NAMESPACES = ["baton-platform", "baton"];
const READY_MS = 300_000;
const MOST_OUTPUT = 64 * 1024 * 1024;

const run = promisify(execFile);

export type Progress = (line: string) => void;

/** A cluster's folder, which holds its kubeconfig; the user's own is left alone. */
export function kindFolder(name: string): string {
  return join(REPOSITORY, ".baton", "kind", name);
}

export function kubeconfigOf(name: string): string {
  return join(kindFolder(name), "kubeconfig");
}

/** Runs kubectl against a cluster and resolves with what it printed. */
export async function kubectl(name: string, ...args: readonly string[]): Promise<string> {
  const toolchain = await ensureToolchain({ progress: () => {} });
  const env = { ...process.env, KUBECONFIG: kubeconfigOf(name) };
  try {
    const { stdout } = await run(toolPath(toolchain, "kubectl"), args, { env, maxBuffer: MOST_OUTPUT });
    return stdout.trim();
  } catch (error) {
    const said = (error as { stderr?: string }).stderr?.trim() || String(error);
    throw new LocalError("KUBECTL_FAILED", `kubectl ${args.slice(0, 3).join(" ")}: ${said}`, {
      cause: error,
    });
  }
}

/** Makes the cluster where there is none. */
export async function createKind(name: string, progress: Progress): Promise<void> {
  await needEngine();
  const toolchain = await ensureToolchain({ progress, more: [KIND] });
  if (await runs(name, toolchain)) progress(`kind: ${name} is there already`);
  else await create(name, toolchain, progress);
}

/** Makes the cluster, brings the images to it, applies the platform and waits until all of it is ready. */
export async function upKind(name: string, progress: Progress): Promise<void> {
  await createKind(name, progress);
  await loadKind(name, progress);
  await apply(name, progress);
  await waitReady(name, progress);
}

/** Builds the images that are missing or have changed, and brings all to the nodes. */
export async function loadKind(name: string, progress: Progress): Promise<void> {
  const toolchain = await ensureToolchain({ progress, more: [KIND] });
  if (!(await runs(name, toolchain))) {
    throw new LocalError("NOT_RUNNING", `there is no cluster ${name}: run \`npm run kind -- up\``);
  }
  const built = await buildImages({ from: "baton", tag: "kind", only: await imagesUsed(), progress });
  progress(`kind: ${built.length} images to the nodes ...`);
  const started = Date.now();
  // Pods of ours never run beside the control plane.
  const nodes = (await nodesOf(name)).filter((node) => !node.endsWith("control-plane")).join(",");
  const references = built.map(({ reference }) => reference);
  await kind(toolchain, "load", "docker-image", "--name", name, "--nodes", nodes, ...references, "-q");
  progress(`kind: images loaded after ${((Date.now() - started) / 1000).toFixed(0)} s`);
}

/** What the manifests name, and the command line, which people run by hand. */
async function imagesUsed(): Promise<string[]> {
  const files = await readdir(MANIFESTS, { recursive: true });
  const texts = await Promise.all(
    files.filter((file) => file.endsWith(".yaml")).map((file) => readFile(join(MANIFESTS, file), "utf8")),
  );
  const named = texts.flatMap((text) => [...text.matchAll(/image: baton\/(\S+):kind$/gm)]);
  return [...new Set([...named.map(([, name = ""]) => name), "cli"])];
}

/** Deletes the cluster; false when there was none. */
export async function downKind(name: string, progress: Progress): Promise<boolean> {
  await needEngine();
  const toolchain = await ensureToolchain({ progress, more: [KIND] });
  const was = await runs(name, toolchain);
  if (was) await kind(toolchain, "delete", "cluster", "--name", name, "--kubeconfig", kubeconfigOf(name));
  await rm(kindFolder(name), { recursive: true, force: true });
  return was;
}

/** Whether there is such a cluster; kubectl reaches it then. */
export async function isThere(name: string): Promise<boolean> {
  return runs(name, await ensureToolchain({ progress: () => {}, more: [KIND] }));
}

async function runs(name: string, toolchain: Toolchain): Promise<boolean> {
  const { tail } = await exec(toolPath(toolchain, "kind"), ["get", "clusters", "-q"]);
  if (!tail.includes(name)) return false;
  if (!existsSync(kubeconfigOf(name))) {
    // Made by somebody else, or its folder was deleted: kind knows how to reach it.
    await mkdir(kindFolder(name), { recursive: true });
    await kind(toolchain, "export", "kubeconfig", "-q", "--name", name, "--kubeconfig", kubeconfigOf(name));
  }
  return true;
}

async function create(name: string, toolchain: Toolchain, progress: Progress): Promise<void> {
  const image = await ensureNodeImage(progress);
  await mkdir(kindFolder(name), { recursive: true });
  const config = join(kindFolder(name), "nodes.yaml");
  await writeFile(config, await nodesFor(image));
  const started = Date.now();
  progress(`kind: creating ${name} from ${image.reference} ...`);
  const kubeconfig = kubeconfigOf(name);
  // With a half-made cluster nothing can be done: kind takes it away itself when it fails.
  const args = ["--name", name, "--image", image.reference, "--config", config, "--kubeconfig", kubeconfig];
  await kind(toolchain, "create", "cluster", ...args, "--wait", "180s", "-q");
  progress(`kind: nodes ready after ${((Date.now() - started) / 1000).toFixed(0)} s`);
}

async function nodesFor({ own }: NodeImage): Promise<string> {
  const config = parse(await readFile(join(REPOSITORY, "clusters", "kind", "nodes.yaml"), "utf8")) as {
    kubeadmConfigPatches: string[];
  };
  if (own) {
    const images = stringify({ kind: "ClusterConfiguration", imageRepository: "baton.local/node" });
    config.kubeadmConfigPatches.push(images);
  }
  return stringify(config);
}

async function kind(toolchain: Toolchain, ...args: readonly string[]): Promise<void> {
  // The shim stands before docker for kind only: see the file.
  const shim = join(REPOSITORY, "clusters", "kind", "node-image", "shim");
  await follow(toolPath(toolchain, "kind"), args, { PATH: [shim, process.env["PATH"]].join(delimiter) });
}

/** In the order of what needs what: definitions and namespaces, the platform, the models. */
async function apply(name: string, progress: Progress): Promise<void> {
  const server = (...files: string[]) =>
    kubectl(name, "apply", "--server-side", "--force-conflicts", ...files.flatMap((file) => ["-f", file]));
  await server(join(MANIFESTS, "crds.yaml"), join(MANIFESTS, "namespaces.yaml"));
  await kubectl(name, "wait", "--for=condition=Established", "--timeout=60s", "crd", "--all");
  await server(MANIFESTS);
  await server(join(MANIFESTS, "models"));
  progress("kind: manifests applied");
}

const workloadsSchema = z.object({
  items: z.array(
    z.object({
      kind: z.string(),
      metadata: z.object({ name: z.string(), namespace: z.string() }),
      spec: z.object({ replicas: z.int() }),
      status: z.object({ readyReplicas: z.int().default(0) }),
    }),
  ),
});

async function waitReady(name: string, progress: Progress): Promise<void> {
  const started = Date.now();
  for (let told = started; ; await sleep(1_000)) {
    const waiting: string[] = [];
    for (const namespace of NAMESPACES) {
      const text = await kubectl(name, "get", "deployments,statefulsets", "-n", namespace, "-o", "json");
      for (const { metadata, spec, status } of workloadsSchema.parse(JSON.parse(text)).items) {
        if (status.readyReplicas < spec.replicas) waiting.push(metadata.name);
      }
    }
    const phases = await kubectl(
      name,
      "get",
      "modeldeployments",
      "-n",
      "baton",
      "-o",
      "jsonpath={.items[*].status.phase}",
    );
    if (phases !== "Healthy") waiting.push(`model (${phases || "not looked at"})`);
    const elapsed = Date.now() - started;
    if (waiting.length === 0) return progress(`kind: all of it ready after ${(elapsed / 1000).toFixed(0)} s`);
    if (elapsed > READY_MS) {
      throw new LocalError(
        "NOT_READY",
        `not ready after ${READY_MS / 1000} s: ${waiting.join(", ")}; \`kubectl get pods -A\` shows more`,
      );
    }
    if (Date.now() - told > 10_000) {
      told = Date.now();
      progress(`kind: waiting for ${waiting.join(", ")} ...`);
    }
  }
}

/** Containers of a cluster's nodes, by name. */
async function nodesOf(name: string): Promise<string[]> {
  const text = await docker(
    "ps",
    "-a",
    "--filter",
    `label=io.x-k8s.kind.cluster=${name}`,
    "--format",
    "{{.Names}}",
  );
  return text === "" ? [] : text.split("\n").toSorted();
}
