// What every rendered manifest has to keep to, as predicates over objects: the check of all environments, beside what
// Kubernetes' own schemas say. Each says what is wrong in one sentence, or nothing.

interface Container {
  readonly name: string;
  readonly image: string;
  readonly imagePullPolicy?: string;
  readonly env?: readonly { readonly name: string; readonly value?: string; readonly valueFrom?: object }[];
  readonly envFrom?: readonly object[];
  readonly ports?: readonly { readonly containerPort: number; readonly hostPort?: number }[];
  readonly resources?: Readonly<Record<"requests" | "limits", Readonly<Record<string, string>> | undefined>>;
  readonly securityContext?: {
    readonly runAsNonRoot?: boolean;
    readonly runAsUser?: number;
    readonly privileged?: boolean;
    readonly allowPrivilegeEscalation?: boolean;
    readonly readOnlyRootFilesystem?: boolean;
    readonly capabilities?: { readonly drop?: readonly string[]; readonly add?: readonly string[] };
    readonly seccompProfile?: { readonly type?: string };
  };
  readonly startupProbe?: object;
  readonly readinessProbe?: object;
  readonly livenessProbe?: object;
}

interface PodSpec {
  readonly containers: readonly Container[];
  readonly initContainers?: readonly Container[];
  readonly serviceAccountName?: string;
  readonly automountServiceAccountToken?: boolean;
  readonly hostNetwork?: boolean;
  readonly hostPID?: boolean;
  readonly hostIPC?: boolean;
  readonly volumes?: readonly Readonly<Record<string, unknown>>[];
  readonly securityContext?: Container["securityContext"];
  readonly terminationGracePeriodSeconds?: number;
}

export interface Manifest {
  readonly apiVersion: string;
  readonly kind: string;
  readonly metadata: {
    readonly name: string;
    readonly namespace?: string;
    readonly labels?: Readonly<Record<string, string>>;
    readonly annotations?: Readonly<Record<string, string>>;
  };
  readonly automountServiceAccountToken?: boolean;
  readonly rules?: readonly {
    readonly apiGroups?: readonly string[];
    readonly resources?: readonly string[];
    readonly verbs?: readonly string[];
  }[];
  readonly roleRef?: { readonly name: string };
  readonly subjects?: readonly {
    readonly kind: string;
    readonly name: string;
    readonly namespace?: string;
  }[];
  readonly data?: Readonly<Record<string, string>>;
  readonly spec?: {
    readonly replicas?: number;
    readonly type?: string;
    readonly selector?: { readonly matchLabels?: Readonly<Record<string, string>> };
    readonly template?: {
      readonly metadata?: {
        readonly labels?: Readonly<Record<string, string>>;
        readonly annotations?: Readonly<Record<string, string>>;
      };
      readonly spec: PodSpec;
    };
    readonly maxUnavailable?: number | string;
    readonly minAvailable?: number | string;
    readonly unhealthyPodEvictionPolicy?: string;
    readonly podSelector?: object;
    readonly ingress?: readonly object[];
    readonly egress?: readonly object[];
  };
}

/** What a predicate may look at beside the object: the whole environment. */
export interface Environment {
  /** Images by digest only: what runs is what was tested. */
  readonly pinned: boolean;
  readonly objects: readonly Manifest[];
}

export interface Policy {
  readonly name: string;
  readonly check: (object: Manifest, environment: Environment) => string | undefined;
}

/** Kinds of ours that belong to no namespace. */
export const CLUSTER_SCOPED = /^(Namespace|CustomResourceDefinition|Cluster.*|ValidatingAdmissionPolicy.*)$/;
/** What the operator adds to a model's pods itself (operators/model-deployment/adapters/deployment.ts). */
const OURS = "ModelDeployment";

const workload = (object: Manifest) => object.spec?.template?.spec;
const serverPod = (object: Manifest) => (object.kind === OURS ? undefined : workload(object));

/** A predicate over each container, the preparing ones included. */
function container(
  name: string,
  wrong: (container: Container, pod: PodSpec, environment: Environment) => string | undefined,
  pods: (object: Manifest) => PodSpec | undefined = serverPod,
): Policy {
  return {
    name,
    check: (object, environment) => {
      const pod = pods(object);
      for (const entry of [...(pod?.initContainers ?? []), ...(pod?.containers ?? [])]) {
        const problem = pod === undefined ? undefined : wrong(entry, pod, environment);
        if (problem !== undefined) return `container ${entry.name}: ${problem}`;
      }
      return undefined;
    },
  };
}

function pod(
  name: string,
  wrong: (pod: PodSpec, object: Manifest, environment: Environment) => string | undefined,
  pods: (object: Manifest) => PodSpec | undefined = serverPod,
): Policy {
  return {
    name,
    check: (object, environment) => {
      const spec = pods(object);
      return spec === undefined ? undefined : wrong(spec, object, environment);
    },
  };
}

const object = (name: string, check: Policy["check"]): Policy => ({ name, check });
const unless = (fine: boolean | undefined, problem: string) => (fine ? undefined : problem);
const rulesOf = ({ kind, rules = [] }: Manifest) => (kind.endsWith("Role") ? rules : []);

export const POLICIES: readonly Policy[] = [
  container("non-root", ({ securityContext: own }, { securityContext: all }) =>
    unless(
      (own?.runAsNonRoot ?? all?.runAsNonRoot) === true && (own?.runAsUser ?? all?.runAsUser ?? 0) > 0,
      "may run as root",
    ),
  ),
  container("seccomp", ({ securityContext: own }, { securityContext: all }) =>
    unless(
      (own?.seccompProfile ?? all?.seccompProfile)?.type === "RuntimeDefault",
      "may make any system call",
    ),
  ),
  container("read-only-root", ({ securityContext }) =>
    unless(securityContext?.readOnlyRootFilesystem, "may write to its own image"),
  ),
  container(
    "no-privilege",
    ({ securityContext }) => unless(securityContext?.privileged !== true, "is privileged"),
    workload,
  ),
  container("no-escalation", ({ securityContext }) =>
    unless(securityContext?.allowPrivilegeEscalation === false, "may gain privileges"),
  ),
  container("no-capabilities", ({ securityContext }) =>
    unless(
      securityContext?.capabilities?.drop?.includes("ALL") && !securityContext.capabilities.add?.length,
      "keeps capabilities",
    ),
  ),
  container(
    "limits",
    ({ resources }) =>
      unless(
        ["cpu", "memory"].every((kind) => resources?.limits?.[kind] && resources.requests?.[kind]),
        "has no limits or requests for CPU and memory",
      ),
    workload,
  ),
  pod(
    "probes",
    ({ containers }, { kind }) => {
      if (kind === "Job") return undefined;
      // What keeps its state on a disk may be reading that: it is not killed for being slow.
      const bare = containers.find(
        (entry) =>
          !(entry.startupProbe && entry.readinessProbe && (kind === "StatefulSet" || entry.livenessProbe)),
      );
      return unless(bare === undefined, `container ${bare?.name}: does not say when it is ready, or alive`);
    },
    workload,
  ),
  container(
    "images-by-digest",
    ({ image }, _, { pinned }) =>
      unless(!pinned || /@sha256:[0-9a-f]{64}$/.test(image), `${image} may change`),
    workload,
  ),
  container(
    "no-latest",
    ({ image }) => unless(/(@sha256:|:(?!latest$)[\w.-]+$)/.test(image), `${image} is whatever is latest`),
    workload,
  ),
  container(
    "no-host-port",
    ({ ports = [] }) =>
      unless(
        ports.every(({ hostPort }) => hostPort === undefined),
        "takes a port of its node",
      ),
    workload,
  ),
  container(
    "no-secret-in-env",
    ({ env = [] }) => {
      const bad = env.find(
        ({ name, value }) =>
          value !== undefined &&
          /(PASSWORD|SECRET|TOKEN|PRIVATE|CREDENTIAL|_KEY)/i.test(name) &&
          // Where it is mounted is no secret.
          !name.endsWith("_FILE"),
      );
      return unless(bad === undefined, `${bad?.name} is written out`);
    },
    workload,
  ),
  pod("own-account", ({ serviceAccountName }, { metadata }, { objects }) => {
    if (serviceAccountName === undefined || serviceAccountName === "default")
      return "runs as the default account";
    const there = objects.some(
      ({ kind, metadata: { name, namespace } }) =>
        kind === "ServiceAccount" && name === serviceAccountName && namespace === metadata.namespace,
    );
    return unless(there, `there is no account ${serviceAccountName}`);
  }),
  pod(
    "token-only-with-rights",
    ({ automountServiceAccountToken, serviceAccountName }, { metadata }, { objects }) => {
      if (automountServiceAccountToken === false) return undefined;
      const bound = objects.some(({ subjects = [] }) =>
        subjects.some(
          ({ name, namespace }) => name === serviceAccountName && namespace === metadata.namespace,
        ),
      );
      return unless(bound, "has a token of the API server and no rights there");
    },
  ),
  pod(
    "no-host-namespaces",
    ({ hostNetwork, hostPID, hostIPC }) =>
      unless(!(hostNetwork || hostPID || hostIPC), "shares its node's network or processes"),
    workload,
  ),
  pod(
    "no-host-path",
    ({ volumes = [] }) =>
      unless(
        volumes.every((volume) => !("hostPath" in volume)),
        "mounts its node's files",
      ),
    workload,
  ),
  pod("bounded-scratch", ({ volumes = [] }) =>
    unless(
      volumes.every(({ emptyDir }) => emptyDir === undefined || "sizeLimit" in (emptyDir as object)),
      "may fill its node's disk",
    ),
  ),
  pod("time-to-stop", ({ terminationGracePeriodSeconds = 0 }) =>
    unless(terminationGracePeriodSeconds >= 10, "is killed before it can end"),
  ),
  object("selects-own-pods", ({ kind, spec }) => {
    const wanted = spec?.selector?.matchLabels;
    if (!["Deployment", "StatefulSet"].includes(kind) || wanted === undefined) return undefined;
    const labels = spec?.template?.metadata?.labels ?? {};
    return unless(
      Object.entries(wanted).every(([key, value]) => labels[key] === value),
      "does not select its own pods",
    );
  }),
  object("lets-nodes-be-drained", ({ kind, spec }) =>
    unless(
      kind !== "PodDisruptionBudget" ||
        (spec?.unhealthyPodEvictionPolicy === "AlwaysAllow" &&
          spec.minAvailable === undefined &&
          Number(spec.maxUnavailable ?? 0) >= 1),
      "holds a node up for ever where its pods do not become ready, or where there is one only",
    ),
  ),
  object("in-a-namespace", ({ kind, metadata: { namespace } }) =>
    CLUSTER_SCOPED.test(kind)
      ? unless(namespace === undefined, "belongs to no namespace")
      : unless(namespace !== undefined, "goes to whatever namespace is chosen"),
  ),
  object("belongs-to-baton", ({ metadata }) =>
    unless(
      metadata.labels?.["app.kubernetes.io/part-of"] === "baton",
      "does not say that it is a part of Baton",
    ),
  ),
  object("in-a-wave", ({ kind, metadata }) =>
    unless(
      kind === "ServiceAccount" || metadata.annotations?.["argocd.argoproj.io/sync-wave"] !== undefined,
      "says nothing about when it is synced",
    ),
  ),
  object("no-wildcard-rights", (manifest) =>
    unless(
      rulesOf(manifest).every(({ apiGroups = [], resources = [], verbs = [] }) =>
        [...apiGroups, ...resources, ...verbs].every((word) => !word.includes("*")),
      ),
      "gives rights on everything",
    ),
  ),
  object("no-rights-on-secrets", (manifest) =>
    unless(
      rulesOf(manifest).every(({ resources = [] }) => resources.every((name) => !name.startsWith("secrets"))),
      "gives rights on Secrets",
    ),
  ),
  object("no-rights-to-more-rights", (manifest) =>
    unless(
      rulesOf(manifest).every(
        ({ resources = [], verbs = [] }) =>
          !verbs.some((verb) => ["escalate", "bind", "impersonate"].includes(verb)) &&
          !resources.some((name) =>
            /^(pods\/(exec|attach)|serviceaccounts\/token|.*rolebindings)$/.test(name),
          ),
      ),
      "gives rights by which one gains more",
    ),
  ),
  object("no-admin", ({ roleRef }) =>
    unless(!["cluster-admin", "admin", "edit"].includes(roleRef?.name ?? ""), `binds ${roleRef?.name}`),
  ),
  object("no-secret-in-git", ({ kind }) => unless(kind !== "Secret", "is a Secret, in Git")),
  object("not-reached-from-outside", ({ kind, spec }) =>
    unless(
      kind !== "Ingress" && !(kind === "Service" && ["NodePort", "LoadBalancer"].includes(spec?.type ?? "")),
      "can be reached from outside",
    ),
  ),
  object("restricted-namespaces", ({ kind, metadata }) =>
    unless(
      kind !== "Namespace" || metadata.labels?.["pod-security.kubernetes.io/enforce"] === "restricted",
      "takes pods that are not restricted",
    ),
  ),
  object("denies-by-default", ({ kind, metadata }, { objects }) => {
    if (kind !== "Namespace") return undefined;
    const closed = objects.some(
      (entry) =>
        entry.kind === "NetworkPolicy" &&
        entry.metadata.namespace === metadata.name &&
        Object.keys(entry.spec?.podSelector ?? { any: 1 }).length === 0 &&
        entry.spec?.ingress === undefined &&
        entry.spec?.egress === undefined,
    );
    return unless(closed, "lets everybody talk to everybody");
  }),
  object("kept-definitions", ({ kind, metadata }) =>
    unless(
      !["CustomResourceDefinition", "Namespace"].includes(kind) ||
        metadata.annotations?.["argocd.argoproj.io/sync-options"]?.includes("Prune=false"),
      "is deleted, and all that is in it, when its file goes",
    ),
  ),
];

export interface Violation {
  readonly policy: string;
  readonly object: string;
  readonly problem: string;
}

/** Everything in an environment that is against a policy. */
export function violations(environment: Environment): Violation[] {
  return environment.objects.flatMap((manifest) =>
    POLICIES.flatMap(({ name, check }) => {
      const problem = check(manifest, environment);
      const { kind, metadata } = manifest;
      const path = [kind, metadata.namespace, metadata.name].filter((part) => part !== undefined).join("/");
      return problem === undefined ? [] : [{ policy: name, object: path, problem }];
    }),
  );
}
