import { beyondContainers } from "./security.ts";
import type {
  Container,
  ContainerState,
  ContainerStatus,
  Pod,
  PodCondition,
  PodStatus,
  RestartPolicy,
} from "./types.ts";

/** How a container's process ended. Times are milliseconds since 1970. */
export interface Ended {
  readonly exitCode: number;
  readonly signal: number | undefined;
  /** Why it could not be started; undefined where it could. */
  readonly message: string | undefined;
  readonly startedAt: number;
  readonly finishedAt: number;
  readonly id: string;
}

/** What the agent knows of one container. */
export type Runtime =
  | { readonly kind: "waiting"; readonly reason: string; readonly message?: string }
  | {
      readonly kind: "running";
      readonly id: string;
      readonly startedAt: number;
      readonly started: boolean;
      readonly ready: boolean;
    }
  | { readonly kind: "ended"; readonly ended: Ended }
  | { readonly kind: "backoff"; readonly until: number };

export interface ContainerRecord {
  readonly restarts: number;
  readonly last: Ended | undefined;
  readonly now: Runtime;
}

export const BACKOFF_FIRST_MS = 1_000;
export const BACKOFF_MAX_MS = 60_000;
/** A container that ran this long starts its back-off over. */
export const BACKOFF_RESET_MS = 120_000;

/** Milliseconds to wait before restart number `restarts` (1 = first): none, then 1 s, doubling to 60 s. */
export function backoff(restarts: number): number {
  return restarts <= 1 ? 0 : Math.min(BACKOFF_MAX_MS, BACKOFF_FIRST_MS * 2 ** (restarts - 2));
}

export function shouldRestart(policy: RestartPolicy, exitCode: number): boolean {
  switch (policy) {
    case "Always":
      return true;
    case "OnFailure":
      return exitCode !== 0;
    case "Never":
      return false;
  }
}

export interface StatusInput {
  readonly pod: Pod;
  readonly podIp: string;
  readonly hostIp: string;
  /** When the agent first saw the Pod, milliseconds since 1970. */
  readonly startTime: number;
  readonly init: ReadonlyMap<string, ContainerRecord>;
  readonly main: ReadonlyMap<string, ContainerRecord>;
  readonly now: number;
}

/** A Pod's status from the state of its containers, in a kubelet's words. */
export function podStatus(input: StatusInput): PodStatus {
  const { pod } = input;
  const policy = pod.spec.restartPolicy ?? "Always";
  const init = (pod.spec.initContainers ?? []).map((container) =>
    containerStatus(container, input.init, true),
  );
  const main = pod.spec.containers.map((container) => containerStatus(container, input.main, false));
  const initialized = init.every(
    (status) => "terminated" in status.state && status.state.terminated.exitCode === 0,
  );
  const unready = main.filter((status) => !status.ready).map((status) => status.name);
  const phase = podPhase(policy, init, main, initialized);
  const over = phase === "Succeeded" || phase === "Failed";
  const notReady =
    phase === "Succeeded"
      ? { reason: "PodCompleted" }
      : { reason: "ContainersNotReady", message: `containers with unready status: [${unready.join(" ")}]` };
  const ready = unready.length === 0 && !over;
  const verdicts: PodCondition[] = [
    { type: "PodReadyToStartContainers", status: "True" },
    initialized
      ? { type: "Initialized", status: "True" }
      : { type: "Initialized", status: "False", reason: "ContainersNotInitialized" },
    ready ? { type: "Ready", status: "True" } : { type: "Ready", status: "False", ...notReady },
    ready
      ? { type: "ContainersReady", status: "True" }
      : { type: "ContainersReady", status: "False", ...notReady },
  ];
  return {
    phase,
    conditions: withTransitions(verdicts, pod.status?.conditions ?? [], iso(input.now)),
    containerStatuses: main,
    initContainerStatuses: init,
    podIP: input.podIp,
    podIPs: [{ ip: input.podIp }],
    hostIP: input.hostIp,
    hostIPs: [{ ip: input.hostIp }],
    startTime: iso(input.startTime),
  };
}

function podPhase(
  policy: RestartPolicy,
  init: readonly ContainerStatus[],
  main: readonly ContainerStatus[],
  initialized: boolean,
): PodStatus["phase"] {
  const failedForGood = (status: ContainerStatus) =>
    "terminated" in status.state &&
    status.state.terminated.exitCode !== 0 &&
    !shouldRestart(policy, status.state.terminated.exitCode);
  if (init.some(failedForGood)) return "Failed";
  if (!initialized) return "Pending";
  const doneForGood = (status: ContainerStatus) =>
    "terminated" in status.state && !shouldRestart(policy, status.state.terminated.exitCode);
  if (main.every(doneForGood)) return main.some(failedForGood) ? "Failed" : "Succeeded";
  const began = (status: ContainerStatus) => !("waiting" in status.state) || status.lastState !== undefined;
  return main.every(began) ? "Running" : "Pending";
}

function containerStatus(
  container: Container,
  records: ReadonlyMap<string, ContainerRecord>,
  init: boolean,
): ContainerStatus {
  const record = records.get(container.name);
  const runtime: Runtime = record?.now ?? {
    kind: "waiting",
    reason: init ? "PodInitializing" : "ContainerCreating",
  };
  const common = {
    name: container.name,
    image: container.image,
    imageID: `local://${container.image}`,
    restartCount: record?.restarts ?? 0,
    ...(record?.last === undefined ? {} : { lastState: terminated(record.last) }),
  };
  switch (runtime.kind) {
    case "waiting": {
      const { kind: _, ...waiting } = runtime;
      return { ...common, ready: false, started: false, state: { waiting } };
    }
    case "backoff": {
      const message = `back-off restarting container ${container.name}`;
      return {
        ...common,
        ready: false,
        started: false,
        state: { waiting: { reason: "CrashLoopBackOff", message } },
      };
    }
    case "running":
      return {
        ...common,
        containerID: runtime.id,
        ready: runtime.ready,
        started: runtime.started,
        state: { running: { startedAt: iso(runtime.startedAt) } },
      };
    case "ended":
      return {
        ...common,
        containerID: runtime.ended.id,
        // An init container that succeeded counts as ready.
        ready: init && runtime.ended.exitCode === 0,
        started: false,
        state: terminated(runtime.ended),
      };
  }
}

function terminated(ended: Ended): ContainerState {
  return {
    terminated: {
      exitCode: ended.exitCode,
      ...(ended.signal === undefined ? {} : { signal: ended.signal }),
      ...(ended.message === undefined
        ? { reason: ended.exitCode === 0 ? "Completed" : "Error" }
        : { reason: "StartError", message: ended.message }),
      startedAt: iso(ended.startedAt),
      finishedAt: iso(ended.finishedAt),
      containerID: ended.id,
    },
  };
}

/** Conditions whose transition time moves only when their status does; those of others (PodScheduled) stay. */
function withTransitions(
  next: readonly PodCondition[],
  before: readonly PodCondition[],
  now: string,
): readonly PodCondition[] {
  const old = new Map(before.map((condition) => [condition.type, condition]));
  const ours = next.map((condition) => {
    const previous = old.get(condition.type);
    const unchanged = previous?.status === condition.status && previous.lastTransitionTime !== undefined;
    return { ...condition, lastTransitionTime: unchanged ? (previous.lastTransitionTime as string) : now };
  });
  const types = new Set(next.map((condition) => condition.type));
  return [...ours, ...before.filter((condition) => !types.has(condition.type))];
}

function iso(milliseconds: number): string {
  // Kubernetes keeps seconds only; more digits would make an unchanged status look changed.
  return `${new Date(milliseconds).toISOString().slice(0, 19)}Z`;
}

/** What counts successes and failures of one probe in a row. */
export interface ProbeTally {
  readonly passed: number;
  readonly failed: number;
}

export type ProbeVerdict = "pass" | "fail" | "undecided";

/** Adds a probe's result to its tally; the verdict changes only at the thresholds. */
export function tally(
  before: ProbeTally,
  ok: boolean,
  thresholds: { readonly success: number; readonly failure: number },
): { readonly tally: ProbeTally; readonly verdict: ProbeVerdict } {
  const next = ok ? { passed: before.passed + 1, failed: 0 } : { passed: 0, failed: before.failed + 1 };
  const verdict =
    next.passed >= thresholds.success ? "pass" : next.failed >= thresholds.failure ? "fail" : "undecided";
  return { tally: next, verdict };
}

/**
 * What in a Pod the agent cannot do and a kubelet could; undefined when there is nothing. Such a Pod is refused
 * with this sentence rather than run differently from its manifest.
 */
export function unsupported(pod: Pod): string | undefined {
  const beyond = beyondContainers(pod);
  if (beyond !== undefined) return beyond;
  for (const volume of pod.spec.volumes ?? []) {
    const isToken = volume.projected !== undefined && volume.name.startsWith("kube-api-access-");
    if (!isToken)
      return `volume ${volume.name}: the local node agent mounts no volumes; run this Pod on kind`;
  }
  for (const container of [...(pod.spec.initContainers ?? []), ...pod.spec.containers]) {
    for (const probe of [container.startupProbe, container.livenessProbe, container.readinessProbe]) {
      if (probe !== undefined && !probe.httpGet && !probe.tcpSocket && !probe.exec) {
        return `container ${container.name}: the local node agent has only httpGet, tcpSocket and exec probes`;
      }
    }
  }
  return undefined;
}
