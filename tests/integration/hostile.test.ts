import { ApiException, CoreV1Api, CustomObjectsApi, type V1PodSpec } from "@kubernetes/client-node";
import { afterAll, beforeAll, describe, expect, inject, it } from "vitest";
import { deploymentOf, LABELS } from "#operators/model-deployment/adapters/deployment.ts";
import type { CustomObject } from "#operators/model-deployment/adapters/view.ts";
import { GROUP, KINDS, VERSION } from "#operators/model-deployment/api/crd.ts";
import { modelDeploymentSpec } from "#operators/model-deployment/api/model-deployment.ts";
import { PodBench } from "#tests/support/kubernetes.ts";
import { change, goodSpec, goodTemplate } from "#tests/support/model-deployments.ts";

// Manifests that reach for what is not theirs, or for too much. There is no webhook: the schema is what stands before them.
// They come without the client's own check (kubectl --validate=false), which would refuse fields that are not known. What
// is not refused is bounded: the API server's Pod Security takes the pod that comes of it under `restricted`, and it has
// the operator's labels, no token, and nothing of the host's.

const bench = new PodBench(inject("cluster"));
let restricted = "";

beforeAll(async () => {
  await bench.open();
  restricted = `${bench.namespace}-restricted`;
  const labels = { "pod-security.kubernetes.io/enforce": "restricted" };
  await bench.core.createNamespace({ body: { metadata: { name: restricted, labels } } });
});
afterAll(async () => {
  await bench.core.deleteNamespace({ name: restricted });
  await bench.close();
});

interface Manifest {
  readonly kind: string;
  readonly metadata: Record<string, unknown>;
  readonly spec: Record<string, unknown>;
}

/** What the API server makes of a manifest, without keeping it. */
async function sent({ kind, metadata, spec }: Manifest): Promise<CustomObject | string> {
  const plural = KINDS.find((entry) => entry.kind === kind)?.plural ?? "";
  const body = { apiVersion: `${GROUP}/${VERSION}`, kind, metadata: { name: "hostile", ...metadata }, spec };
  try {
    return (await bench.config.makeApiClient(CustomObjectsApi).createNamespacedCustomObject({
      group: GROUP,
      version: VERSION,
      namespace: bench.namespace,
      plural,
      body,
      fieldValidation: "Ignore",
      dryRun: "All",
    })) as CustomObject;
  } catch (error) {
    if (!(error instanceof ApiException)) throw error;
    const text = String(error.body);
    return text.startsWith("{") ? String((JSON.parse(text) as { message?: string }).message) : text;
  }
}

const POD = "template.spec";
const MAIN = `${POD}.containers.0`;
type Changes = readonly (readonly [path: string, value: unknown])[];
const with_ = (...changes: Changes): Manifest => {
  const spec = goodSpec();
  for (const [path, value] of changes) change(spec, path, value);
  return { kind: "ModelDeployment", metadata: {}, spec };
};
const template = (path: string, value: unknown): Manifest => ({
  kind: "AnalysisTemplate",
  metadata: {},
  spec: change(goodTemplate(), path, value),
});
const many = <T>(count: number, one: (i: number) => T): T[] =>
  Array.from({ length: count }, (_, i) => one(i));
const big = "x".repeat(1024 * 1024);

/** What reaches out of the pod: taken away by the schema, since there is no field for it. */
const PRUNED: Readonly<Record<string, Manifest>> = {
  "the host's network": with_([`${POD}.hostNetwork`, true]),
  "the host's processes": with_([`${POD}.hostPID`, true]),
  "the host's shared memory": with_([`${POD}.hostIPC`, true]),
  "a privileged container": with_([`${MAIN}.securityContext`, { privileged: true }]),
  "more privileges later": with_([`${MAIN}.securityContext`, { allowPrivilegeEscalation: true }]),
  "root by the pod": with_([`${POD}.securityContext`, { runAsUser: 0, runAsNonRoot: false }]),
  "root by the container": with_([`${MAIN}.securityContext`, { runAsUser: 0 }]),
  "a capability": with_([`${MAIN}.securityContext`, { capabilities: { add: ["SYS_ADMIN"] } }]),
  "no seccomp": with_([`${POD}.securityContext`, { seccompProfile: { type: "Unconfined" } }]),
  "an unmasked /proc": with_([`${MAIN}.securityContext`, { procMount: "Unmasked" }]),
  "a port of the host": with_([`${MAIN}.ports`, [{ name: "http", containerPort: 80, hostPort: 80 }]]),
  "kernel parameters": with_([
    `${POD}.securityContext`,
    { sysctls: [{ name: "kernel.shm_rmid_forced", value: "1" }] },
  ]),
  "its account's token": with_([`${POD}.automountServiceAccountToken`, true]),
  "a privileged container before the others": with_([
    `${POD}.initContainers`,
    [{ name: "init", image: "a", securityContext: { privileged: true } }],
  ]),
  "a container that is put in later": with_([`${POD}.ephemeralContainers`, [{ name: "e", image: "a" }]]),
  "a node of its choice, past the scheduler": with_([`${POD}.nodeName`, "control-plane"]),
  "nodes that others must not use": with_([`${POD}.tolerations`, [{ operator: "Exists" }]]),
  "more weight than the cluster's own pods": with_([`${POD}.priorityClassName`, "system-node-critical"]),
  "another namespace by its template": with_(["template.metadata.namespace", "kube-system"]),
  "an owner that is not its own": with_([
    "template.metadata.ownerReferences",
    [{ apiVersion: "v1", kind: "Node", name: "n", uid: "u" }],
  ]),
  "a selector of its own": with_(["selector", { matchLabels: { app: "everything" } }]),
};

/** What has a field, and bounds. */
const REFUSED: Readonly<Record<string, readonly [Manifest, RegExp]>> = {
  "a path of the host": [with_([`${POD}.volumes`, [{ name: "v", hostPath: { path: "/" } }]]), /volumes\[0\]/],
  "a token by a volume": [
    with_([
      `${POD}.volumes`,
      [{ name: "v", projected: { sources: [{ serviceAccountToken: { path: "token" } }] } }],
    ]),
    /volumes\[0\]/,
  ],
  "an account of another namespace": [
    with_([`${POD}.serviceAccountName`, "kube-system:admin"]),
    /serviceAccountName/,
  ],
  "a Secret of another namespace": [
    with_([`${MAIN}.envFrom`, [{ secretRef: { name: "kube-system/token" } }]]),
    /secretRef\.name/,
  ],
  "an InstrumentSet of another namespace": [
    with_(["instruments", undefined], ["instrumentSetRef", { name: "other/all" }]),
    /instrumentSetRef\.name/,
  ],
  "a template of another namespace": [
    with_(["analysis.templates.0.name", "other/errors"]),
    /templates\[0\]\.name/,
  ],
  "another revision's label": [
    with_(["template.metadata.labels", { [LABELS.revision]: "r-0" }]),
    /set by the operator/,
  ],
  "a label that services select by": [
    with_(["template.metadata.labels", { "app.kubernetes.io/name": "payments" }]),
    /set by the operator/,
  ],
  "a digest that is not the model's": [
    with_([`${MAIN}.env`, [{ name: "MODEL_DIGEST", value: "sha256:0" }]]),
    /set by the operator/,
  ],
  "the operator's annotation": [
    with_(["template.metadata.annotations", { "baton.dev/epoch": "999" }]),
    /set by the operator/,
  ],
  "a ledger with a path": [with_(["stream.name", "../other"]), /stream\.name/],
  "ten thousand instruments": [
    with_(["instruments", many(10_000, (i) => ({ symbol: `I${i}`, tier: "low" }))]),
    /instruments/,
  ],
  "ten thousand steps": [
    with_(["strategy.canary.steps", many(10_000, (i) => ({ setWeight: 1 + (i % 100) }))]),
    /steps/,
  ],
  "ten thousand containers": [
    with_([`${POD}.containers`, many(10_000, (i) => ({ name: `c${i}`, image: "a" }))]),
    /containers/,
  ],
  "an annotation of a mebibyte": [
    with_(["template.metadata.annotations", { note: big }]),
    /annotations|too large|Too long/,
  ],
  "annotations of a mebibyte of its own": [
    { ...with_(), metadata: { annotations: { note: big } } },
    /annotations|too large|Too long/,
  ],
  "a condition of a mebibyte": [template("metrics.1.successCondition", big), /successCondition/],
  "a query of a mebibyte": [template("metrics.0.provider.prometheus.query", big), /query/],
  "ten thousand metrics": [
    template(
      "metrics",
      many(10_000, (i) => ({
        name: `m${i}`,
        threshold: { max: "1" },
        provider: { prometheus: { query: "x" } },
      })),
    ),
    /metrics/,
  ],
  "a name that no label can hold": [{ ...with_(), metadata: { name: "n".repeat(64) } }, /name/],
  "a million replicas": [with_(["replicas", 1_000_000]), /replicas/],
};

describe("a hostile manifest is bounded", () => {
  it.each(Object.entries(PRUNED))("%s", async (_, manifest) => {
    const stored = await sent(manifest);
    if (typeof stored === "string") throw new Error(stored);
    const parsed = modelDeploymentSpec.parse(stored.spec);
    const { spec, metadata } = deploymentOf(stored, parsed, 1, 1);
    const pod = spec.template as { metadata: { labels: Record<string, string> }; spec: V1PodSpec };
    await bench.config.makeApiClient(CoreV1Api).createNamespacedPod({
      namespace: restricted,
      dryRun: "All",
      body: { metadata: { name: "p", labels: pod.metadata.labels }, spec: pod.spec },
    });
    expect(pod.spec.automountServiceAccountToken).toBe(false);
    const allowed = [
      "containers",
      "volumes",
      "serviceAccountName",
      "imagePullSecrets",
      "nodeSelector",
      "terminationGracePeriodSeconds",
      "automountServiceAccountToken",
      "securityContext",
    ];
    expect(Object.keys(pod.spec).filter((key) => !allowed.includes(key))).toEqual([]);
    expect(metadata.namespace).toBe(bench.namespace);
    expect(pod.metadata.labels[LABELS.deployment]).toBe("hostile");
    expect(Object.keys((spec.selector as { matchLabels: object }).matchLabels).toSorted()).toEqual(
      [LABELS.deployment, LABELS.revision].toSorted(),
    );
  });
});

describe("a hostile manifest is refused", () => {
  it.each(Object.entries(REFUSED))("%s", async (_, [manifest, says]) => {
    const answer = await sent(manifest);
    expect(typeof answer === "string" ? answer : "it was taken").toMatch(says);
  });
});
