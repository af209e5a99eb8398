import { ApiObject, type Chart } from "cdk8s";
import { labelsOf } from "./labels.ts";
import { inWave } from "./waves.ts";

// What the operator may do, and nothing else: no wildcards, nothing on Secrets.

interface Rule {
  readonly apiGroups: readonly string[];
  readonly resources: readonly string[];
  readonly verbs: readonly string[];
}

/** In every namespace that has a ModelDeployment. */
export const CLUSTER_RULES: readonly Rule[] = [
  { apiGroups: ["baton.dev"], resources: ["modeldeployments"], verbs: ["list", "watch"] },
  { apiGroups: ["baton.dev"], resources: ["modeldeployments/status"], verbs: ["patch"] },
  { apiGroups: ["baton.dev"], resources: ["analysistemplates", "instrumentsets"], verbs: ["list", "watch"] },
  // An owner whose deletion its Deployments block has to be touchable.
  { apiGroups: ["baton.dev"], resources: ["modeldeployments/finalizers"], verbs: ["update"] },
  {
    apiGroups: ["apps"],
    resources: ["deployments"],
    verbs: ["list", "watch", "create", "patch", "delete"],
  },
  { apiGroups: ["policy"], resources: ["poddisruptionbudgets"], verbs: ["create", "patch", "delete"] },
  // What it measures by a Job.
  { apiGroups: ["batch"], resources: ["jobs"], verbs: ["get", "create", "patch"] },
  { apiGroups: [""], resources: ["pods"], verbs: ["list", "watch"] },
  { apiGroups: [""], resources: ["events"], verbs: ["create", "patch"] },
];

/** In its own. */
export const OWN_RULES: readonly Rule[] = [
  { apiGroups: ["coordination.k8s.io"], resources: ["leases"], verbs: ["get", "create", "update"] },
];

export function addOperatorRights(scope: Chart, namespace: string): void {
  const api = "rbac.authorization.k8s.io";
  const subjects = [{ kind: "ServiceAccount", name: "operator", namespace }];
  const labels = labelsOf("operator");
  const annotations = inWave("operator");
  const add = (kind: string, id: string, body: object) => {
    const name = "baton-operator";
    const inside = kind.startsWith("Cluster") ? {} : { namespace };
    new ApiObject(scope, id, {
      apiVersion: `${api}/v1`,
      kind,
      metadata: { name, labels, annotations, ...inside },
      ...body,
    });
  };
  const roleRef = (kind: string) => ({ apiGroup: api, kind, name: "baton-operator" });
  add("ClusterRole", "cluster-role", { rules: CLUSTER_RULES });
  add("ClusterRoleBinding", "cluster-role-binding", { subjects, roleRef: roleRef("ClusterRole") });
  add("Role", "role", { rules: OWN_RULES });
  add("RoleBinding", "role-binding", { subjects, roleRef: roleRef("Role") });
}
