import { mkdirSync } from "node:fs";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { RunningContainer } from "./container.ts";
import { ConfigError, containerEnv, type DataReader } from "./env.ts";
import { commandLine, type Images } from "./images.ts";
import {
  BACKOFF_RESET_MS,
  backoff,
  type ContainerRecord,
  type Ended,
  podStatus,
  type Runtime,
  shouldRestart,
  unsupported,
} from "./rules.ts";
import type { Container, ContainerStatus, Pod, PodStatus } from "./types.ts";

/** What a Pod worker needs of the outside. */
export interface PodDeps {
  readonly images: Images;
  readonly podIp: string;
  readonly hostIp: string;
  /** Folder of this Pod: its logs and its service-account token. */
  readonly folder: string;
  readonly workingFolder: string;
  readonly read: DataReader;
  /** Writes the service-account kubeconfig and returns its path. */
  readonly credentials: () => Promise<string>;
  readonly publish: (pod: Pod, status: PodStatus) => Promise<void>;
  readonly removePod: (pod: Pod) => Promise<void>;
  readonly log: (line: string) => void;
}

const CONFIG_RETRY_MS = 2_000;
const PUBLISH_RETRY_MS = 1_000;

/** Runs one Pod from the moment it is bound to the node until it is gone. */
export class PodWorker {
  #pod: Pod;
  readonly #deps: PodDeps;
  readonly #init = new Map<string, ContainerRecord>();
  readonly #main = new Map<string, ContainerRecord>();
  readonly #running = new Map<string, RunningContainer>();
  readonly #stopping = new AbortController();
  readonly #startTime: number;
  #work: Promise<void>;
  #ended: Promise<void> | undefined;
  #published = "";
  #publishing: Promise<void> | undefined;
  #dirty = false;

  constructor(pod: Pod, deps: PodDeps) {
    this.#pod = pod;
    this.#deps = deps;
    this.#startTime = pod.status?.startTime === undefined ? Date.now() : Date.parse(pod.status.startTime);
    const policy = pod.spec.restartPolicy ?? "Always";
    resume(this.#init, pod.status?.initContainerStatuses ?? [], policy);
    resume(this.#main, pod.status?.containerStatuses ?? [], policy);
    mkdirSync(deps.folder, { recursive: true });
    this.#work = this.#run();
  }

  get pod(): Pod {
    return this.#pod;
  }

  get podIp(): string {
    return this.#deps.podIp;
  }

  get folder(): string {
    return this.#deps.folder;
  }

  /** A newer version of the Pod from the API server. */
  update(pod: Pod): void {
    this.#pod = pod;
    if (pod.metadata.deletionTimestamp !== undefined) {
      void this.end(pod.metadata.deletionGracePeriodSeconds ?? 30, true);
    }
  }

  /** Stops all containers; with `remove`, also reports the end and deletes the Pod. */
  end(graceSeconds: number, remove: boolean): Promise<void> {
    this.#ended ??= this.#end(graceSeconds, remove);
    return this.#ended;
  }

  async #end(graceSeconds: number, remove: boolean): Promise<void> {
    this.#stopping.abort();
    await Promise.all([...this.#running.values()].map((container) => container.stop(graceSeconds)));
    await this.#work;
    if (!remove) return;
    this.#changed();
    await this.#publishing;
    await this.#deps.removePod(this.#pod);
  }

  async #run(): Promise<void> {
    const problem = unsupported(this.#pod);
    if (problem !== undefined) {
      for (const container of this.#pod.spec.containers) {
        this.#set(this.#main, container, {
          kind: "waiting",
          reason: "CreateContainerConfigError",
          message: problem,
        });
      }
      return;
    }
    this.#changed();
    for (const container of this.#pod.spec.initContainers ?? []) {
      // An init container that succeeded is done, whatever the restart policy.
      const policy = this.#pod.spec.restartPolicy === "Never" ? "Never" : "OnFailure";
      await this.#runContainer(container, this.#init, (exitCode) => shouldRestart(policy, exitCode));
      const now = this.#init.get(container.name)?.now;
      if (now?.kind !== "ended" || now.ended.exitCode !== 0) return;
    }
    const policy = this.#pod.spec.restartPolicy ?? "Always";
    await Promise.all(
      this.#pod.spec.containers.map((container) =>
        this.#runContainer(container, this.#main, (exitCode) => shouldRestart(policy, exitCode)),
      ),
    );
  }

  async #runContainer(
    container: Container,
    records: Map<string, ContainerRecord>,
    again: (exitCode: number) => boolean,
  ): Promise<void> {
    const { signal } = this.#stopping;
    if (records.get(container.name)?.now.kind === "ended") return;
    while (!signal.aborted) {
      const restarts = records.get(container.name)?.restarts ?? 0;
      const running = await this.#start(container, records, restarts);
      if (running === undefined) {
        await sleep(CONFIG_RETRY_MS, undefined, { signal }).catch(() => {});
        continue;
      }
      if (signal.aborted) void running.stop(0);
      const ended = await running.ended;
      this.#running.delete(container.name);
      this.#set(records, container, { kind: "ended", ended });
      if (signal.aborted || !again(ended.exitCode)) return;
      const settled = ended.finishedAt - ended.startedAt > BACKOFF_RESET_MS;
      const waitMs = settled ? 0 : backoff(restarts + 1);
      records.set(container.name, {
        restarts,
        last: ended,
        now: { kind: "backoff", until: Date.now() + waitMs },
      });
      if (waitMs > 0) this.#changed();
      await sleep(waitMs, undefined, { signal }).catch(() => {});
      if (signal.aborted) {
        records.set(container.name, { restarts, last: undefined, now: { kind: "ended", ended } });
        return;
      }
      records.set(container.name, { restarts: restarts + 1, last: ended, now: waiting("ContainerCreating") });
    }
  }

  /** Starts a container, or says in its record why it cannot be started yet. */
  async #start(
    container: Container,
    records: Map<string, ContainerRecord>,
    restarts: number,
  ): Promise<RunningContainer | undefined> {
    const command = commandLine(this.#deps.images, container);
    if (command === undefined) {
      const message = `image ${container.image} is not in the node agent's image map (clusters/local/images.yaml)`;
      this.#set(records, container, waiting("ErrImagePull", message));
      return undefined;
    }
    let env: Record<string, string>;
    try {
      env = await this.#environment(container);
    } catch (error) {
      if (!(error instanceof ConfigError)) this.#deps.log(`${this.#pod.metadata.name}: ${String(error)}`);
      const message = error instanceof Error ? error.message : String(error);
      this.#set(records, container, waiting("CreateContainerConfigError", message));
      return undefined;
    }
    if (this.#stopping.signal.aborted) return undefined;
    const running: RunningContainer = new RunningContainer({
      container,
      command: command[0] === "node" ? [process.execPath, ...command.slice(1)] : command,
      env,
      cwd: this.#deps.workingFolder,
      podIp: this.#deps.podIp,
      logFile: join(this.#deps.folder, `${container.name}.log`),
      graceSeconds: this.#pod.spec.terminationGracePeriodSeconds ?? 30,
      onChange: () => this.#set(records, container, runningState(running)),
    });
    this.#running.set(container.name, running);
    records.set(container.name, {
      restarts,
      last: records.get(container.name)?.last,
      now: runningState(running),
    });
    this.#changed();
    return running;
  }

  async #environment(container: Container): Promise<Record<string, string>> {
    const { deps, pod } = { deps: this.#deps, pod: this.#pod };
    const declared = await containerEnv(
      pod,
      container,
      { podIp: deps.podIp, hostIp: deps.hostIp },
      deps.read,
    );
    const hasToken = (pod.spec.volumes ?? []).some((volume) => volume.name.startsWith("kube-api-access-"));
    return {
      // Nothing of the agent's own environment reaches a container, but what finding programs needs.
      PATH: process.env["PATH"] ?? "/usr/local/bin:/usr/bin:/bin",
      HOME: deps.folder,
      TMPDIR: deps.folder,
      HOSTNAME: pod.metadata.name,
      ...(hasToken ? { KUBECONFIG: await deps.credentials() } : {}),
      ...declared,
    };
  }

  #set(records: Map<string, ContainerRecord>, container: Container, now: Runtime): void {
    const record = records.get(container.name);
    records.set(container.name, { restarts: record?.restarts ?? 0, last: record?.last, now });
    this.#changed();
  }

  /** Publishes the status if it differs from what was published; one request at a time. */
  #changed(): void {
    this.#dirty = true;
    this.#publishing ??= this.#publishLoop().finally(() => {
      this.#publishing = undefined;
      if (this.#dirty) this.#changed();
    });
  }

  async #publishLoop(): Promise<void> {
    while (this.#dirty) {
      this.#dirty = false;
      const status = podStatus({
        pod: this.#pod,
        podIp: this.#deps.podIp,
        hostIp: this.#deps.hostIp,
        startTime: this.#startTime,
        init: this.#init,
        main: this.#main,
        now: Date.now(),
      });
      const text = JSON.stringify(status);
      if (text === this.#published) continue;
      try {
        this.#pod = { ...this.#pod, status };
        await this.#deps.publish(this.#pod, status);
        this.#published = text;
      } catch (error) {
        if (isGone(error)) return;
        this.#deps.log(
          `${this.#pod.metadata.name}: status not written, trying again: ${String(error).slice(0, 200)}`,
        );
        this.#dirty = true;
        await sleep(PUBLISH_RETRY_MS);
      }
    }
  }
}

function waiting(reason: string, message?: string): Runtime {
  return { kind: "waiting", reason, ...(message === undefined ? {} : { message }) };
}

function runningState(container: RunningContainer): Runtime {
  const { id, startedAt, started, ready } = container;
  return { kind: "running", id, startedAt, started, ready };
}

export function isGone(error: unknown): boolean {
  return error instanceof Error && "code" in error && (error.code === 404 || error.code === 409);
}

/** What an earlier agent reported: its processes are gone, as after a reboot of a node. */
function resume(
  records: Map<string, ContainerRecord>,
  statuses: readonly ContainerStatus[],
  policy: "Always" | "OnFailure" | "Never",
): void {
  for (const status of statuses) {
    const { state } = status;
    if ("waiting" in state) {
      records.set(status.name, {
        restarts: status.restartCount,
        last: undefined,
        now: waiting("ContainerCreating"),
      });
      continue;
    }
    const ended: Ended =
      "terminated" in state
        ? {
            exitCode: state.terminated.exitCode,
            signal: state.terminated.signal,
            startedAt: Date.parse(state.terminated.startedAt),
            finishedAt: Date.parse(state.terminated.finishedAt),
            id: state.terminated.containerID,
          }
        : {
            exitCode: 137,
            signal: 9,
            startedAt: Date.parse(state.running.startedAt),
            finishedAt: Date.now(),
            id: status.containerID ?? "",
          };
    const over = !shouldRestart(policy, ended.exitCode);
    records.set(
      status.name,
      over
        ? { restarts: status.restartCount, last: undefined, now: { kind: "ended", ended } }
        : { restarts: status.restartCount + 1, last: ended, now: waiting("ContainerCreating") },
    );
  }
}
