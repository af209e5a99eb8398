import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { keepPrevious, LOG_BYTES } from "../log-file.ts";
import { RunningContainer } from "./container.ts";
import { type ContainerFolders, containerFolders, containerMounts, makeFolders } from "./container-view.ts";
import { ConfigError, containerEnv, type DataReader } from "./env.ts";
import type { ContainerSpec, IsolationMode } from "./helper.ts";
import { commandLine, type Images, imageOf, imageUser } from "./images.ts";
import type { PodTarget } from "./kubelet-server.ts";
import { logFile, namesOf, ownFolder } from "./pod-folder.ts";
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
import { processIdentity } from "./security.ts";
import type { Container, ContainerStatus, Pod, PodStatus } from "./types.ts";

/** What is the same for all Pods of the node. */
export interface NodeFacts {
  /** Path of baton-container. */
  readonly helper: string;
  readonly mode: IsolationMode;
  /** The checkout: what our images hold, and where their programs start. */
  readonly repository: string;
  /** Folders that no container sees. */
  readonly hidden: readonly string[];
}

/** What a Pod worker needs of the outside. */
export interface PodDeps {
  readonly images: Images;
  readonly podIp: string;
  readonly hostIp: string;
  /** Folder of this Pod: its logs and its service-account token. */
  readonly folder: string;
  /** Resolves when nothing uses the folder any more. */
  readonly after: Promise<unknown>;
  readonly node: NodeFacts;
  readonly read: DataReader;
  /** Writes the service account's token and a kubeconfig with it into a folder. */
  readonly credentials: (folder: string) => Promise<void>;
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
    this.#work = this.#run().catch((error: unknown) => deps.log(`${pod.metadata.name}: ${String(error)}`));
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

  /** What the kubelet's endpoints need of it. */
  get target(): PodTarget {
    const { spec } = this.#pod;
    const record = (name: string) => this.#main.get(name) ?? this.#init.get(name);
    return {
      podIp: this.podIp,
      containers: namesOf(spec),
      waiting: (container) => {
        const entry = record(container);
        if (entry === undefined) return "PodInitializing";
        return entry.now.kind === "waiting" && entry.last === undefined ? entry.now.reason : undefined;
      },
      running: (container) => this.#running.get(container)?.target,
      logPath: (container, previous) => {
        // Until the next run begins, the log is still that of the run before.
        const between = ["waiting", "backoff"].includes(record(container)?.now.kind ?? "");
        return logFile(this.#deps.folder, container, previous && !between);
      },
    };
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
    // Deleted by force after all.
    if (this.#ended !== undefined && graceSeconds === 0)
      for (const container of this.#running.values()) void container.stop(0);
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
    await this.#deps.after;
    await ownFolder(this.#deps.folder, this.#pod.metadata.uid);
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
    const image = imageOf(this.#deps.images, container.image);
    if (image === undefined) {
      const message = `image ${container.image} is not in the node agent's image map (clusters/local/images.yaml)`;
      this.#set(records, container, waiting("ErrImagePull", message));
      return undefined;
    }
    const folders = containerFolders(this.#deps.folder, container.name);
    let spec: ContainerSpec;
    try {
      spec = await this.#spec(container, image, folders);
    } catch (error) {
      if (!(error instanceof ConfigError)) this.#deps.log(`${this.#pod.metadata.name}: ${String(error)}`);
      const message = error instanceof Error ? error.message : String(error);
      this.#set(records, container, waiting("CreateContainerConfigError", message));
      return undefined;
    }
    if (this.#stopping.signal.aborted) return undefined;
    const running: RunningContainer = new RunningContainer({
      container,
      helper: this.#deps.node.helper,
      spec,
      folders,
      podIp: this.#deps.podIp,
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

  /** What baton-container is told of a container, whose folders are made for its user. */
  async #spec(
    container: Container,
    image: Images[string],
    folders: ContainerFolders,
  ): Promise<ContainerSpec> {
    const { node, folder } = this.#deps;
    const identity = processIdentity(this.#pod, container, imageUser(image));
    const env = await this.#environment(container, folders);
    const command = commandLine(image, container);
    const log = logFile(folder, container.name, false);
    await makeFolders(folders, node.mode, identity);
    await keepPrevious(log);
    const credentials = this.#hasToken ? this.#credentialsFolder : undefined;
    const { repository, hidden } = node;
    return {
      mode: node.mode,
      args: command[0] === "node" ? [process.execPath, ...command.slice(1)] : command,
      env: Object.entries(env).map(([name, value]) => `${name}=${value}`),
      cwd: container.workingDir ?? repository,
      hostname: this.#pod.metadata.name,
      process: identity,
      root: folders.root,
      mounts: containerMounts({ repository, hidden, paths: image.paths, credentials, folders }),
      log: { path: log, maxBytes: LOG_BYTES },
    };
  }

  get #hasToken(): boolean {
    return (this.#pod.spec.volumes ?? []).some((volume) => volume.name.startsWith("kube-api-access-"));
  }

  get #credentialsFolder(): string {
    return join(this.#deps.folder, "credentials");
  }

  async #environment(container: Container, folders: ContainerFolders): Promise<Record<string, string>> {
    const { deps, pod } = { deps: this.#deps, pod: this.#pod };
    const facts = { podIp: deps.podIp, hostIp: deps.hostIp };
    const declared = await containerEnv(pod, container, facts, deps.read);
    if (this.#hasToken) await deps.credentials(this.#credentialsFolder);
    return {
      // Nothing of the agent's own environment reaches a container, but what finding programs needs.
      PATH: process.env["PATH"] ?? "/usr/local/bin:/usr/bin:/bin",
      HOME: folders.home,
      TMPDIR: deps.node.mode === "none" ? folders.tmp : "/tmp",
      HOSTNAME: pod.metadata.name,
      ...(this.#hasToken ? { KUBECONFIG: join(this.#credentialsFolder, "kubeconfig") } : {}),
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
            message: state.terminated.message,
            startedAt: Date.parse(state.terminated.startedAt),
            finishedAt: Date.parse(state.terminated.finishedAt),
            id: state.terminated.containerID,
          }
        : {
            exitCode: 137,
            signal: 9,
            message: undefined,
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
