import { ApiObject, type Chart } from "cdk8s";
import { labelsOf } from "./labels.ts";
import { ENDPOINTS } from "./platform.ts";
import { USER } from "./service.ts";
import { imageOf, type Values } from "./values.ts";
import { inWave } from "./waves.ts";

/** The command line's own name, by which its flows are declared. */
const NAME = "cli";

/** Runs after each sync: one that leaves the platform without what it needs is a failed one, and says what is missing. */
export function addSmokeTest(scope: Chart, values: Values): void {
  const restricted = { runAsNonRoot: true, seccompProfile: { type: "RuntimeDefault" } };
  new ApiObject(scope, "smoke-test", {
    apiVersion: "batch/v1",
    kind: "Job",
    metadata: {
      name: "smoke-test",
      labels: labelsOf(NAME),
      annotations: {
        ...inWave("services"),
        "argocd.argoproj.io/hook": "PostSync",
        "argocd.argoproj.io/hook-delete-policy": "BeforeHookCreation",
      },
    },
    spec: {
      backoffLimit: 2,
      activeDeadlineSeconds: 300,
      template: {
        metadata: { labels: labelsOf(NAME) },
        spec: {
          restartPolicy: "Never",
          serviceAccountName: NAME,
          automountServiceAccountToken: false,
          enableServiceLinks: false,
          terminationGracePeriodSeconds: 30,
          securityContext: { ...restricted, runAsUser: USER, runAsGroup: USER },
          containers: [
            {
              name: "main",
              image: imageOf(values, NAME),
              imagePullPolicy: "IfNotPresent",
              args: [
                "check",
                "--topic",
                values.marketData.topic,
                "--namespace",
                values.namespace,
                "--within",
                "90",
              ],
              envFrom: [{ configMapRef: { name: ENDPOINTS } }],
              resources: {
                requests: { cpu: "50m", memory: "96Mi", "ephemeral-storage": "64Mi" },
                limits: { cpu: "1", memory: "256Mi", "ephemeral-storage": "128Mi" },
              },
              securityContext: {
                ...restricted,
                readOnlyRootFilesystem: true,
                allowPrivilegeEscalation: false,
                privileged: false,
                capabilities: { drop: ["ALL"] },
              },
            },
          ],
        },
      },
    },
  });
}

/** Who the command line is in the cluster: nobody with any right. */
export function addCliAccount(scope: Chart): void {
  new ApiObject(scope, "cli-account", {
    apiVersion: "v1",
    kind: "ServiceAccount",
    metadata: { name: NAME, labels: labelsOf(NAME) },
    automountServiceAccountToken: false,
  });
}
