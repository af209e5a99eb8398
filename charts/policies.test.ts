import { describe, expect, it } from "vitest";
import { parseAllDocuments } from "yaml";
import { type Environment, type Manifest, POLICIES, violations } from "./policies.ts";
import { environments, renderCluster } from "./render.ts";

const rendered = new Map(
  [...environments()].map(([name, values]): [string, Environment] => [
    name,
    {
      pinned: values.images.digests !== undefined,
      objects: [...renderCluster(values).values()].flatMap((text) =>
        parseAllDocuments(text).map((entry) => entry.toJS() as Manifest),
      ),
    },
  ]),
);

describe("environments", () => {
  it("are all there", () => {
    expect([...rendered.keys()].toSorted()).toEqual(["dev", "kind", "local", "prod", "staging"]);
  });

  it.each([...rendered])("%s keeps to every policy", (_, environment) => {
    expect(violations(environment)).toEqual([]);
  });

  it.each(["dev", "staging", "prod"])("%s runs images by digest", (name) => {
    expect(rendered.get(name)?.pinned).toBe(true);
  });
});

// Each policy is broken once: what is changed, where, and by which policy it has to be found.

// biome-ignore lint/suspicious/noExplicitAny: breaks objects of any shape
type Change = (object: any) => void;
const main =
  (change: Change): Change =>
  (object) =>
    change(object.spec.template.spec.containers[0]);
const pod =
  (change: Change): Change =>
  (object) =>
    change(object.spec.template.spec);
const role =
  (rule: object): Change =>
  (object) =>
    object.rules.push(rule);

const BREAKS: readonly (readonly [policy: string, kind: string, name: string, change: Change])[] = [
  [
    "non-root",
    "Deployment",
    "features",
    main((c) => {
      c.securityContext.runAsNonRoot = false;
    }),
  ],
  [
    "seccomp",
    "Deployment",
    "features",
    main((c) => {
      c.securityContext.seccompProfile.type = "Unconfined";
    }),
  ],
  [
    "read-only-root",
    "StatefulSet",
    "kafka",
    main((c) => {
      c.securityContext.readOnlyRootFilesystem = false;
    }),
  ],
  [
    "no-privilege",
    "ModelDeployment",
    "momentum",
    main((c) => {
      c.securityContext = { privileged: true };
    }),
  ],
  [
    "no-escalation",
    "StatefulSet",
    "redis",
    main((c) => {
      delete c.securityContext.allowPrivilegeEscalation;
    }),
  ],
  [
    "no-capabilities",
    "Deployment",
    "operator",
    main((c) => {
      c.securityContext.capabilities.add = ["NET_RAW"];
    }),
  ],
  [
    "limits",
    "ModelDeployment",
    "momentum",
    main((c) => {
      delete c.resources.limits.memory;
    }),
  ],
  [
    "probes",
    "ModelDeployment",
    "momentum",
    main((c) => {
      delete c.readinessProbe;
    }),
  ],
  [
    "images-by-digest",
    "Deployment",
    "operator",
    main((c) => {
      c.image = "baton/operator:v1";
    }),
  ],
  [
    "no-latest",
    "Deployment",
    "operator",
    main((c) => {
      c.image = "baton/operator";
    }),
  ],
  [
    "no-latest",
    "Deployment",
    "operator",
    main((c) => {
      c.image = "baton/operator:latest";
    }),
  ],
  [
    "no-host-port",
    "StatefulSet",
    "kafka",
    main((c) => {
      c.ports[0].hostPort = 9092;
    }),
  ],
  [
    "no-secret-in-env",
    "Deployment",
    "features",
    main((c) => {
      c.env.push({ name: "API_TOKEN", value: "x" });
    }),
  ],
  [
    "own-account",
    "Deployment",
    "features",
    pod((p) => {
      p.serviceAccountName = "default";
    }),
  ],
  [
    "own-account",
    "Deployment",
    "features",
    pod((p) => {
      p.serviceAccountName = "nobody";
    }),
  ],
  [
    "token-only-with-rights",
    "Deployment",
    "features",
    pod((p) => {
      p.automountServiceAccountToken = true;
    }),
  ],
  [
    "no-host-namespaces",
    "StatefulSet",
    "prometheus",
    pod((p) => {
      p.hostNetwork = true;
    }),
  ],
  [
    "no-host-path",
    "StatefulSet",
    "prometheus",
    pod((p) => {
      p.volumes.push({ name: "x", hostPath: { path: "/" } });
    }),
  ],
  [
    "bounded-scratch",
    "StatefulSet",
    "prometheus",
    pod((p) => {
      p.volumes.push({ name: "x", emptyDir: {} });
    }),
  ],
  [
    "time-to-stop",
    "Deployment",
    "market-data",
    pod((p) => {
      p.terminationGracePeriodSeconds = 0;
    }),
  ],
  [
    "selects-own-pods",
    "Deployment",
    "market-data",
    (o) => {
      o.spec.selector.matchLabels.x = "y";
    },
  ],
  [
    "lets-nodes-be-drained",
    "PodDisruptionBudget",
    "operator",
    (o) => {
      delete o.spec.unhealthyPodEvictionPolicy;
    },
  ],
  [
    "lets-nodes-be-drained",
    "PodDisruptionBudget",
    "operator",
    (o) => {
      o.spec.minAvailable = 1;
      delete o.spec.maxUnavailable;
    },
  ],
  [
    "in-a-namespace",
    "ConfigMap",
    "redis",
    (o) => {
      delete o.metadata.namespace;
    },
  ],
  [
    "belongs-to-baton",
    "ConfigMap",
    "redis",
    (o) => {
      delete o.metadata.labels;
    },
  ],
  [
    "in-a-wave",
    "ConfigMap",
    "redis",
    (o) => {
      delete o.metadata.annotations;
    },
  ],
  [
    "no-wildcard-rights",
    "ClusterRole",
    "baton-operator",
    role({ apiGroups: ["*"], resources: ["pods"], verbs: ["get"] }),
  ],
  [
    "no-rights-on-secrets",
    "ClusterRole",
    "baton-operator",
    role({ apiGroups: [""], resources: ["secrets"], verbs: ["get"] }),
  ],
  [
    "no-rights-to-more-rights",
    "ClusterRole",
    "baton-operator",
    role({ apiGroups: [""], resources: ["pods/exec"], verbs: ["create"] }),
  ],
  [
    "no-rights-to-more-rights",
    "ClusterRole",
    "baton-operator",
    role({ apiGroups: [""], resources: ["users"], verbs: ["impersonate"] }),
  ],
  [
    "no-admin",
    "ClusterRoleBinding",
    "baton-operator",
    (o) => {
      o.roleRef.name = "cluster-admin";
    },
  ],
  [
    "no-secret-in-git",
    "ConfigMap",
    "redis",
    (o) => {
      o.kind = "Secret";
    },
  ],
  [
    "not-reached-from-outside",
    "Service",
    "kafka",
    (o) => {
      o.spec.type = "NodePort";
    },
  ],
  [
    "restricted-namespaces",
    "Namespace",
    "baton",
    (o) => {
      o.metadata.labels["pod-security.kubernetes.io/enforce"] = "baseline";
    },
  ],
  [
    "denies-by-default",
    "NetworkPolicy",
    "deny-all",
    (o) => {
      o.spec.egress = [{}];
    },
  ],
  [
    "kept-definitions",
    "CustomResourceDefinition",
    "modeldeployments.baton.dev",
    (o) => {
      delete o.metadata.annotations["argocd.argoproj.io/sync-options"];
    },
  ],
];

describe("policies", () => {
  it.each(BREAKS)("%s is found broken by %s %s", (policy, kind, name, change) => {
    const dev = rendered.get("dev") as Environment;
    const objects = structuredClone(dev.objects);
    const broken = objects.find((object) => object.kind === kind && object.metadata.name === name);
    expect(broken).toBeDefined();
    change(broken);
    const found = violations({ ...dev, objects }).map((violation) => violation.policy);
    expect(found).toContain(policy);
  });

  it("are each broken once above", () => {
    expect(new Set(BREAKS.map(([policy]) => policy))).toEqual(new Set(POLICIES.map(({ name }) => name)));
  });
});
