import { ApiObject, type Chart } from "cdk8s";
import { labelsOf } from "./labels.ts";
import { inWave, type Wave } from "./waves.ts";

// What the operator may do, and nothing else: no wildcards, nothing on Secrets.

const API = "rbac.authorization.k8s.io";

export interface Rule {
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
  {
    apiGroups: ["policy"],
    resources: ["poddisruptionbudgets"],
    verbs: ["list", "watch", "create", "patch", "delete"],
  },
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
  const of = "operator";
  const name = `baton-${of}`;
  const metadata = { name, labels: labelsOf(of), annotations: inWave("operator") };
  const kind = "ClusterRole";
  new ApiObject(scope, "cluster-role", { apiVersion: `${API}/v1`, kind, metadata, rules: CLUSTER_RULES });
  new ApiObject(scope, "cluster-role-binding", {
    apiVersion: `${API}/v1`,
    kind: "ClusterRoleBinding",
    metadata,
    roleRef: { apiGroup: API, kind, name },
    subjects: [{ kind: "ServiceAccount", name: of, namespace }],
  });
  addRole(scope, { of, accountNamespace: namespace, namespace, rules: OWN_RULES, wave: "operator" });
}

/** Rights in one namespace for one account, which may be of another. */
export function addRole(
  scope: Chart,
  role: {
    /** What it belongs to, and its account. */
    readonly of: string;
    readonly accountNamespace: string;
    readonly namespace: string;
    readonly rules: readonly Rule[];
    readonly wave: Wave;
  },
): void {
  const { of, accountNamespace, namespace, rules, wave } = role;
  const name = `baton-${of}`;
  const metadata = { name, namespace, labels: labelsOf(of), annotations: inWave(wave) };
  new ApiObject(scope, "role", { apiVersion: `${API}/v1`, kind: "Role", metadata, rules });
  new ApiObject(scope, "role-binding", {
    apiVersion: `${API}/v1`,
    kind: "RoleBinding",
    metadata,
    roleRef: { apiGroup: API, kind: "Role", name },
    subjects: [{ kind: "ServiceAccount", name: of, namespace: accountNamespace }],
  });
}
