import { randomUUID } from "node:crypto";
import { readFileSync } from "node:fs";
import { readdir, readFile, readlink } from "node:fs/promises";
import { join } from "node:path";
import { CoreV1Api, KubeConfig, type V1Container, type V1Pod, type V1PodSpec } from "@kubernetes/client-node";
import { logText } from "#clusters/local/log-file.ts";
import { containerFolders } from "#clusters/local/node-agent/container-view.ts";
import type { TestCluster } from "./fresh-cluster.ts";
import { waitFor } from "./wait.ts";

/** Pods in a namespace of their own on the test cluster. */
export class PodBench {
  readonly core: CoreV1Api;
  readonly config: KubeConfig;
  readonly namespace = `t-${randomUUID().slice(0, 8)}`;
  readonly #folder: string;

  constructor(cluster: TestCluster) {
    this.#folder = cluster.folder;
    this.config = new KubeConfig();
    this.config.loadFromFile(join(cluster.folder, "pki", "admin.kubeconfig"));
    this.core = this.config.makeApiClient(CoreV1Api);
  }

  async open(): Promise<void> {
    await this.core.createNamespace({ body: { metadata: { name: this.namespace } } });
    await waitFor("the default service account", () =>
      this.core.readNamespacedServiceAccount({ name: "default", namespace: this.namespace }),
    );
  }

  async close(): Promise<void> {
    await this.core.deleteNamespace({ name: this.namespace, body: { gracePeriodSeconds: 0 } });
  }

  /** Creates a Pod with one container that runs a shell script. */
  async shell(
    name: string,
    script: string,
    container: Partial<V1Container> = {},
    spec: Partial<V1PodSpec> = {},
  ): Promise<void> {
    await this.core.createNamespacedPod({
      namespace: this.namespace,
      body: {
        metadata: { name, labels: { app: name }, annotations: { note: "hello" } },
        spec: {
          automountServiceAccountToken: false,
          terminationGracePeriodSeconds: 1,
          ...spec,
          containers: [
            { name: "main", image: "test/shell:1", command: ["sh", "-c"], args: [script], ...container },
          ],
        },
      },
    });
  }

  /** What a container of a Pod has written. */
  log(pod: string, container = "main"): string {
    const text = readFileSync(join(this.#podFolder(pod), `${container}.log`), "utf8");
    return text.split("\n").map(logText).join("\n");
  }

  /** Where the machine finds the HOME of a container that runs. */
  home(pod: string, container = "main"): string {
    return containerFolders(this.#podFolder(pod), container).home;
  }

  /** The program of a container, as the machine numbers it. */
  async programOf(pod: string, container = "main"): Promise<number> {
    const { base } = containerFolders(this.#podFolder(pod), container);
    const pid = Number(await readFile(join(base, "pid"), "utf8"));
    if (!(pid > 1)) throw new Error(`the program of ${pod} is not known`);
    return pid;
  }

  /** All processes of a container, as the machine numbers them. */
  async processes(pod: string): Promise<number[]> {
    const space = await readlink(`/proc/${await this.programOf(pod)}/ns/pid`);
    const all = (await readdir("/proc")).map(Number).filter((pid) => pid > 0);
    const same = await Promise.all(
      all.map(async (pid) => (await readlink(`/proc/${pid}/ns/pid`).catch(() => "")) === space),
    );
    return all.filter((_, index) => same[index]);
  }

  #podFolder(pod: string): string {
    return join(this.#folder, "pods", `${this.namespace}_${pod}`);
  }

  pod(name: string): Promise<V1Pod> {
    return this.core.readNamespacedPod({ name, namespace: this.namespace });
  }

  /** Waits until the Pod is as described, and returns it. */
  async until(
    name: string,
    what: string,
    check: (pod: V1Pod) => unknown,
    timeoutMs = 15_000,
  ): Promise<V1Pod> {
    let last: V1Pod | undefined;
    try {
      return await waitFor(
        `${name}: ${what}`,
        async () => {
          last = await this.pod(name);
          return check(last) ? last : undefined;
        },
        timeoutMs,
      );
    } catch (error) {
      throw new Error(`${(error as Error).message}; status is ${JSON.stringify(last?.status)}`);
    }
  }
}

export const stateOf = (pod: V1Pod) => pod.status?.containerStatuses?.[0]?.state;
export const condition = (pod: V1Pod, type: string) =>
  pod.status?.conditions?.find((entry) => entry.type === type)?.status;
export const isReady = (pod: V1Pod) => condition(pod, "Ready") === "True";
