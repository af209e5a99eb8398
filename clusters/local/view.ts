import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { CoreV1Api, KubeConfig } from "@kubernetes/client-node";
import { readStatus } from "./lifecycle.ts";
import { type Isolation, isolationWarning, readIsolation } from "./node-agent/isolation.ts";
import { type ClusterState, supervisorPid } from "./state.ts";

export interface ProcessView {
  readonly name: string;
  readonly state: string;
  readonly pid: number | undefined;
  readonly restarts: number;
  readonly memoryMb: number;
  readonly message: string | undefined;
}

export interface PodView {
  readonly namespace: string;
  readonly name: string;
  readonly phase: string;
  readonly ready: boolean;
  readonly restarts: number;
  readonly reason: string | undefined;
}

export interface ClusterView {
  readonly name: string;
  readonly phase: string;
  readonly readyMs: number | undefined;
  readonly folder: string;
  readonly ports: Readonly<Record<string, number>>;
  readonly processes: readonly ProcessView[];
  readonly pods: readonly PodView[];
  /** What sets the Pods apart from the machine; undefined while nobody has found out. */
  readonly isolation: Isolation | undefined;
  /** Resident memory of the cluster's own processes, without Pods. */
  readonly memoryMb: number;
}

/** Everything a person wants to know of a cluster at one moment. */
export async function clusterView(state: ClusterState): Promise<ClusterView> {
  const pid = await supervisorPid(state.folder);
  const status = await readStatus(state.folder);
  const running = pid !== undefined && status !== undefined;
  const supervisor = {
    name: "supervisor",
    state: running ? "ready" : "stopped",
    pid,
    restarts: 0,
    message: undefined,
  };
  const members = running ? [supervisor, ...status.processes] : [];
  const processes = await Promise.all(
    members.map(async (member) => ({
      name: member.name,
      state: member.state,
      pid: member.pid,
      restarts: member.restarts,
      memoryMb: member.pid === undefined ? 0 : await residentMb(member.pid),
      message: member.message,
    })),
  );
  return {
    name: state.name,
    phase: running ? status.phase : "stopped",
    readyMs: running ? status.readyMs : undefined,
    folder: state.folder,
    ports: state.ports,
    processes,
    pods: running ? await podViews(state).catch(() => []) : [],
    isolation: running ? await readIsolation(state.folder) : undefined,
    memoryMb: processes.reduce((sum, entry) => sum + entry.memoryMb, 0),
  };
}

export function adminConfig(state: ClusterState): KubeConfig {
  const config = new KubeConfig();
  config.loadFromFile(join(state.folder, "pki", "admin.kubeconfig"));
  return config;
}

export async function podViews(state: ClusterState): Promise<PodView[]> {
  const pods = await adminConfig(state).makeApiClient(CoreV1Api).listPodForAllNamespaces();
  return pods.items.map((pod) => {
    const containers = pod.status?.containerStatuses ?? [];
    const reasons = containers.map(
      (status) => status.state?.waiting?.reason ?? status.state?.terminated?.reason,
    );
    return {
      namespace: pod.metadata?.namespace ?? "",
      name: pod.metadata?.name ?? "",
      phase: pod.metadata?.deletionTimestamp === undefined ? (pod.status?.phase ?? "Unknown") : "Terminating",
      ready:
        pod.status?.conditions?.some((entry) => entry.type === "Ready" && entry.status === "True") ?? false,
      restarts: containers.reduce((sum, status) => sum + status.restartCount, 0),
      reason: reasons.find((reason) => reason !== undefined),
    };
  });
}

/** Resident memory of a process in MB; 0 when it is gone. */
export async function residentMb(pid: number): Promise<number> {
  const status = await readFile(`/proc/${pid}/status`, "utf8").catch(() => "");
  return Math.round(Number(/VmRSS:\s+(\d+)/.exec(status)?.[1] ?? 0) / 1024);
}

/** Shell variables that point tools at a cluster. */
export function clusterEnv(state: ClusterState): Record<string, string> {
  return {
    KUBECONFIG: join(state.folder, "pki", "admin.kubeconfig"),
    KAFKA_BROKERS: `127.0.0.1:${state.ports.kafka}`,
    REDIS_URL: `redis://127.0.0.1:${state.ports.redis}`,
    PROMETHEUS_URL: `http://127.0.0.1:${state.ports.prometheus}`,
  };
}

function isolationLine(isolation: Isolation): string {
  return isolationWarning(isolation) ?? `in ${isolation.mode.replace("-", " ")} of their own`;
}

export function renderView(view: ClusterView): string {
  const lines = [
    `cluster ${view.name}: ${view.phase}${view.readyMs === undefined ? "" : `, ready after ${(view.readyMs / 1000).toFixed(1)} s`}`,
    `folder  ${view.folder}`,
    ...(view.isolation === undefined ? [] : [`pods    ${isolationLine(view.isolation)}`]),
    "",
    `${"PROCESS".padEnd(20)}${"STATE".padEnd(12)}${"PID".padStart(8)}${"RESTARTS".padStart(10)}${"MB".padStart(7)}`,
    ...view.processes.map(
      (entry) =>
        `${entry.name.padEnd(20)}${entry.state.padEnd(12)}${String(entry.pid ?? "-").padStart(8)}${String(entry.restarts).padStart(10)}${String(entry.memoryMb).padStart(7)}  ${entry.message ?? ""}`,
    ),
    `${"total".padEnd(50)}${String(view.memoryMb).padStart(7)}`,
    "",
    `${"POD".padEnd(44)}${"PHASE".padEnd(12)}${"READY".padEnd(7)}RESTARTS`,
    ...view.pods.map(
      (pod) =>
        `${`${pod.namespace}/${pod.name}`.padEnd(44)}${pod.phase.padEnd(12)}${(pod.ready ? "yes" : "no").padEnd(7)}${pod.restarts} ${pod.reason ?? ""}`,
    ),
  ];
  return lines.map((line) => line.trimEnd()).join("\n");
}
