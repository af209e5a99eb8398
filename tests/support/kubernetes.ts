import { randomUUID } from "node:crypto";
import { join } from "node:path";
import { CoreV1Api, KubeConfig, type V1Container, type V1Pod, type V1PodSpec } from "@kubernetes/client-node";
import type { TestCluster } from "./fresh-cluster.ts";
import { waitFor } from "./wait.ts";

/** Pods in a namespace of their own on the test cluster. */
export class PodBench {
  readonly core: CoreV1Api;
  readonly config: KubeConfig;
  readonly namespace = `t-${randomUUID().slice(0, 8)}`;

  constructor(cluster: TestCluster) {
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
