import { setTimeout as sleep } from "node:timers/promises";
import {
  CoordinationV1Api,
  CoreV1Api,
  type KubeConfig,
  PatchStrategy,
  setHeaderOptions,
  V1MicroTime,
  Watch,
} from "@kubernetes/client-node";
import type { DataReader } from "./env.ts";
import type { Pod, PodStatus } from "./types.ts";

const WATCH_SECONDS = 240;
const WATCHDOG_MS = 90_000;
const RETRY_MS = 500;
const LEASE_SECONDS = 40;

/** The node agent's requests to the API server; the only place of the agent that knows the client library. */
export class NodeApi {
  readonly #config: KubeConfig;
  readonly #core: CoreV1Api;
  readonly #coordination: CoordinationV1Api;
  readonly #node: string;

  constructor(config: KubeConfig, node: string) {
    this.#config = config;
    this.#node = node;
    this.#core = config.makeApiClient(CoreV1Api);
    this.#coordination = config.makeApiClient(CoordinationV1Api);
  }

  /** Creates the Node, or brings its status up to date. */
  async registerNode(hostIp: string, kubeletPort: number): Promise<void> {
    const now = new Date();
    const capacity = { cpu: "64", memory: "64Gi", "ephemeral-storage": "256Gi", pods: "250" };
    const condition = (type: string, status: string, reason: string) => ({
      type,
      status,
      reason,
      message: "the local node agent is running",
      lastHeartbeatTime: now,
      lastTransitionTime: now,
    });
    const labels = {
      "kubernetes.io/hostname": this.#node,
      "kubernetes.io/os": "linux",
      "baton.dev/node": "local",
    };
    await this.#core
      .createNode({
        body: { apiVersion: "v1", kind: "Node", metadata: { name: this.#node, labels }, spec: {} },
      })
      .catch((error: unknown) => {
        if (statusOf(error) !== 409) throw error;
      });
    await this.#core.patchNodeStatus(
      {
        name: this.#node,
        body: {
          status: {
            capacity,
            allocatable: capacity,
            addresses: [
              { type: "InternalIP", address: hostIp },
              { type: "Hostname", address: this.#node },
            ],
            daemonEndpoints: { kubeletEndpoint: { Port: kubeletPort } },
            conditions: [condition("Ready", "True", "AgentReady")],
            nodeInfo: {
              kubeletVersion: "v1.34.4",
              containerRuntimeVersion: "process://local",
              operatingSystem: "linux",
              architecture: process.arch === "x64" ? "amd64" : process.arch,
            },
          },
        },
      },
      setHeaderOptions("Content-Type", PatchStrategy.StrategicMergePatch),
    );
  }

  /** Says that the node lives; the controller manager marks a node whose Lease is not renewed. */
  async renewLease(): Promise<void> {
    const namespace = "kube-node-lease";
    const spec = {
      holderIdentity: this.#node,
      leaseDurationSeconds: LEASE_SECONDS,
      renewTime: new V1MicroTime(new Date().toISOString()),
    };
    try {
      await this.#coordination.patchNamespacedLease(
        { name: this.#node, namespace, body: { spec } },
        setHeaderOptions("Content-Type", PatchStrategy.MergePatch),
      );
    } catch (error) {
      if (statusOf(error) !== 404) throw error;
      const body = {
        apiVersion: "coordination.k8s.io/v1",
        kind: "Lease",
        metadata: { name: this.#node },
        spec,
      };
      await this.#coordination.createNamespacedLease({ namespace, body });
    }
  }

  /** Data of a ConfigMap or Secret of one namespace, as text. */
  reader(namespace: string): DataReader {
    return async (kind, name) => {
      try {
        if (kind === "ConfigMap")
          return (await this.#core.readNamespacedConfigMap({ name, namespace })).data ?? {};
        const secret = await this.#core.readNamespacedSecret({ name, namespace });
        const entries = Object.entries(secret.data ?? {});
        return Object.fromEntries(
          entries.map(([key, value]) => [key, Buffer.from(value, "base64").toString("utf8")]),
        );
      } catch (error) {
        if (statusOf(error) === 404) return undefined;
        throw error;
      }
    };
  }

  async publish(pod: Pod, status: PodStatus): Promise<void> {
    const { name, namespace, uid } = pod.metadata;
    await this.#core.patchNamespacedPodStatus(
      { name, namespace, body: { metadata: { uid }, status } },
      setHeaderOptions("Content-Type", PatchStrategy.StrategicMergePatch),
    );
  }

  async removePod(pod: Pod): Promise<void> {
    const { name, namespace, uid } = pod.metadata;
    await this.#core
      .deleteNamespacedPod({ name, namespace, body: { gracePeriodSeconds: 0, preconditions: { uid } } })
      .catch((error: unknown) => {
        const status = statusOf(error);
        if (status !== 404 && status !== 409) throw error;
      });
  }

  /** A token for the Pod's service account that dies with the Pod. Lives `seconds`. */
  async token(pod: Pod, seconds: number): Promise<string> {
    const { name, namespace, uid } = pod.metadata;
    const result = await this.#core.createNamespacedServiceAccountToken({
      name: pod.spec.serviceAccountName ?? "default",
      namespace,
      body: {
        apiVersion: "authentication.k8s.io/v1",
        kind: "TokenRequest",
        spec: {
          // The API server's own: a node may ask for what the Pod's volume names, and that names none.
          audiences: [],
          expirationSeconds: seconds,
          boundObjectRef: { apiVersion: "v1", kind: "Pod", name, uid },
        },
      },
    });
    return result.status?.token ?? "";
  }

  /**
   * Calls back with every Pod of this node, then with each change, until the signal aborts. Each connection
   * starts with the full list, so that what was missed while it was broken shows as a difference.
   */
  async followPods(
    callbacks: {
      readonly onPod: (pod: Pod) => void;
      readonly onGone: (uid: string) => void;
      readonly onSynced: () => void;
      readonly log: (line: string) => void;
    },
    signal: AbortSignal,
  ): Promise<void> {
    let known = new Set<string>();
    while (!signal.aborted) {
      const listed = new Set<string>();
      let synced = false;
      try {
        await this.#watchOnce((phase, object) => {
          if (phase === "BOOKMARK") {
            if (synced || object.metadata.annotations?.["k8s.io/initial-events-end"] !== "true") return;
            synced = true;
            for (const uid of known) if (!listed.has(uid)) callbacks.onGone(uid);
            known = listed;
            callbacks.onSynced();
            return;
          }
          const { uid } = object.metadata;
          if (phase === "DELETED") {
            listed.delete(uid);
            callbacks.onGone(uid);
          } else if (phase === "ADDED" || phase === "MODIFIED") {
            listed.add(uid);
            callbacks.onPod(object);
          }
        }, signal);
      } catch (error) {
        if (!signal.aborted) callbacks.log(`watch of Pods ended: ${String(error).slice(0, 200)}`);
      }
      if (!synced) for (const uid of listed) known.add(uid);
      await sleep(RETRY_MS, undefined, { signal }).catch(() => {});
    }
  }

  async #watchOnce(onEvent: (phase: string, object: Pod) => void, signal: AbortSignal): Promise<void> {
    await new Promise<void>((resolve, reject) => {
      let request: AbortController | undefined;
      const stop = () => request?.abort();
      // A connection that has gone silent looks like a quiet one: bookmarks come every minute.
      let watchdog = setTimeout(stop, WATCHDOG_MS);
      signal.addEventListener("abort", stop, { once: true });
      const done = (error: unknown) => {
        clearTimeout(watchdog);
        signal.removeEventListener("abort", stop);
        if (error && error !== Watch.SERVER_SIDE_CLOSE) reject(error);
        else resolve();
      };
      new Watch(this.#config)
        .watch(
          "/api/v1/pods",
          {
            fieldSelector: `spec.nodeName=${this.#node}`,
            sendInitialEvents: true,
            resourceVersionMatch: "NotOlderThan",
            allowWatchBookmarks: true,
            timeoutSeconds: WATCH_SECONDS,
          },
          (phase, object) => {
            clearTimeout(watchdog);
            watchdog = setTimeout(stop, WATCHDOG_MS);
            onEvent(phase, object as Pod);
          },
          done,
        )
        .then((controller) => {
          request = controller;
          if (signal.aborted) stop();
        }, done);
    });
  }
}

/** HTTP status of an API error, undefined for a network error. */
export function statusOf(error: unknown): number | undefined {
  return error instanceof Error && "code" in error && typeof error.code === "number" ? error.code : undefined;
}
