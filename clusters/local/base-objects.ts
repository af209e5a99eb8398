import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import {
  KubeConfig,
  type KubernetesObject,
  KubernetesObjectApi,
  PatchStrategy,
} from "@kubernetes/client-node";
import { LocalError, messageOf } from "./errors.ts";
import type { ClusterState } from "./state.ts";

const RETRY_MS = 100;
const TIMEOUT_MS = 60_000;
export const NAMESPACE = "baton";
/** ConfigMap with the addresses of Kafka, Redis and Prometheus; on other clusters it is part of the rendered manifests. */
export const ENDPOINTS = "baton-endpoints";

/** What the cluster itself brings: the namespace, and where Kafka and Redis are. */
export function baseObjects(cluster: ClusterState): KubernetesObject[] {
  return [
    {
      apiVersion: "v1",
      kind: "Namespace",
      metadata: { name: NAMESPACE, labels: { "pod-security.kubernetes.io/enforce": "restricted" } },
    },
    {
      apiVersion: "v1",
      kind: "ConfigMap",
      metadata: { name: ENDPOINTS, namespace: NAMESPACE },
      data: {
        KAFKA_BROKERS: `127.0.0.1:${cluster.ports.kafka}`,
        REDIS_URL: `redis://127.0.0.1:${cluster.ports.redis}`,
        PROMETHEUS_URL: `http://127.0.0.1:${cluster.ports.prometheus}`,
      },
    } as KubernetesObject,
  ];
}

/** Applies the base objects as soon as the API server answers. */
export async function applyBase(cluster: ClusterState): Promise<void> {
  const config = new KubeConfig();
  config.loadFromFile(join(cluster.folder, "pki", "admin.kubeconfig"));
  const api = KubernetesObjectApi.makeApiClient(config);
  const deadline = Date.now() + TIMEOUT_MS;
  for (const object of baseObjects(cluster)) {
    for (;;) {
      try {
        await api.patch(object, undefined, undefined, "baton-local", true, PatchStrategy.ServerSideApply);
        break;
      } catch (error) {
        if (Date.now() > deadline) {
          throw new LocalError(
            "NOT_READY",
            `the API server did not take ${object.kind}: ${messageOf(error)}`,
          );
        }
        await sleep(RETRY_MS);
      }
    }
  }
}
