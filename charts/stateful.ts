import { createHash } from "node:crypto";
import { ApiObject, type Chart } from "cdk8s";
import { addBudget } from "./budget.ts";
import { labelsOf, NAME } from "./labels.ts";
import { USER } from "./service.ts";
import type { Resources } from "./values.ts";
import { inWave } from "./waves.ts";

/** The most of a server's data that stay on the node. */
const ON_NODE_GIBIBYTES = 3;

export interface Port {
  readonly name: string;
  readonly number: number;
}

export interface StatefulProps {
  readonly name: string;
  readonly image: string;
  readonly command: readonly string[];
  /** Runs before, with the same image, files and disk. */
  readonly prepare?: readonly string[];
  readonly replicas?: number;
  readonly ports: readonly Port[];
  /** What tells that it answers, and that it lives: paths on the first port. Without: that this takes connections. */
  readonly paths?: { readonly ready: string; readonly live: string };
  readonly files: Readonly<Record<string, string>>;
  readonly filesAt: string;
  readonly dataAt: string;
  /** A disk of its own for each; the node's, and gone with the pod, when absent. */
  readonly storageGibibytes: number | undefined;
  readonly resources: Resources;
  readonly usesApi?: boolean;
  readonly env?: readonly object[];
  readonly graceSeconds?: number;
}

/** A server of others with its configuration and disk, under the same restrictions as our own services. */
export function addStateful(scope: Chart, props: StatefulProps): void {
  const { name, image, replicas = 1, ports, files, filesAt, dataAt, storageGibibytes, resources } = props;
  const labels = labelsOf(name);
  const selector = { [NAME]: name };
  const metadata = (more: object = {}) => ({ name, labels, annotations: inWave("platform"), ...more });
  const [first] = ports;
  const probe = (which: "ready" | "live", timing: object) => ({
    ...(props.paths === undefined
      ? { tcpSocket: { port: first?.name } }
      : { httpGet: { path: props.paths[which], port: first?.name } }),
    timeoutSeconds: 3,
    ...timing,
  });
  const container = {
    image,
    imagePullPolicy: "IfNotPresent",
    env: props.env ?? [],
    resources: amounts(resources, storageGibibytes === undefined ? ON_NODE_GIBIBYTES : 0),
    securityContext: {
      runAsNonRoot: true,
      readOnlyRootFilesystem: true,
      allowPrivilegeEscalation: false,
      privileged: false,
      capabilities: { drop: ["ALL"] },
      seccompProfile: { type: "RuntimeDefault" },
    },
    volumeMounts: [
      { name: "files", mountPath: filesAt, readOnly: true },
      { name: "data", mountPath: dataAt },
      { name: "scratch", mountPath: "/tmp" },
    ],
  };
  new ApiObject(scope, `${name}-account`, {
    apiVersion: "v1",
    kind: "ServiceAccount",
    metadata: metadata(),
    automountServiceAccountToken: props.usesApi ?? false,
  });
  new ApiObject(scope, `${name}-files`, {
    apiVersion: "v1",
    kind: "ConfigMap",
    metadata: metadata(),
    data: files,
  });
  new ApiObject(scope, `${name}-service`, {
    apiVersion: "v1",
    kind: "Service",
    metadata: metadata(),
    spec: {
      clusterIP: "None",
      // A broker is asked for by its name before it is ready.
      publishNotReadyAddresses: true,
      selector,
      ports: ports.map((port) => ({ name: port.name, port: port.number, targetPort: port.name })),
    },
  });
  if (replicas > 1) addBudget(scope, name, inWave("platform"));
  new ApiObject(scope, name, {
    apiVersion: "apps/v1",
    kind: "StatefulSet",
    metadata: metadata(),
    spec: {
      replicas,
      serviceName: name,
      selector: { matchLabels: selector },
      podManagementPolicy: "Parallel",
      template: {
        metadata: {
          labels,
          // New files make new pods: what they mount is read once, when they begin.
          annotations: { "baton.dev/files": digestOf(files) },
        },
        spec: {
          serviceAccountName: name,
          automountServiceAccountToken: props.usesApi ?? false,
          enableServiceLinks: false,
          terminationGracePeriodSeconds: props.graceSeconds ?? 30,
          securityContext: {
            runAsNonRoot: true,
            runAsUser: USER,
            runAsGroup: USER,
            fsGroup: USER,
            fsGroupChangePolicy: "OnRootMismatch",
            seccompProfile: { type: "RuntimeDefault" },
          },
          ...(replicas > 1 ? { affinity: apart(selector) } : {}),
          ...(props.prepare === undefined
            ? {}
            : { initContainers: [{ ...container, name: "prepare", command: props.prepare }] }),
          containers: [
            {
              ...container,
              name: "main",
              command: props.command,
              ports: ports.map((port) => ({ name: port.name, containerPort: port.number })),
              startupProbe: probe("ready", { periodSeconds: 2, failureThreshold: 60 }),
              readinessProbe: probe("ready", { periodSeconds: 5, failureThreshold: 3 }),
              // One that takes no connections may be reading its disk: to kill it would begin that anew.
              ...(props.paths === undefined
                ? {}
                : { livenessProbe: probe("live", { periodSeconds: 10, failureThreshold: 6 }) }),
            },
          ],
          volumes: [
            { name: "files", configMap: { name } },
            { name: "scratch", emptyDir: { sizeLimit: "256Mi" } },
            ...(storageGibibytes === undefined
              ? [{ name: "data", emptyDir: { sizeLimit: `${ON_NODE_GIBIBYTES}Gi` } }]
              : []),
          ],
        },
      },
      ...(storageGibibytes === undefined
        ? {}
        : {
            volumeClaimTemplates: [
              {
                metadata: { name: "data" },
                spec: {
                  accessModes: ["ReadWriteOnce"],
                  resources: { requests: { storage: `${storageGibibytes}Gi` } },
                },
              },
            ],
          }),
    },
  });
}

/** On different nodes, where there are several. */
function apart(matchLabels: object): object {
  const podAffinityTerm = { labelSelector: { matchLabels }, topologyKey: "kubernetes.io/hostname" };
  return {
    podAntiAffinity: { preferredDuringSchedulingIgnoredDuringExecution: [{ weight: 100, podAffinityTerm }] },
  };
}

/** CPU, memory and what may be written to the node as Kubernetes writes them. */
function amounts({ cpuMillis, memoryMebibytes }: Resources, dataGibibytes: number): object {
  const of = (which: "request" | "limit") => ({
    cpu: `${cpuMillis[which]}m`,
    memory: `${memoryMebibytes[which]}Mi`,
    "ephemeral-storage": which === "request" ? "64Mi" : `${dataGibibytes + 1}Gi`,
  });
  return { requests: of("request"), limits: of("limit") };
}

function digestOf(files: Readonly<Record<string, string>>): string {
  return createHash("sha256").update(JSON.stringify(files)).digest("hex").slice(0, 16);
}
