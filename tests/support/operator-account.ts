import { CoreV1Api, KubeConfig } from "@kubernetes/client-node";
import { App, Chart } from "cdk8s";
import { addOperatorFence } from "#charts/fence.ts";
import { addOperatorRights } from "#charts/rights.ts";
import type { KubeObject, Resource } from "#operators/controller-kit/api.ts";
import type { OperatorBench } from "./operator-bench.ts";

/** Something of the charts that is in the cluster. */
export interface Applied {
  readonly resource: Resource;
  readonly object: KubeObject;
}

/**
 * Applies what the charts render for the operator, in the bench's namespace. With a suffix what belongs to the whole
 * cluster has names of its own, for several of them.
 */
export async function applyCharts(bench: OperatorBench, suffix = ""): Promise<readonly Applied[]> {
  const chart = new Chart(new App(), "operator", {
    namespace: bench.namespace,
    disableResourceNameHashes: true,
  });
  addOperatorRights(chart, bench.namespace);
  addOperatorFence(chart, bench.namespace);
  const applied: Applied[] = [];
  for (const made of chart.toJson() as (KubeObject & { spec?: object; roleRef?: object })[]) {
    // A chart gives its namespace to what has none as well.
    const { namespace, ...metadata } = made.metadata;
    const whole = /^(Cluster|Validating)/.test(made.kind ?? "");
    const own = { ...metadata, name: `${metadata.name}${suffix}` };
    const object: typeof made = whole || namespace === undefined ? { ...made, metadata: own } : made;
    const policyName = `${metadata.name}${suffix}`;
    if (made.kind === "ValidatingAdmissionPolicyBinding") object.spec = { ...made.spec, policyName };
    if (made.kind === "ClusterRoleBinding") object.roleRef = { ...made.roleRef, name: policyName };
    const [group = "", version = ""] = (object.apiVersion ?? "").split("/");
    const kind = object.kind ?? "";
    const plural = kind.endsWith("y") ? `${kind.slice(0, -1)}ies` : `${kind}s`;
    const resource = { group, version, plural: plural.toLowerCase(), kind };
    await bench.api.apply(resource, object);
    applied.push({ resource, object });
  }
  return applied;
}

/** The API server as the operator's service account sees it; through something that stands between, where that is given. */
export async function operatorAccount(bench: OperatorBench, through?: string): Promise<KubeConfig> {
  const core = bench.pods.config.makeApiClient(CoreV1Api);
  const name = "operator";
  const { namespace } = bench;
  await core
    .createNamespacedServiceAccount({ namespace, body: { metadata: { name } } })
    .catch((error: unknown) => {
      if ((error as { code?: number }).code !== 409) throw error;
    });
  const { status } = await core.createNamespacedServiceAccountToken({
    namespace,
    name,
    body: { spec: { audiences: ["https://kubernetes.default.svc"], expirationSeconds: 3_600 } },
  });
  const config = new KubeConfig();
  const server = bench.pods.config.getCurrentCluster();
  if (server === null || status?.token === undefined) throw new Error("no token");
  const cluster = through === undefined ? server : { name: "through", server: through, skipTLSVerify: true };
  config.loadFromClusterAndUser(cluster, { name, token: status.token });
  return config;
}
