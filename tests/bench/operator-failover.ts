import { join } from "node:path";
import { OPERATOR_MEMORY } from "#charts/render.ts";
import type { KubeApi, KubeObject, Resource } from "#operators/controller-kit/api.ts";
import { type TestCluster, withCluster } from "#tests/support/fresh-cluster.ts";
import { OperatorBench } from "#tests/support/operator-bench.ts";
import { Subject } from "#tests/support/processes.ts";
import { withShippedOperator } from "#tests/support/shipped-operator.ts";
import { waitFor } from "#tests/support/wait.ts";
import { machine, percentile, table } from "./table.ts";

// How long nobody leads: two operators as their image has them, of which the one that leads is killed or asked to end, and a
// change of a spec that is made at that moment. Until the other one has written of it, against the real API server.

const NAME = "bench-failover";
const CRASHES = Number(process.env["CRASHES"] ?? 10);
const ENDS = Number(process.env["ENDS"] ?? 20);
const LEASES: Resource = { group: "coordination.k8s.io", version: "v1", plural: "leases", kind: "Lease" };

type Lease = KubeObject & { readonly spec?: { readonly holderIdentity?: string } };

console.log(machine());
await withShippedOperator((args) => withCluster(NAME, (cluster) => failOver(cluster, args)));

async function failOver(cluster: TestCluster, args: readonly string[]): Promise<void> {
  const bench = await new OperatorBench(cluster).open();
  await bench.stopOperator();
  const operators = new Map<string, Subject>();
  for (const name of ["a", "b"]) {
    const operator = new Subject(process.execPath, args, {
      KUBECONFIG: join(cluster.folder, "pki", "admin.kubeconfig"),
      KAFKA_BROKERS: `127.0.0.1:${cluster.ports.kafka}`,
      PROMETHEUS_URL: `http://127.0.0.1:${cluster.ports.prometheus}`,
      POD_NAMESPACE: bench.namespace,
      POD_NAME: name,
      WATCH_NAMESPACE: bench.namespace,
      HTTP_PORT: "0",
      LOG_LEVEL: "info",
      ...OPERATOR_MEMORY,
    });
    operators.set(name, operator);
    operator.start();
  }
  try {
    await bench.create(bench.plainSpec("1.0.0"));
    await bench.stable("1.0.0");
    let version = 1;
    const once = async (signal: "SIGKILL" | "SIGTERM"): Promise<number> => {
      const name = await leader(bench.api, bench.namespace);
      const operator = operators.get(name);
      // The other one has to be there: it waits, and says so.
      await waitFor("both to run", () => [...operators.values()].every(({ running }) => running));
      const began = performance.now();
      const ended = operator?.end(signal);
      const { metadata } = (await bench.update(bench.plainSpec(`${++version}.0.0`))) as KubeObject;
      await bench.until(
        `${version}.0.0 to be seen`,
        ({ observedGeneration = 0 }) => observedGeneration >= (metadata.generation ?? 0),
        60_000,
      );
      const took = performance.now() - began;
      const end = await ended;
      if (signal === "SIGTERM" && end?.code !== 0)
        throw new Error(`${name} ended with ${end?.code}:\n${operator?.output}`);
      operator?.start();
      await bench.stable(`${version}.0.0`);
      process.stderr.write(`\r${version - 1} of ${CRASHES + ENDS} `);
      return took / 1_000;
    };
    const rows: string[][] = [];
    for (const [what, signal, times] of [
      ["killed", "SIGKILL", CRASHES],
      ["asked to end", "SIGTERM", ENDS],
    ] as const) {
      const took: number[] = [];
      for (let i = 0; i < times; i++) took.push(await once(signal));
      const sorted = took.toSorted((a, b) => a - b);
      const show = (share: number) => percentile(sorted, share).toFixed(1);
      rows.push([what, String(times), show(0.5), show(1)]);
    }
    process.stderr.write("\n");
    table(
      "The operator that leads goes, and a spec changes: until the other one has written of it",
      ["it is", "times", "p50 s", "most s"],
      rows,
    );
  } finally {
    await Promise.all([...operators.values()].map((operator) => operator.end("SIGTERM")));
    await bench.close();
  }
}

function leader(api: KubeApi, namespace: string): Promise<string> {
  return waitFor("a leader", async () => {
    const lease = await api.get<Lease>(LEASES, namespace, "baton-operator");
    return lease.spec?.holderIdentity || undefined;
  });
}
