import type { KubeObject, OwnerReference, Resource } from "#operators/controller-kit/api.ts";
import type { ConditionThen } from "#operators/controller-kit/conditions.ts";
import type { ModelDeploymentSpec } from "../api/model-deployment.ts";
import { DEPLOYMENT_LABEL, REVISION_LABEL } from "../core/report.ts";
import { configurationHash, revisionOf } from "../core/revision.ts";

// A revision's Deployment: the template of the spec, with what makes it a revision and as few rights as a pod can have.

export const DEPLOYMENTS: Resource = {
  group: "apps",
  version: "v1",
  plural: "deployments",
  kind: "Deployment",
};

export const LABELS = {
  deployment: DEPLOYMENT_LABEL,
  revision: REVISION_LABEL,
  /** On the pods of Jobs that measure: they are no revision's. */
  measures: "baton.dev/measures",
} as const;
export const ANNOTATIONS = {
  version: "baton.dev/model-version",
  digest: "baton.dev/model-digest",
  configuration: "baton.dev/configuration",
  restartedAt: "baton.dev/restarted-at",
  /** Counts leading operators: what an older one writes is refused by a ValidatingAdmissionPolicy. */
  epoch: "baton.dev/epoch",
} as const;

/** A user that exists in no image, so that no file is its by accident. */
const USER = 10_001;

export interface Deployment extends KubeObject {
  readonly spec: {
    readonly replicas?: number;
    readonly minReadySeconds?: number;
    readonly revisionHistoryLimit?: number;
    readonly selector: object;
    readonly template: { readonly metadata?: { readonly annotations?: Readonly<Record<string, string>> } };
  };
  readonly status?: {
    readonly replicas?: number;
    readonly updatedReplicas?: number;
    readonly availableReplicas?: number;
    readonly conditions?: readonly (Pick<ConditionThen, "type" | "status" | "lastTransitionTime"> & {
      readonly message?: string;
    })[];
  };
}

export function deploymentName(object: string, revision: string): string {
  return `${object}-${revision}`;
}

interface PodSpec {
  readonly containers: readonly Readonly<Record<string, unknown>>[];
}

/** A pod with as few rights as it can have: as the profile `restricted` of Pod Security asks. */
export function restricted(pod: PodSpec & Readonly<Record<string, unknown>>): object {
  return {
    ...pod,
    automountServiceAccountToken: false,
    securityContext: {
      runAsNonRoot: true,
      runAsUser: USER,
      runAsGroup: USER,
      fsGroup: USER,
      seccompProfile: { type: "RuntimeDefault" },
    },
    containers: pod.containers.map((container) => ({
      ...container,
      securityContext: {
        allowPrivilegeEscalation: false,
        readOnlyRootFilesystem: true,
        capabilities: { drop: ["ALL"] },
      },
    })),
  };
}

/** The annotation that says who wrote an object. */
export function epochAnnotation(epoch: number | undefined): Readonly<Record<string, string>> {
  return epoch === undefined ? {} : { [ANNOTATIONS.epoch]: String(epoch) };
}

export function ownerReference({ apiVersion = "", kind = "", metadata }: KubeObject): OwnerReference {
  const { name, uid = "" } = metadata;
  return { apiVersion, kind, name, uid, controller: true, blockOwnerDeletion: true };
}

/** The Deployment of the revision that a spec describes. */
export function deploymentOf(
  owner: KubeObject,
  spec: ModelDeploymentSpec,
  replicas: number,
  epoch: number | undefined,
): Deployment {
  const { name, namespace = "" } = owner.metadata;
  const revision = revisionOf(spec);
  const own = { [LABELS.deployment]: name, [LABELS.revision]: revision };
  const labels = {
    ...spec.template.metadata?.labels,
    ...own,
    "app.kubernetes.io/name": name,
    "app.kubernetes.io/managed-by": "baton",
  };
  const identity = {
    [ANNOTATIONS.version]: spec.model.version,
    [ANNOTATIONS.digest]: spec.model.digest,
    [ANNOTATIONS.configuration]: configurationHash(spec),
  };
  const variables = [
    { name: "DEPLOYMENT", value: spec.stream?.name ?? name },
    { name: "REVISION", value: revision },
    { name: "CONFIG_HASH", value: configurationHash(spec) },
    { name: "MODEL_URI", value: spec.model.uri },
    { name: "MODEL_DIGEST", value: spec.model.digest },
    ...(spec.stream === undefined ? [] : [{ name: "TOPICS", value: spec.stream.topics.join(",") }]),
  ];
  const { containers, ...pod } = spec.template.spec;
  const template = {
    metadata: { labels, annotations: { ...spec.template.metadata?.annotations, ...identity } },
    spec: restricted({
      ...pod,
      containers: containers.map((container) => ({
        ...container,
        env: [...variables, ...(container.env ?? [])],
      })),
    }),
  };
  return {
    metadata: {
      name: deploymentName(name, revision),
      namespace,
      labels: { ...own, "app.kubernetes.io/managed-by": "baton" },
      annotations: { ...identity, ...epochAnnotation(epoch) },
      ownerReferences: [ownerReference(owner)],
    },
    spec: {
      replicas,
      minReadySeconds: spec.minReadySeconds,
      revisionHistoryLimit: 0,
      selector: { matchLabels: own },
      template,
    },
  };
}
