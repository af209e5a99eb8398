import { Duration, Size } from "cdk8s";
import {
  Capability,
  Cpu,
  Deployment,
  DeploymentStrategy,
  Env,
  EnvFieldPaths,
  EnvValue,
  type IConfigMap,
  ImagePullPolicy,
  type IServiceAccount,
  LabelSelector,
  Pods,
  Probe,
  SeccompProfileType,
  Secret,
  ServiceAccount,
  Topology,
  Volume,
} from "cdk8s-plus-28";
import type { Construct } from "constructs";
import { addBudget } from "./budget.ts";
import { labelsOf, NAME } from "./labels.ts";
import type { Resources } from "./values.ts";
import { inWave, type Wave } from "./waves.ts";

export interface ServiceProps {
  readonly name: string;
  readonly image: string;
  readonly replicas: number;
  /** Stops the old pod before the new one starts: for a service of which there may be only one. */
  readonly single?: boolean;
  readonly env: Readonly<Record<string, string>>;
  /** For what talks to the API server: the account's token, and its own name in POD_NAME and POD_NAMESPACE. */
  readonly usesApi?: boolean;
  /** A Secret whose files it reads, and where. */
  readonly secretFiles?: { readonly secret: string; readonly at: string };
  /** Somewhere to write, which is gone with the pod. */
  readonly scratch?: boolean;
  readonly endpoints: IConfigMap;
  readonly logLevel: string;
  readonly resources: Resources;
  readonly wave: Wave;
}

const HTTP_PORT = 8080;
/** A user that exists in no image, so that no file is its by accident. */
export const USER = 10_001;

/** A service of ours as a Deployment: probes, limits, and as few rights as a pod can have. */
export function addService(scope: Construct, props: ServiceProps): Deployment {
  const labels = labelsOf(props.name);
  const annotations = inWave(props.wave);
  const { cpuMillis, memoryMebibytes } = props.resources;
  const account = new ServiceAccount(scope, `${props.name}-account`, {
    metadata: { name: props.name, labels, annotations },
    automountToken: props.usesApi ?? false,
  });
  const deployment = new Deployment(scope, props.name, {
    metadata: { name: props.name, labels, annotations },
    podMetadata: {
      labels,
      annotations: {
        "prometheus.io/scrape": "true",
        "prometheus.io/port": String(HTTP_PORT),
        "prometheus.io/path": "/metrics",
      },
    },
    replicas: props.replicas,
    strategy: props.single ? DeploymentStrategy.recreate() : DeploymentStrategy.rollingUpdate(),
    // The library's own types do not agree with each other under exactOptionalPropertyTypes.
    serviceAccount: account as IServiceAccount,
    automountServiceAccountToken: props.usesApi ?? false,
    select: false,
    terminationGracePeriod: Duration.seconds(30),
    securityContext: { ensureNonRoot: true, user: USER, group: USER, fsGroup: USER },
    containers: [
      {
        name: "main",
        image: props.image,
        imagePullPolicy: ImagePullPolicy.IF_NOT_PRESENT,
        ports: [{ name: "http", number: HTTP_PORT }],
        envFrom: [Env.fromConfigMap(props.endpoints)],
        envVariables: {
          // Pods of the local cluster share one network, each with an address of its own.
          HTTP_HOST: EnvValue.fromFieldRef(EnvFieldPaths.POD_IP),
          HTTP_PORT: EnvValue.fromValue(String(HTTP_PORT)),
          LOG_LEVEL: EnvValue.fromValue(props.logLevel),
          ...(props.usesApi
            ? {
                POD_NAME: EnvValue.fromFieldRef(EnvFieldPaths.POD_NAME),
                POD_NAMESPACE: EnvValue.fromFieldRef(EnvFieldPaths.POD_NAMESPACE),
              }
            : {}),
          ...Object.fromEntries(
            Object.entries(props.env).map(([key, value]) => [key, EnvValue.fromValue(value)]),
          ),
        },
        startup: Probe.fromHttpGet("/readyz", {
          port: HTTP_PORT,
          periodSeconds: Duration.seconds(1),
          failureThreshold: 60,
          timeoutSeconds: Duration.seconds(3),
        }),
        readiness: Probe.fromHttpGet("/readyz", {
          port: HTTP_PORT,
          periodSeconds: Duration.seconds(5),
          failureThreshold: 2,
          timeoutSeconds: Duration.seconds(3),
        }),
        liveness: Probe.fromHttpGet("/livez", {
          port: HTTP_PORT,
          periodSeconds: Duration.seconds(10),
          failureThreshold: 3,
          timeoutSeconds: Duration.seconds(3),
        }),
        resources: {
          cpu: { request: Cpu.millis(cpuMillis.request), limit: Cpu.millis(cpuMillis.limit) },
          memory: {
            request: Size.mebibytes(memoryMebibytes.request),
            limit: Size.mebibytes(memoryMebibytes.limit),
          },
          ephemeralStorage: { request: Size.gibibytes(1), limit: Size.gibibytes(1) },
        },
        securityContext: {
          ensureNonRoot: true,
          user: USER,
          group: USER,
          readOnlyRootFilesystem: true,
          allowPrivilegeEscalation: false,
          privileged: false,
          capabilities: { drop: [Capability.ALL] },
          seccompProfile: { type: SeccompProfileType.RUNTIME_DEFAULT },
        },
      },
    ],
  });
  const [container] = deployment.containers;
  if (props.secretFiles !== undefined) {
    const { secret, at } = props.secretFiles;
    const files = Secret.fromSecretName(scope, `${props.name}-secret`, secret);
    container?.mount(
      at,
      Volume.fromSecret(scope, `${props.name}-files`, files, { name: "files", defaultMode: 0o440 }),
      {
        readOnly: true,
      },
    );
  }
  if (props.scratch === true) {
    const sizeLimit = Size.mebibytes(512);
    container?.mount("/tmp", Volume.fromEmptyDir(scope, `${props.name}-scratch`, "scratch", { sizeLimit }));
  }
  if (props.replicas > 1) {
    const pods = Pods.select(scope, `${props.name}-pods`, { labels: { [NAME]: props.name } });
    deployment.scheduling.separate(pods, { topology: Topology.HOSTNAME, weight: 100 });
    addBudget(scope, props.name, annotations);
  }
  // Not the library's own label: it would change with the name of a construct, and a selector cannot change.
  deployment.select(LabelSelector.of({ labels: { [NAME]: props.name } }));
  return deployment;
}
