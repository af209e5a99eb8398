import { ApiObject, type Chart } from "cdk8s";
import { FENCE_POLICY as NAME } from "#operators/model-deployment/api/fence.ts";
import { labelsOf } from "./labels.ts";
import { inWave } from "./waves.ts";

// An operator that was frozen while another took over writes once more when it wakes up: it knows no better. What an
// operator writes carries its epoch, and the API server compares that with the lease that operators lead by.

const EPOCH = "baton.dev/epoch";

/** A policy of the API server, without a webhook: only the epoch that leads may write. */
export function addOperatorFence(scope: Chart, namespace: string): void {
  const labels = labelsOf("operator");
  const annotations = inWave("operator");
  const rule = (apiGroups: string[], apiVersions: string[], resources: string[], operations: string[]) => ({
    apiGroups,
    apiVersions,
    resources,
    operations,
  });
  new ApiObject(scope, "fence", {
    apiVersion: "admissionregistration.k8s.io/v1",
    kind: "ValidatingAdmissionPolicy",
    metadata: { name: NAME, labels, annotations },
    spec: {
      failurePolicy: "Fail",
      paramKind: { apiVersion: "coordination.k8s.io/v1", kind: "Lease" },
      matchConstraints: {
        resourceRules: [
          rule(["apps"], ["v1"], ["deployments"], ["CREATE", "UPDATE"]),
          rule(["baton.dev"], ["v1alpha1"], ["modeldeployments/status"], ["UPDATE"]),
        ],
      },
      matchConditions: [
        {
          name: "the-operator",
          expression: `request.userInfo.username == "system:serviceaccount:${namespace}:operator"`,
        },
      ],
      variables: [
        {
          name: "epoch",
          expression: `request.resource.resource == "deployments"
  ? int(object.metadata.?annotations["${EPOCH}"].orValue("0"))
  : int(object.?status.epoch.orValue(0))`,
        },
      ],
      validations: [
        {
          expression: "variables.epoch >= params.spec.leaseTransitions",
          // Not Invalid, which is the default: an operator takes that for a status that it has to reduce.
          reason: "Forbidden",
          messageExpression:
            "'another operator leads: this is of epoch ' + string(variables.epoch) + ', and the lease of ' + string(params.spec.leaseTransitions)",
        },
      ],
    },
  });
  new ApiObject(scope, "fence-binding", {
    apiVersion: "admissionregistration.k8s.io/v1",
    kind: "ValidatingAdmissionPolicyBinding",
    metadata: { name: NAME, labels, annotations },
    spec: {
      policyName: NAME,
      // Without a lease nobody has led yet. To deny would refuse everybody's Deployments: a missing parameter is looked at before
      // the conditions that say whom the policy is for.
      paramRef: { name: "baton-operator", namespace, parameterNotFoundAction: "Allow" },
      validationActions: ["Deny"],
    },
  });
}
