import { type TestCluster, withCluster } from "#tests/support/fresh-cluster.ts";
import { OperatorBench } from "#tests/support/operator-bench.ts";
import { machine, percentile, table } from "./table.ts";

// How quickly the operator takes a harmful release back; against the real API server, Kafka and pods on one machine, the
// operator in this process. With many objects: operator-scale.ts.

const NAME = "bench-operator";
const ROLLBACKS = Number(process.env["ROLLBACKS"] ?? 100);
const AT_ONCE = 2;

console.log(machine());
await withCluster(NAME, rollbacks);

async function rollbacks(cluster: TestCluster): Promise<void> {
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
