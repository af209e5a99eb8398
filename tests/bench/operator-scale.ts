import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { KubeConfig } from "@kubernetes/client-node";
import { ensureToolchain, toolPath } from "#clusters/local/toolchain/index.ts";
import { KWOK } from "#clusters/local/toolchain/tools.ts";
import { KubeApi, type KubeObject, type Resource } from "#operators/controller-kit/api.ts";
import { Reflector } from "#operators/controller-kit/reflector.ts";
import { type CustomObject, MODEL_DEPLOYMENTS } from "#operators/model-deployment/adapters/view.ts";
import type { ModelDeploymentStatus } from "#operators/model-deployment/api/status.ts";
import { type TestCluster, withCluster } from "#tests/support/fresh-cluster.ts";
import { OperatorBench } from "#tests/support/operator-bench.ts";
import { freePort, Subject } from "#tests/support/processes.ts";
import { waitFor } from "#tests/support/wait.ts";
import { machine, percentile, show, spread, table } from "./table.ts";

// Many objects that change at once, against the real API server, scheduler and controllers; pods are KWOK's, which run in
// name only. The operator is a process of its own: what it takes is what the kernel and its own metrics say.

const NAME = "bench-scale";
const NODES: Resource = { group: "", version: "v1", plural: "nodes", kind: "Node" };
const SIZES = (process.env["OBJECTS"] ?? "50,500").split(",").map(Number);
const ROUNDS = Number(process.env["ROUNDS"] ?? 3);
const IDLE_SECONDS = Number(process.env["IDLE_SECONDS"] ?? 60);

const progress = (line: string) => void process.stderr.write(`${line}\n`);

console.log(machine());
const toolchain = await ensureToolchain({ progress, more: [KWOK] });
await withCluster(NAME, async (cluster) => {
  const kubeconfig = join(cluster.folder, "pki", "admin.kubeconfig");
  const kwok = new Subject(toolPath(toolchain, "kwok"), [
    `--kubeconfig=${kubeconfig}`,
    "--manage-all-nodes=false",
    "--manage-nodes-with-annotation-selector=kwok.x-k8s.io/node=fake",
    `--config=${join(import.meta.dirname, "kwok-stages.yaml")}`,
    // Without a sign of life the node is taken for dead after 40 s, and its pods with it.
    "--node-lease-duration-seconds=40",
  ]);
  const config = new KubeConfig();
  config.loadFromFile(kubeconfig);
  const api = new KubeApi(config, { fieldManager: "bench" });
  try {
    await fakeNode(api, kwok);
    for (const size of SIZES) await manyAtOnce(cluster, api, size);
  } finally {
    api.close();
    await kwok.end("SIGTERM");
  }
});

/** The only node that takes pods is KWOK's. */
async function fakeNode(api: KubeApi, kwok: Subject): Promise<void> {
  for (const node of await api.listAll(NODES))
    await api.merge(NODES, undefined, node.metadata.name, { spec: { unschedulable: true } });
  const annotations = { "kwok.x-k8s.io/node": "fake" };
  await api.create(NODES, { metadata: { name: "kwok", annotations, labels: { type: "kwok" } } });
  kwok.start();
  type Node = KubeObject & {
    readonly status?: { readonly conditions?: readonly { readonly type: string; readonly status: string }[] };
  };
  await waitFor(
    "KWOK's node",
    async () => {
      const { status } = await api.get<Node>(NODES, undefined, "kwok");
      return status?.conditions?.some(({ type, status: is }) => type === "Ready" && is === "True");
    },
    30_000,
  ).catch((error: unknown) => {
    throw new Error(`${String(error)}\n${kwok.output}`);
  });
}

/** Sums of what the operator's own metrics say. */
async function measured(port: number): Promise<{ writes: number; cpu: number; rss: number }> {
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
    writes: sum(
      "baton_operator_api_requests_total",
      (labels) => !labels.includes('method="GET"') && !labels.includes('resource="leases"'),
    ),
    cpu: sum("process_cpu_seconds_total"),
    rss: sum("process_resident_memory_bytes"),
  };
}

async function manyAtOnce(cluster: TestCluster, api: KubeApi, size: number): Promise<void> {
  const bench = await new OperatorBench(cluster).open();
  await bench.stopOperator();
  /** When the first write after a generation was seen, by object and generation. */
  const first = new Map<string, number>();
  const healthy = new Set<string>();
  const reflector = new Reflector<CustomObject & { status?: ModelDeploymentStatus }>({
    api,
    resource: MODEL_DEPLOYMENTS,
    namespace: bench.namespace,
    onError: () => {},
    onChange: ({ metadata, status }) => {
      const key = `${metadata.name}/${status?.observedGeneration}`;
      if (!first.has(key)) first.set(key, performance.now());
      if (status?.phase === "Healthy" && status.observedGeneration === metadata.generation) healthy.add(key);
    },
  });
  const port = await freePort();
  const operator = new Subject(process.execPath, ["operators/model-deployment/main.ts"], {
    KUBECONFIG: join(cluster.folder, "pki", "admin.kubeconfig"),
    KAFKA_BROKERS: `127.0.0.1:${cluster.ports.kafka}`,
    PROMETHEUS_URL: `http://127.0.0.1:${cluster.ports.prometheus}`,
    POD_NAMESPACE: bench.namespace,
    WATCH_NAMESPACE: bench.namespace,
    HTTP_PORT: String(port),
    LOG_LEVEL: "warn",
  });
  const spec = (version: string) =>
    bench.plainSpec(version, (draft) => {
      draft["replicas"] = 2;
      delete draft["analysis"];
      draft["strategy"] = {
        canary: { steps: [{ setWeight: 50 }, { pause: { duration: "1s" } }, { setWeight: 100 }] },
      };
    });
  const names = Array.from({ length: size }, (_, i) => `many-${i}`);
  /** Some at a time, as people and Argo CD would: not more connections than that. */
  const each = async (work: (name: string) => Promise<unknown>) => {
    const left = [...names];
    const one = async () => {
      for (let name = left.shift(); name !== undefined; name = left.shift()) await work(name);
    };
    await Promise.all(Array.from({ length: 50 }, one));
  };
  const all = async (generation: number) => {
    const deadline = Date.now() + 60_000 + size * 1_000;
    for (;;) {
      const missing = names.find((name) => !healthy.has(`${name}/${generation}`));
      if (missing === undefined) return;
      if (Date.now() > deadline)
        throw new Error(
          `${missing} is late: ${JSON.stringify(await bench.status(missing))}\n${operator.output}`,
        );
      await sleep(20);
    }
  };
  try {
    await reflector.start();
    operator.start();
    await each((name) => bench.create(spec("1.0.0"), name));
    await all(1);
    progress(`${size} objects are there`);
    const runs = { first: [] as number[], wall: [] as number[], cpu: [] as number[], writes: [] as number[] };
    for (let round = 2; round < 2 + ROUNDS; round++) {
      // What is left of the round before comes to its end.
      await sleep(10_000);
      const before = await measured(port);
      const began = performance.now();
      const asked = new Map<string, number>();
      await each(async (name) => {
        await api.merge(MODEL_DEPLOYMENTS, bench.namespace, name, { spec: spec(`${round}.0.0`) });
        asked.set(name, performance.now());
      });
      await all(round);
      runs.wall.push((performance.now() - began) / 1_000);
      await sleep(3_000);
      const after = await measured(port);
      runs.cpu.push(((after.cpu - before.cpu) * 1_000) / size);
      runs.writes.push((after.writes - before.writes) / size);
      for (const name of names)
        runs.first.push((first.get(`${name}/${round}`) ?? Number.NaN) - (asked.get(name) ?? 0));
      progress(`${size} objects, round ${round - 1} of ${ROUNDS}: ${runs.wall.at(-1)?.toFixed(1)} s`);
    }
    await sleep(10_000);
    const quiet = await measured(port);
    await sleep(IDLE_SECONDS * 1_000);
    const { writes, rss } = await measured(port);
    const sorted = runs.first.toSorted((a, b) => a - b);
    table(
      `${size} objects with 2 replicas change at once, ${ROUNDS} times; steps 50 %, a pause of one second, 100 %`,
      ["figure", "value"],
      [
        ["change → first write seen on a watch, p50, ms", percentile(sorted, 0.5).toFixed(0)],
        ["the same, p99, ms", percentile(sorted, 0.99).toFixed(0)],
        ["until all are promoted, s", show(spread(runs.wall), 1)],
        ["CPU of the operator an object, ms", show(spread(runs.cpu))],
        ["API writes an object", show(spread(runs.writes), 1)],
        ["resident memory of the operator, MB", (rss / 2 ** 20).toFixed(0)],
        [`API writes in ${IDLE_SECONDS} s of nothing to do`, String(writes - quiet.writes)],
      ],
    );
  } finally {
    await operator.end("SIGTERM");
    await reflector.stop();
    await bench.close();
  }
}
