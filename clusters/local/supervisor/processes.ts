import { readFile, writeFile } from "node:fs/promises";
import { request } from "node:https";
import { join } from "node:path";
import { stringify } from "yaml";
import { type BrokerSpec, brokerArgs, connects, prepareBroker } from "../kafka.ts";
import { ensurePki, readCa } from "../pki.ts";
import { type ClusterState, ensureFolders, REPOSITORY } from "../state.ts";
import { type Toolchain, toolPath } from "../toolchain/index.ts";
import type { ProcessSpec } from "./supervise.ts";

export const SERVICE_RANGE = "10.96.0.0/16";
/** There are no volumes, no clouds, and no Services with endpoints here (Pods have loopback addresses). */
const IDLE_CONTROLLERS = [
  "endpoints-controller",
  "endpointslice-controller",
  "endpointslice-mirroring-controller",
  "persistentvolume-binder-controller",
  "persistentvolume-attach-detach-controller",
  "persistentvolume-expander-controller",
];
const READY_TIMEOUT_MS = 60_000;

export function apiServerUrl(cluster: ClusterState): string {
  return `https://127.0.0.1:${cluster.ports.apiserver}`;
}

/** Folders, certificates and configuration files of a cluster, made where they are missing. */
export async function prepareCluster(cluster: ClusterState): Promise<void> {
  await ensureFolders(cluster.folder, ["pki", "logs", "etcd", "kafka", "redis", "prometheus", "pods"]);
  await ensurePki(join(cluster.folder, "pki"), apiServerUrl(cluster));
  await writeFile(join(cluster.folder, "prometheus", "prometheus.yml"), prometheusConfig(cluster));
  await writeFile(join(cluster.folder, "audit-policy.yaml"), AUDIT_POLICY);
}

/** What the operator asks for, without contents: whether its rights are those that it needs can be read from that. */
const AUDIT_POLICY = `apiVersion: audit.k8s.io/v1
kind: Policy
omitStages: [RequestReceived]
rules:
  - level: Metadata
    userGroups: ["system:serviceaccounts"]
    resources:
      - group: baton.dev
      - group: apps
        resources: [deployments]
      - group: policy
      - group: batch
      - group: coordination.k8s.io
      - group: ""
        resources: [pods, events, secrets]
  - level: None
`;

/** Where the API server writes down who asked for what. */
export function auditLog(folder: string): string {
  return join(folder, "logs", "audit.jsonl");
}

/** Every process of the cluster in the order of what needs what. */
export async function processSpecs(cluster: ClusterState, toolchain: Toolchain): Promise<ProcessSpec[]> {
  const { ports } = cluster;
  const pki = (file: string) => join(cluster.folder, "pki", file);
  const ca = await readCa(join(cluster.folder, "pki"));
  const tool = (name: string) => toolPath(toolchain, name);
  const define = (
    name: string,
    command: string,
    args: readonly string[],
    rest: Pick<ProcessSpec, "ready"> & Partial<ProcessSpec>,
  ): ProcessSpec => ({
    name,
    command,
    args,
    logFile: join(cluster.folder, "logs", `${name}.log`),
    after: [],
    readyTimeoutMs: READY_TIMEOUT_MS,
    stopTimeoutMs: 10_000,
    ...rest,
  });
  const etcdUrl = `http://127.0.0.1:${ports.etcd}`;
  const peerUrl = `http://127.0.0.1:${ports.etcdPeer}`;
  const broker: BrokerSpec = {
    nodeId: 1,
    folder: join(cluster.folder, "kafka"),
    port: ports.kafka,
    controllerPort: ports.kafkaController,
    quorum: [{ nodeId: 1, controllerPort: ports.kafkaController }],
  };
  const libs = tool("kafka");

  return [
    define(
      "etcd",
      tool("etcd"),
      [
        "--name=local",
        `--data-dir=${join(cluster.folder, "etcd")}`,
        `--listen-client-urls=${etcdUrl}`,
        `--advertise-client-urls=${etcdUrl}`,
        `--listen-peer-urls=${peerUrl}`,
        `--initial-advertise-peer-urls=${peerUrl}`,
        `--initial-cluster=local=${peerUrl}`,
        // Survives the death of the process, not of the machine: right for a cluster that can be made again.
        "--unsafe-no-fsync",
        "--log-level=warn",
      ],
      { ready: () => httpOk(`${etcdUrl}/health`) },
    ),
    define("kafka", "java", brokerArgs(libs, broker), {
      prepare: () => prepareBroker(libs, broker),
      ready: () => connects(ports.kafka),
    }),
    define(
      "redis",
      tool("redis-server"),
      ["--bind", "127.0.0.1", "--port", String(ports.redis), "--dir", join(cluster.folder, "redis")].concat([
        // Features can be rebuilt from the stream: nothing is written to disk.
        ...["--save", "", "--appendonly", "no", "--maxmemory", "256mb", "--maxmemory-policy", "noeviction"],
      ]),
      { ready: () => connects(ports.redis) },
    ),
    define(
      "apiserver",
      tool("kube-apiserver"),
      [
        `--etcd-servers=${etcdUrl}`,
        "--bind-address=127.0.0.1",
        "--advertise-address=127.0.0.1",
        // The Service "kubernetes" may not point at a loopback address.
        "--endpoint-reconciler-type=none",
        `--secure-port=${ports.apiserver}`,
        `--tls-cert-file=${pki("apiserver.crt")}`,
        `--tls-private-key-file=${pki("apiserver.key")}`,
        `--client-ca-file=${pki("ca.crt")}`,
        "--service-account-issuer=https://kubernetes.default.svc",
        `--service-account-key-file=${pki("service-accounts.pub")}`,
        `--service-account-signing-key-file=${pki("service-accounts.key")}`,
        `--service-cluster-ip-range=${SERVICE_RANGE}`,
        "--authorization-mode=Node,RBAC",
        "--enable-admission-plugins=NodeRestriction",
        // The node's name is no host's name.
        "--kubelet-preferred-address-types=InternalIP",
        `--kubelet-certificate-authority=${pki("ca.crt")}`,
        `--kubelet-client-certificate=${pki("kubelet-client.crt")}`,
        `--kubelet-client-key=${pki("kubelet-client.key")}`,
        "--profiling=false",
        "--shutdown-delay-duration=0s",
        `--audit-policy-file=${join(cluster.folder, "audit-policy.yaml")}`,
        `--audit-log-path=${auditLog(cluster.folder)}`,
        "--audit-log-maxsize=20",
        "--audit-log-maxbackup=1",
      ],
      {
        after: ["etcd"],
        // Two fifths of a write were its garbage collection; for some hundred megabytes more it is a third as often.
        env: { GOGC: "300" },
        ready: () => httpsOk(ports.apiserver, ca),
      },
    ),
    define(
      "controller-manager",
      tool("kube-controller-manager"),
      [
        `--kubeconfig=${pki("controller-manager.kubeconfig")}`,
        `--service-account-private-key-file=${pki("service-accounts.key")}`,
        `--root-ca-file=${pki("ca.crt")}`,
        "--use-service-account-credentials=true",
        "--leader-elect=false",
        "--bind-address=127.0.0.1",
        `--secure-port=${ports.controllerManager}`,
        // Its default, 20 requests a second, is what a release of many objects would wait for.
        "--kube-api-qps=200",
        "--kube-api-burst=400",
        // No volumes, clouds or Services with endpoints here.
        `--controllers=*,${IDLE_CONTROLLERS.map((name) => `-${name}`).join(",")}`,
        "--profiling=false",
      ],
      { after: ["apiserver"], ready: () => httpsOk(ports.controllerManager) },
    ),
    define(
      "scheduler",
      tool("kube-scheduler"),
      [
        `--kubeconfig=${pki("scheduler.kubeconfig")}`,
        "--leader-elect=false",
        "--bind-address=127.0.0.1",
        `--secure-port=${ports.scheduler}`,
        "--profiling=false",
      ],
      { after: ["apiserver"], ready: () => httpsOk(ports.scheduler) },
    ),
    define(
      "prometheus",
      tool("prometheus"),
      [
        `--config.file=${join(cluster.folder, "prometheus", "prometheus.yml")}`,
        `--storage.tsdb.path=${join(cluster.folder, "prometheus", "data")}`,
        "--storage.tsdb.retention.time=6h",
        "--storage.tsdb.retention.size=256MB",
        `--web.listen-address=127.0.0.1:${ports.prometheus}`,
        "--web.enable-lifecycle",
      ],
      { after: ["apiserver"], ready: () => httpOk(`http://127.0.0.1:${ports.prometheus}/-/ready`) },
    ),
    define(
      "node-agent",
      process.execPath,
      [
        join(REPOSITORY, "clusters/local/node-agent/main.ts"),
        ...["--cluster", cluster.name],
        ...["--helper", tool("baton-container"), "--streams", tool("baton-streams")],
      ],
      {
        after: ["apiserver", "kafka", "redis"],
        stopTimeoutMs: 40_000,
        env: { BATON_CLUSTER_FOLDER: cluster.folder },
        ready: () => nodeReady(cluster),
      },
    ),
  ];
}

/** The node agent writes what it learns of Pods through the API; see node-agent/scrape.ts for why. */
export function prometheusConfig(cluster: ClusterState): string {
  return stringify({
    global: { scrape_interval: "1s", scrape_timeout: "1s", evaluation_interval: "1s" },
    scrape_configs: [
      {
        job_name: "pods",
        file_sd_configs: [
          { files: [join(cluster.folder, "prometheus", "pods.json")], refresh_interval: "5s" },
        ],
      },
    ],
  });
}

async function httpOk(url: string): Promise<void> {
  const response = await fetch(url, { signal: AbortSignal.timeout(1_000) });
  if (!response.ok) throw new Error(`${url}: ${response.status}`);
  await response.body?.cancel();
}

/** GET /readyz (API server) or /healthz (the others, whose certificates they make themselves). */
function httpsOk(port: number, ca?: string): Promise<void> {
  return new Promise((resolve, reject) => {
    const path = ca === undefined ? "/healthz" : "/readyz";
    const trust = ca === undefined ? { rejectUnauthorized: false } : { ca };
    const probe = request(
      { host: "127.0.0.1", port, path, timeout: 2_000, agent: false, ...trust },
      (response) => {
        response.resume();
        if (response.statusCode === 200) resolve();
        else reject(new Error(`${path}: ${response.statusCode}`));
      },
    );
    probe.on("timeout", () => probe.destroy(new Error("timeout")));
    probe.on("error", reject);
    probe.end();
  });
}

/** The agent writes this file once it has registered its node and listed its Pods. */
async function nodeReady(cluster: ClusterState): Promise<void> {
  const { pid } = JSON.parse(await readFile(join(cluster.folder, "node-agent.json"), "utf8"));
  process.kill(pid, 0);
}
