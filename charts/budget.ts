import { ApiObject, type Chart } from "cdk8s";
import type { Construct } from "constructs";
import { labelsOf, NAME } from "./labels.ts";

/** Of several pods one goes at a time when nodes are emptied. */
export function addBudget(
  scope: Construct | Chart,
  name: string,
  annotations: Readonly<Record<string, string>>,
): void {
  new ApiObject(scope, `${name}-budget`, {
    apiVersion: "policy/v1",
    kind: "PodDisruptionBudget",
    metadata: { name, labels: labelsOf(name), annotations: { ...annotations } },
    spec: { maxUnavailable: 1, selector: { matchLabels: { [NAME]: name } } },
  });
}
