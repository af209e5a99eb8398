import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { KubeConfig } from "@kubernetes/client-node";
import { KubeApi } from "#operators/controller-kit/api.ts";
import { Reflector } from "#operators/controller-kit/reflector.ts";
import { type TestCluster, withCluster } from "#tests/support/fresh-cluster.ts";
import { runInNameOnly } from "#tests/support/kwok.ts";
import { OperatorBench } from "#tests/support/operator-bench.ts";
import { each as forEach } from "#tests/support/points.ts";
import { withShippedOperator } from "#tests/support/shipped-operator.ts";
import { argoRollouts, baton, type MakeContestant } from "./scale-contestants.ts";
import { machine, percentile, show, spread, table } from "./table.ts";

// Many objects that change at once, and one after another while the others are rolled out; against the real API server, scheduler and controllers; pods are KWOK's, which run in
// name only. The operator is a process of its own, as its image has it: what it takes is what the kernel and its own metrics say.

const NAME = "bench-scale";
const SIZES = (process.env["OBJECTS"] ?? "50,500").split(",").map(Number);
const CONTESTANTS = (process.env["CONTESTANTS"] ?? "baton,argo-rollouts").split(",");
const ROUNDS = Number(process.env["ROUNDS"] ?? 3);
const IDLE_SECONDS = Number(process.env["IDLE_SECONDS"] ?? 60);
/** Between two changes where they come one after another. */
const SPREAD_MS = Number(process.env["SPREAD_MS"] ?? 400);
/** For so long every object gets a new version five seconds after it has taken the last one. */
const CHURN_MINUTES = Number(process.env["CHURN_MINUTES"] ?? 0);

const progress = (line: string) => void process.stderr.write(`${line}\n`);

console.log(machine());
await withShippedOperator((args) => withCluster(NAME, (cluster) => everybody(cluster, args)));

async function everybody(cluster: TestCluster, args: readonly string[]): Promise<void> {
  const end = await runInNameOnly(cluster, progress);
  const config = new KubeConfig();
  config.loadFromFile(join(cluster.folder, "pki", "admin.kubeconfig"));
  const api = new KubeApi(config, { fieldManager: "bench" });
  try {
    for (const size of SIZES) {
      for (const name of CONTESTANTS) {
        const make = { baton: baton(args), "argo-rollouts": argoRollouts }[name];
        if (make === undefined) throw new Error(`CONTESTANTS: ${name} is neither baton nor argo-rollouts`);
        await manyAtOnce(cluster, api, make, size);
      }
    }
  } finally {
    api.close();
    await end();
  }
}

async function manyAtOnce(
  cluster: TestCluster,
  api: KubeApi,
  make: MakeContestant,
  size: number,
): Promise<void> {
  const bench = await new OperatorBench(cluster).open();
  await bench.stopOperator();
  const contestant = await make(cluster, api, bench);
  /** When a generation was seen, and the first write after it; by object and generation. */
  const changed = new Map<string, number>();
  const first = new Map<string, number>();
  const healthy = new Set<string>();
  const reflector = new Reflector({
    api,
    resource: contestant.resource,
    namespace: bench.namespace,
    onError: () => {},
    onChange: (object) => {
      const { name, generation } = object.metadata;
      const told = contestant.observed(object);
      if (!changed.has(`${name}/${generation}`)) changed.set(`${name}/${generation}`, performance.now());
      if (!first.has(`${name}/${told}`)) first.set(`${name}/${told}`, performance.now());
      if (contestant.isHealthy(object)) healthy.add(`${name}/${generation}`);
    },
  });
  const names = Array.from({ length: size }, (_, i) => `many-${i}`);
  /** Some at a time, as people and Argo CD would: not more connections than that. */
  const each = (work: (name: string) => Promise<void>) => forEach(names, 50, work);
  const all = async (generation: number) => {
    const deadline = Date.now() + 60_000 + size * 1_000;
    for (;;) {
      const missing = names.find((name) => !healthy.has(`${name}/${generation}`));
      if (missing === undefined) return;
      if (Date.now() > deadline)
        throw new Error(
          `${missing} is late: ${JSON.stringify(await api.get(contestant.resource, bench.namespace, missing))}\n${contestant.process.output}`,
        );
      await sleep(20);
    }
  };
  /** Releases without end: what the operator's memory comes to. */
  const churn = async (generation: number): Promise<string[][]> => {
    if (CHURN_MINUTES === 0) return [];
    const until = Date.now() + CHURN_MINUTES * 60_000;
    const memory: number[] = [];
    let releases = 0;
    const samples = setInterval(() => {
      void contestant.usage().then(({ rss }) => {
        memory.push(rss / 2 ** 20);
        progress(`minute ${memory.length}: ${memory.at(-1)?.toFixed(0)} MB, ${releases} releases`);
      });
    }, 60_000);
    await Promise.all(
      names.map(async (name) => {
        for (let n = generation + 1; Date.now() < until; n++, releases++) {
          await contestant.change(name, `${n}.0.0`);
          while (!healthy.has(`${name}/${n}`)) await sleep(200);
          await sleep(5_000);
        }
      }),
    );
    clearInterval(samples);
    const part = (from: number, to: number) =>
      percentile(
        memory
          .slice(Math.floor(memory.length * from), Math.ceil(memory.length * to))
          .toSorted((a, b) => a - b),
        0.5,
      ).toFixed(0);
    return [
      [`releases in ${CHURN_MINUTES} minutes without a rest`, String(releases)],
      [
        "memory in their first, second, third and last quarter (median), MB",
        [0, 1, 2, 3].map((n) => part(n / 4, (n + 1) / 4)).join(", "),
      ],
    ];
  };
  try {
    await reflector.start();
    contestant.process.start();
    await each((name) => contestant.create(name, "1.0.0"));
    await all(1);
    progress(`${size} objects are there`);
    const both = (list: readonly number[]) => {
      const sorted = list.toSorted((a, b) => a - b);
      return `${percentile(sorted, 0.5).toFixed(0)} and ${percentile(sorted, 0.99).toFixed(0)}`;
    };
    /** Every object takes a version. */
    const round = async (
      version: number,
      changes: (work: (name: string) => Promise<void>) => Promise<void>,
    ) => {
      // What is left of the round before comes to its end.
      await sleep(10_000);
      const before = await contestant.usage();
      const began = performance.now();
      const asked = new Map<string, number>();
      await changes(async (name) => {
        await contestant.change(name, `${version}.0.0`);
        asked.set(name, performance.now());
      });
      await all(version);
      const wall = (performance.now() - began) / 1_000;
      await sleep(3_000);
      const after = await contestant.usage();
      const since = (from: ReadonlyMap<string, number>, key: (name: string) => string) =>
        names.map(
          (name) => (first.get(`${name}/${version}`) ?? Number.NaN) - (from.get(key(name)) ?? Number.NaN),
        );
      const result = {
        first: since(asked, (name) => name),
        seen: since(changed, (name) => `${name}/${version}`),
        wall,
        cpu: ((after.cpu - before.cpu) * 1_000) / size,
        writes: (after.writes - before.writes) / size,
      };
      progress(
        `${size} objects, round ${version - 1}: ${wall.toFixed(1)} s, first writes ${both(result.seen)} ms`,
      );
      return result;
    };
    const runs: Awaited<ReturnType<typeof round>>[] = [];
    for (let i = 0; i < ROUNDS; i++) runs.push(await round(2 + i, each));
    const spreadOut = await round(2 + ROUNDS, async (work) => {
      await Promise.all(names.map((name, i) => sleep(i * SPREAD_MS).then(() => work(name))));
    });
    await sleep(10_000);
    const quiet = await contestant.usage();
    await sleep(IDLE_SECONDS * 1_000);
    const { writes, rss } = await contestant.usage();
    const churned = await churn(2 + ROUNDS);
    table(
      `${contestant.name}: ${size} objects with 2 replicas change at once, ${ROUNDS} times; steps 50 %, a pause of one second, 100 %`,
      ["figure", "value"],
      [
        ["change answered → first write, p50 and p99, ms", both(runs.flatMap(({ first }) => first))],
        [
          "change seen on a watch → first write seen on it, p50 and p99, ms",
          both(runs.flatMap(({ seen }) => seen)),
        ],
        [`the same where changes come ${SPREAD_MS} ms apart`, both(spreadOut.seen)],
        ["until all are promoted, s", show(spread(runs.map(({ wall }) => wall)), 1)],
        ["CPU an object, ms", show(spread(runs.map(({ cpu }) => cpu)))],
        ["API writes an object", show(spread(runs.map(({ writes }) => writes)), 1)],
        ["resident memory, MB", (rss / 2 ** 20).toFixed(0)],
        [`API writes in ${IDLE_SECONDS} s of nothing to do`, String(writes - quiet.writes)],
        ...churned,
      ],
    );
  } finally {
    await contestant.process.end("SIGTERM");
    await reflector.stop();
    await bench.close();
  }
}
