import { ApiObject, type Chart } from "cdk8s";
import { kafkaAddress } from "./kafka.ts";
import { labelsOf } from "./labels.ts";
import { prometheusUrl } from "./prometheus.ts";
import { redisUrl } from "./redis.ts";
import type { Values } from "./values.ts";
import { inWave } from "./waves.ts";

/** ConfigMap with KAFKA_BROKERS, REDIS_URL and PROMETHEUS_URL, which all services take as their environment. */
export const ENDPOINTS = "baton-endpoints";

/** Namespaces in which the API server takes restricted pods only. */
export function addNamespaces(scope: Chart, namespaces: readonly string[]): void {
  for (const name of namespaces) {
    new ApiObject(scope, name, {
      apiVersion: "v1",
      kind: "Namespace",
      metadata: {
        name,
        labels: {
          ...labelsOf(name),
          ...Object.fromEntries(
            ["enforce", "audit", "warn"].map((mode) => [`pod-security.kubernetes.io/${mode}`, "restricted"]),
          ),
        },
        annotations: {
          ...inWave("namespaces"),
          // With it would go all that the operator made, and what is on the disks.
          "argocd.argoproj.io/sync-options": "Prune=false,Delete=false",
        },
      },
    });
  }
}

/** Where everything is; nothing where the cluster itself makes this object. */
export function addEndpoints(scope: Chart, values: Values): void {
  const [brokers, redis, prometheus] = [kafkaAddress(values), redisUrl(values), prometheusUrl(values)];
  if (brokers === undefined || redis === undefined || prometheus === undefined) return;
  new ApiObject(scope, ENDPOINTS, {
    apiVersion: "v1",
    kind: "ConfigMap",
    metadata: { name: ENDPOINTS, labels: labelsOf("endpoints"), annotations: inWave("limits") },
    data: { KAFKA_BROKERS: brokers, REDIS_URL: redis, PROMETHEUS_URL: prometheus },
  });
}

/** What the namespace of services and models may take, and what a container gets that says nothing. */
export function addQuota(scope: Chart, { quota }: Values): void {
  if (quota === undefined) return;
  const metadata = { name: "baton", labels: labelsOf("quota"), annotations: inWave("limits") };
  new ApiObject(scope, "quota", {
    apiVersion: "v1",
    kind: "ResourceQuota",
    metadata,
    spec: {
      hard: {
        pods: String(quota.pods),
        "limits.cpu": String(quota.cpu),
        "limits.memory": `${quota.memoryGibibytes}Gi`,
        // Nothing here is reached from outside.
        "services.loadbalancers": "0",
        "services.nodeports": "0",
      },
    },
  });
  new ApiObject(scope, "limits", {
    apiVersion: "v1",
    kind: "LimitRange",
    metadata,
    spec: {
      limits: [
        {
          type: "Container",
          defaultRequest: { cpu: "100m", memory: "128Mi" },
          default: { cpu: "1", memory: "512Mi" },
        },
      ],
    },
  });
}
