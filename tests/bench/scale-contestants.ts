import { execFile } from "node:child_process";
import { dirname, join } from "node:path";
import { promisify } from "node:util";
import { OPERATOR_MEMORY } from "#charts/render.ts";
import { freePort } from "#clusters/local/ports.ts";
import { ensureToolchain, toolPath } from "#clusters/local/toolchain/index.ts";
import { ARGO_ROLLOUTS } from "#clusters/local/toolchain/tools.ts";
import type { KubeApi, KubeObject, Resource } from "#operators/controller-kit/api.ts";
import { MODEL_DEPLOYMENTS } from "#operators/model-deployment/adapters/view.ts";
import type { TestCluster } from "#tests/support/fresh-cluster.ts";
import { type OperatorBench, SHELL } from "#tests/support/operator-bench.ts";
import { Subject } from "#tests/support/processes.ts";

// Who takes part in the benchmark of many releases at once: the operator, and Argo Rollouts with the same steps, pods and
// API server.

interface Usage {
  /** Writes to the API server since it began, leases apart. */
  readonly writes: number;
  /** Seconds of processor since it began. */
  readonly cpu: number;
  /** Resident bytes. */
  readonly rss: number;
}

export interface Contestant {
  readonly name: string;
  readonly resource: Resource;
  readonly process: Subject;
  create(name: string, version: string): Promise<void>;
  /** Asks for the next version of an object. */
  change(name: string, version: string): Promise<void>;
  /** Of which generation an object's status tells; undefined before it tells of any. */
  observed(object: KubeObject): number | undefined;
  isHealthy(object: KubeObject): boolean;
  usage(): Promise<Usage>;
}

export type MakeContestant = (
  cluster: TestCluster,
  api: KubeApi,
  bench: OperatorBench,
) => Promise<Contestant>;

type WithStatus = KubeObject & {
  readonly status?: { readonly phase?: string; readonly observedGeneration?: number | string };
};

const observed = ({ status }: WithStatus) =>
  status?.observedGeneration === undefined ? undefined : Number(status.observedGeneration);
const isHealthy = (object: WithStatus) =>
  object.status?.phase === "Healthy" && observed(object) === object.metadata.generation;
const kubeconfigOf = ({ folder }: TestCluster) => join(folder, "pki", "admin.kubeconfig");

/** The operator as its image has it, by what Node is run with. */
export const baton =
  (args: readonly string[]): MakeContestant =>
  async (cluster, api, bench) => {
    const port = await freePort();
    const spec = (version: string) =>
      bench.plainSpec(version, (draft) => {
        draft["replicas"] = 2;
        delete draft["analysis"];
        draft["strategy"] = {
          canary: { steps: [{ setWeight: 50 }, { pause: { duration: "1s" } }, { setWeight: 100 }] },
        };
      });
    return {
      name: "Baton",
      resource: MODEL_DEPLOYMENTS,
      process: new Subject(process.execPath, args, {
        KUBECONFIG: kubeconfigOf(cluster),
        KAFKA_BROKERS: `127.0.0.1:${cluster.ports.kafka}`,
        PROMETHEUS_URL: `http://127.0.0.1:${cluster.ports.prometheus}`,
        POD_NAMESPACE: bench.namespace,
        WATCH_NAMESPACE: bench.namespace,
        HTTP_PORT: String(port),
        LOG_LEVEL: "warn",
        ...OPERATOR_MEMORY,
      }),
      create: async (name, version) => void (await bench.create(spec(version), name)),
      change: async (name, version) =>
        void (await api.merge(MODEL_DEPLOYMENTS, bench.namespace, name, { spec: spec(version) })),
      observed,
      isHealthy,
      usage: () =>
        usage(
          port,
          "baton_operator_api_requests_total",
          (labels) => !labels.includes('method="GET"') && !labels.includes('resource="leases"'),
        ),
    };
  };

const ROLLOUTS: Resource = {
  group: "argoproj.io",
  version: "v1alpha1",
  plural: "rollouts",
  kind: "Rollout",
};

/** Argo Rollouts' controller with its own settings; alone, so without an election. */
export const argoRollouts: MakeContestant = async (cluster, api, { namespace }) => {
  const kubeconfig = kubeconfigOf(cluster);
  const toolchain = await ensureToolchain({
    progress: (line) => process.stderr.write(`${line}\n`),
    more: [ARGO_ROLLOUTS],
  });
  const controller = toolPath(toolchain, ARGO_ROLLOUTS.name);
  const kinds = ["--kubeconfig", kubeconfig, "apply", "--server-side", "-k"];
  await promisify(execFile)(toolPath(toolchain, "kubectl"), [...kinds, join(dirname(controller), "crds")]);
  const port = await freePort();
  const pods = (version: string) => ({
    terminationGracePeriodSeconds: 1,
    // Its controller adds `resources` where it is not there, by a write to the spec.
    containers: [{ ...SHELL, env: [{ name: "VERSION", value: version }], resources: {} }],
  });
  return {
    name: "Argo Rollouts",
    resource: ROLLOUTS,
    process: new Subject(controller, [
      `--kubeconfig=${kubeconfig}`,
      `--namespace=${namespace}`,
      "--namespaced",
      "--leader-elect=false",
      "--loglevel=warn",
      `--metricsport=${port}`,
      `--healthzPort=${await freePort()}`,
    ]),
    create: async (name, version) => {
      const labels = { rollout: name };
      await api.apply<KubeObject & { readonly spec: object }>(ROLLOUTS, {
        metadata: { name, namespace },
        spec: {
          replicas: 2,
          selector: { matchLabels: labels },
          template: { metadata: { labels }, spec: pods(version) },
          strategy: {
            canary: { steps: [{ setWeight: 50 }, { pause: { duration: "1s" } }, { setWeight: 100 }] },
          },
        },
      });
    },
    change: async (name, version) => {
      await api.merge(ROLLOUTS, namespace, name, { spec: { template: { spec: pods(version) } } });
    },
    observed,
    isHealthy,
    usage: () =>
      usage(
        port,
        "controller_clientset_k8s_request_total",
        (labels) => !/verb="(Get|List|Watch)"/i.test(labels),
      ),
  };
};

/** What a process says of itself on its metrics page. */
async function usage(port: number, requests: string, isWrite: (labels: string) => boolean): Promise<Usage> {
  const text = await (await fetch(`http://127.0.0.1:${port}/metrics`)).text();
  const sum = (name: string, wanted: (labels: string) => boolean = () => true) =>
    text
      .split("\n")
      .flatMap((line) => {
        const [, found = "", labels = "", value = ""] = /^(\w+)(\{.*\})? (.+)$/.exec(line) ?? [];
        return found === name && wanted(labels) ? [Number(value)] : [];
      })
      .reduce((all, value) => all + value, 0);
  return {
    writes: sum(requests, isWrite),
    cpu: sum("process_cpu_seconds_total"),
    rss: sum("process_resident_memory_bytes"),
  };
}
