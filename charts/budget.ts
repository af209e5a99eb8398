import { ApiObject, type Chart } from "cdk8s";
import type { Construct } from "constructs";
import { labelsOf, NAME } from "./labels.ts";

/**
 * Of several pods one goes at a time when nodes are drained. A pod that is not ready may always go, or one that crashes again
 * and again would hold up its node for ever. Pods of a ModelDeployment of the same name have a budget of their own, and one
 * with two cannot be evicted at all.
 */
export function addBudget(
  scope: Construct | Chart,
  name: string,
  annotations: Readonly<Record<string, string>>,
): void {
  new ApiObject(scope, `${name}-budget`, {
    apiVersion: "policy/v1",
    kind: "PodDisruptionBudget",
    metadata: { name, labels: labelsOf(name), annotations: { ...annotations } },
    spec: {
      maxUnavailable: 1,
      selector: {
        matchLabels: { [NAME]: name },
        matchExpressions: [{ key: "baton.dev/deployment", operator: "DoesNotExist" }],
      },
      unhealthyPodEvictionPolicy: "AlwaysAllow",
    },
  });
}
