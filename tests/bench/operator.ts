import { rm } from "node:fs/promises";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { KubeConfig } from "@kubernetes/client-node";
import { downCluster, upCluster } from "#clusters/local/lifecycle.ts";
import { clusterFolder } from "#clusters/local/state.ts";
import { KubeApi } from "#operators/controller-kit/api.ts";
import { Reflector } from "#operators/controller-kit/reflector.ts";
import { type CustomObject, MODEL_DEPLOYMENTS } from "#operators/model-deployment/adapters/view.ts";
import type { ModelDeploymentStatus } from "#operators/model-deployment/api/status.ts";
import { installKinds } from "#tests/support/custom-resources.ts";
import { OperatorBench } from "#tests/support/operator-bench.ts";
import { machine, percentile, show, spread, table } from "./table.ts";

// How quickly the operator takes a harmful release back, and how quickly it begins with a change when many come at once;
// against the real API server, Kafka and pods on one machine, the operator in this process.

const NAME = "bench-operator";
const ROLLBACKS = Number(process.env["ROLLBACKS"] ?? 100);
const OBJECTS = Number(process.env["OBJECTS"] ?? 50);
const AT_ONCE = 2;

process.env["BATON_IMAGES"] = join(import.meta.dirname, "../support/images.yaml");
const wipe = async () => {
  await downCluster(NAME);
  await rm(clusterFolder(NAME), { recursive: true, force: true });
};

console.log(machine());
await wipe();
const state = await upCluster(NAME, () => {});
try {
  const config = new KubeConfig();
  config.loadFromFile(join(state.folder, "pki", "admin.kubeconfig"));
  await installKinds(config);
  const cluster = { name: NAME, folder: state.folder, ports: state.ports };
  await rollbacks(cluster);
  await manyAtOnce(cluster);
} finally {
  await wipe();
}

type Cluster = ConstructorParameters<typeof OperatorBench>[0];

async function rollbacks(cluster: Cluster): Promise<void> {
  const decided: number[] = [];
  const seen: number[] = [];
  const begun: number[] = [];
  const one = async () => {
    const bench = await new OperatorBench(cluster).open();
    try {
      const spec = (version: string) =>
        bench.spec(version, (draft) => {
          draft["strategy"].canary.steps[1].pause = {};
        });
      await bench.create(spec("1.0.0"));
      await bench.startStream();
      await bench.stable("1.0.0");
      for (let i = 0; i < ROLLBACKS / AT_ONCE; i++) {
        await bench.update(spec(`2.${i}.0`));
        await bench.until("the candidate", (status) => status.weight === 25 && status.currentStepIndex === 1);
        bench.errors = 0.5;
        const status = await bench.back();
        bench.errors = 0;
        const at = (text: string | undefined) => Date.parse(text ?? "");
        const [entry] = status.history ?? [];
        const decision = status.notes?.findLast(({ reason }) => reason === "AnalysisFailed");
        const failing = entry?.endedAt;
        decided.push(at(failing) - at(decision?.at));
        begun.push(at(failing) - at(entry?.startedAt));
        seen.push(Date.now() - at(decision?.at));
        process.stderr.write(`\r${decided.length} of ${ROLLBACKS} releases taken back `);
      }
      await bench.verify();
    } finally {
      await bench.close();
    }
  };
  await Promise.all(Array.from({ length: AT_ONCE }, one));
  process.stderr.write("\n");
  const row = (what: string, values: readonly number[]) => {
    const sorted = values.toSorted((a, b) => a - b);
    const text = (share: number) => Math.round(percentile(sorted, share)).toLocaleString("en-US");
    return [what, text(0.5), text(0.99), text(1)];
  };
  table(
    `Taking a harmful release back, ${ROLLBACKS} times, ${AT_ONCE} deployments at once, 100 messages/s each`,
    ["milliseconds", "p50", "p99", "most"],
    [
      row("from the breach as the check saw it to everything back at stable, as status says", decided),
      row("the same until somebody who reads status every 25 ms has seen it", seen),
      row("whole release, from the change of the spec to its end", begun),
    ],
  );
  console.log("\nThe history checker found nothing lost, doubled or misplaced.");
}

async function manyAtOnce(cluster: Cluster): Promise<void> {
  let writes = 0;
  const bench = await new OperatorBench(cluster).open();
  await bench.stopOperator();
  const counting = new KubeApi(bench.pods.config, {
    fieldManager: "baton",
    onAnswer: (method) => {
      if (method !== "GET") writes += 1;
    },
  });
  const watching = new KubeApi(bench.pods.config, { fieldManager: "bench" });
  /** When the first write after a generation was seen, by object and generation. */
  const first = new Map<string, number>();
  const healthy = new Set<string>();
  const reflector = new Reflector<CustomObject & { status?: ModelDeploymentStatus }>({
    api: watching,
    resource: MODEL_DEPLOYMENTS,
    onError: () => {},
    onChange: ({ metadata, status }) => {
      const key = `${metadata.name}/${status?.observedGeneration}`;
      if (!first.has(key)) first.set(key, performance.now());
      if (status?.phase === "Healthy" && status.observedGeneration === metadata.generation) healthy.add(key);
    },
  });
  try {
    await reflector.start();
    await bench.startOperator({ api: counting });
    // No pods: what is measured is the operator, not the machine's room for pods.
    const spec = (version: string) =>
      bench.plainSpec(version, (draft) => {
        draft["replicas"] = 0;
        delete draft["analysis"];
        draft["strategy"] = {
          canary: { steps: [{ setWeight: 50 }, { pause: { duration: "1s" } }, { setWeight: 100 }] },
        };
      });
    const names = Array.from({ length: OBJECTS }, (_, i) => `many-${i}`);
    await Promise.all(names.map((name) => bench.create(spec("1.0.0"), name)));
    const all = async (generation: number) => {
      while (names.some((name) => !healthy.has(`${name}/${generation}`))) await sleep(20);
    };
    await all(1);
    const runs = { first: [] as number[], wall: [] as number[], cpu: [] as number[], writes: [] as number[] };
    for (let round = 2; round < 7; round++) {
      writes = 0;
      const cpu = process.cpuUsage();
      const began = performance.now();
      const asked = new Map<string, number>();
      await Promise.all(
        names.map(async (name) => {
          await watching.merge(MODEL_DEPLOYMENTS, bench.namespace, name, { spec: spec(`${round}.0.0`) });
          asked.set(name, performance.now());
        }),
      );
      await all(round);
      runs.wall.push((performance.now() - began) / 1_000);
      const { user, system } = process.cpuUsage(cpu);
      runs.cpu.push((user + system) / 1_000 / OBJECTS);
      runs.writes.push(writes / OBJECTS);
      for (const name of names)
        runs.first.push((first.get(`${name}/${round}`) ?? Number.NaN) - (asked.get(name) ?? 0));
    }
    const sorted = runs.first.toSorted((a, b) => a - b);
    table(
      `${OBJECTS} objects change at once, 5 times; no pods, three steps with a pause of one second`,
      ["figure", "value"],
      [
        ["change → first write seen on a watch, p50, ms", percentile(sorted, 0.5).toFixed(0)],
        ["the same, p99, ms", percentile(sorted, 0.99).toFixed(0)],
        ["until all are promoted, s", show(spread(runs.wall), 1)],
        ["CPU an object, ms (with the benchmark's own requests and watch)", show(spread(runs.cpu))],
        ["API writes an object", show(spread(runs.writes), 1)],
        ["resident memory of the process, MB", Math.round(process.memoryUsage().rss / 2 ** 20).toString()],
      ],
    );
    // Events follow the status that they tell of.
    await sleep(5_000);
    writes = 0;
    await sleep(20_000);
    console.log(`\nWrites in 20 s of nothing to do: ${writes}.`);
  } finally {
    await reflector.stop();
    await bench.close();
    counting.close();
    watching.close();
  }
}
