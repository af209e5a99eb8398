import { chmod, mkdir, readdir, rm, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { parseArgs } from "node:util";
import { KubeConfig } from "@kubernetes/client-node";
import { messageOf } from "../errors.ts";
import { kubeconfig, readCa } from "../pki.ts";
import { REPOSITORY, readCluster, stateRoot, writeAtomic } from "../state.ts";
import { NodeApi } from "./api.ts";
import { readImages } from "./images.ts";
import { detectIsolation } from "./isolation.ts";
import { type PodTarget, startKubeletServer } from "./kubelet-server.ts";
import { finishedTarget } from "./pod-folder.ts";
import { type NodeFacts, PodWorker } from "./pod-worker.ts";
import { scrapeTargets } from "./scrape.ts";
import type { Pod } from "./types.ts";

// The local cluster's node: registers itself and runs the Pods that are bound to it, each container in namespaces of its own.
// It is a test double for a kubelet; what it does and does not do is stated by its conformance suite.

const NODE = "local";
const HOST_IP = "127.0.0.1";
const TOKEN_SECONDS = 3600;
const LEASE_MS = 10_000;
const STATUS_MS = 60_000;

const { values } = parseArgs({
  options: {
    cluster: { type: "string", default: "local" },
    /** Paths of baton-container and baton-streams. */
    helper: { type: "string", default: "" },
    streams: { type: "string", default: "" },
  },
});
const cluster = await readCluster(values.cluster);
if (cluster === undefined) throw new Error(`there is no cluster ${values.cluster}`);
const log = (line: string) => console.log(`${new Date().toISOString()} ${line}`);

const config = new KubeConfig();
config.loadFromFile(join(cluster.folder, "pki", "node-agent.kubeconfig"));
const api = new NodeApi(config, NODE);
const ca = await readCa(join(cluster.folder, "pki"));
const server = `https://127.0.0.1:${cluster.ports.apiserver}`;
const extraImages = (process.env["BATON_IMAGES"] ?? "").split(":").filter((file) => file !== "");
const pods = join(cluster.folder, "pods");
await closePods(pods);
const hidden = [join(REPOSITORY, ".baton"), stateRoot(), cluster.folder];
const isolation = await detectIsolation({
  helper: values.helper,
  folder: pods,
  repository: REPOSITORY,
  hidden,
}).catch((error: unknown) => {
  // The supervisor shows the end of the log to whoever starts the cluster.
  log(messageOf(error));
  process.exit(1);
});
log(`containers: ${isolation.mode} ${isolation.reason}`);
const node: NodeFacts = { helper: values.helper, mode: isolation.mode, repository: REPOSITORY, hidden };
const images = await readImages([join(REPOSITORY, "clusters/local/images.yaml"), ...extraImages]);

const workers = new Map<string, PodWorker>();
/** Pods that were over when the agent started, by UID: only their logs are left. */
const finished = new Map<string, Pod>();
const stopping = new AbortController();
let targetsText = "";
let writing = Promise.resolve();

/** The lowest loopback address of this cluster's range that no Pod has. */
function freeIp(): string {
  const taken = new Set([...workers.values()].map((worker) => worker.podIp));
  for (let host = 1; host < 65_000; host++) {
    const ip = `127.${cluster?.podOctet}.${host >> 8}.${host & 255}`;
    if ((host & 255) !== 0 && (host & 255) !== 255 && !taken.has(ip)) return ip;
  }
  throw new Error("no free Pod address");
}

function onPod(pod: Pod): void {
  const worker = workers.get(pod.metadata.uid);
  if (worker !== undefined) {
    worker.update(pod);
    return;
  }
  const over = pod.status?.phase === "Succeeded" || pod.status?.phase === "Failed";
  const { deletionTimestamp } = pod.metadata;
  if (over && deletionTimestamp === undefined) {
    finished.set(pod.metadata.uid, pod);
    return;
  }
  if (deletionTimestamp !== undefined) {
    // None of its processes is ours: it was being deleted when an earlier agent ended.
    void api.removePod(pod).catch((error: unknown) => log(`${pod.metadata.name}: ${messageOf(error)}`));
    return;
  }
  const { name, namespace, uid } = pod.metadata;
  const folder = podFolder(pod);
  const earlier = [...workers.values()].filter((other) => other.folder === folder);
  log(`pod ${namespace}/${name} starts`);
  workers.set(
    uid,
    new PodWorker(pod, {
      images,
      podIp: pod.status?.podIP ?? freeIp(),
      hostIp: HOST_IP,
      folder,
      // A Pod of this name that was deleted by force may not be gone yet.
      after: Promise.all(earlier.map((other) => other.end(0, false))),
      node,
      read: api.reader(namespace),
      credentials: (target) => credentials(pod, target),
      publish: async (target, status) => {
        await api.publish(target, status);
        writeTargets();
      },
      removePod: (target) => api.removePod(target),
      log,
    }),
  );
}

/** A Pod for the kubelet's endpoints. */
function findPod(namespace: string, name: string): PodTarget | undefined {
  const named = [...workers.values()].filter(({ pod }) => {
    return pod.metadata.namespace === namespace && pod.metadata.name === name;
  });
  const worker = named.at(-1);
  if (worker !== undefined) return worker.target;
  for (const pod of finished.values()) {
    if (pod.metadata.namespace !== namespace || pod.metadata.name !== name) continue;
    return finishedTarget(pod, podFolder(pod));
  }
  return undefined;
}

function podFolder({ metadata }: Pod): string {
  return join(pods, `${metadata.namespace}_${metadata.name}`);
}

function onGone(uid: string): void {
  finished.delete(uid);
  const worker = workers.get(uid);
  if (worker === undefined) return;
  // Forced deletion: the API server no longer knows the Pod, so nothing is reported.
  void worker.end(0, false).finally(() => {
    workers.delete(uid);
    writeTargets();
  });
}

/** Tells Prometheus which Pods run now; writes follow each other. */
function writeTargets(): void {
  const running = [...workers.values()].filter((worker) => worker.pod.status?.phase === "Running");
  const text = JSON.stringify(scrapeTargets(running));
  if (text === targetsText) return;
  targetsText = text;
  const file = join(cluster?.folder ?? "", "prometheus", "pods.json");
  writing = writing.then(() => writeAtomic(file, text)).catch((error: unknown) => log(messageOf(error)));
}

/** A kubeconfig with the Pod's own token, which is renewed well before it ends. */
async function credentials(pod: Pod, folder: string): Promise<void> {
  await mkdir(folder, { recursive: true });
  const tokenFile = join(folder, "token");
  // For every user of the Pod's containers; the folder of the Pods is closed to others.
  const renew = async () => writeFile(tokenFile, await api.token(pod, TOKEN_SECONDS));
  await renew();
  const timer = setInterval(
    () => {
      if (!workers.has(pod.metadata.uid)) clearInterval(timer);
      else void renew().catch((error: unknown) => log(`${pod.metadata.name}: token: ${messageOf(error)}`));
    },
    TOKEN_SECONDS * 1000 * 0.7,
  );
  await writeFile(join(folder, "kubeconfig"), kubeconfig(server, ca, "pod", { tokenFile }));
}

/** Closes the folder of the Pods to other users, and clears away what the containers of an agent that was killed have left. */
async function closePods(folder: string): Promise<void> {
  await chmod(folder, 0o700);
  for (const name of await readdir(folder)) {
    if (name.startsWith("attempt-")) await rm(join(folder, name), { recursive: true, force: true });
    else await rm(join(folder, name, "containers"), { recursive: true, force: true });
  }
}

async function stop(): Promise<void> {
  if (stopping.signal.aborted) return;
  stopping.abort();
  await Promise.all([...workers.values()].map((worker) => worker.end(10, false)));
  await rm(join(cluster?.folder ?? "", "node-agent.json"), { force: true });
  process.exit(0);
}
process.on("SIGTERM", () => void stop());
process.on("SIGINT", () => void stop());

const complain = (error: unknown) => log(`node: ${messageOf(error)}`);
await startKubeletServer(join(cluster.folder, "pki"), cluster.ports.kubelet, {
  find: findPod,
  tools: { streams: values.streams, helper: values.helper },
  log,
});
const register = () => api.registerNode(HOST_IP, cluster.ports.kubelet);
await register();
await api.renewLease();
setInterval(() => void api.renewLease().catch(complain), LEASE_MS);
setInterval(() => void register().catch(complain), STATUS_MS);
const ready = writeAtomic.bind(undefined, join(cluster.folder, "node-agent.json"));
await api.followPods(
  { onPod, onGone, onSynced: () => void ready(JSON.stringify({ pid: process.pid, isolation })), log },
  stopping.signal,
);
