import { downCluster, readStatus, upCluster } from "#clusters/local/lifecycle.ts";
import { clusterView } from "#clusters/local/view.ts";
import { wipeCluster } from "#tests/support/fresh-cluster.ts";
import { machine, show, spread, table } from "./table.ts";

// How long the local cluster takes to be ready, new and with its data kept, and what its processes hold.

const NAME = "bench";
const RUNS = 5;

console.log(machine());
const fresh: number[] = [];
const warm: number[] = [];
const memory = new Map<string, number[]>();
for (let run = 0; run < RUNS; run++) {
  await wipeCluster(NAME);
  let started = performance.now();
  const state = await upCluster(NAME, () => {});
  fresh.push((performance.now() - started) / 1_000);
  await downCluster(NAME);
  started = performance.now();
  await upCluster(NAME, () => {});
  warm.push((performance.now() - started) / 1_000);
  const view = await clusterView(state);
  for (const { name, memoryMb } of [...view.processes, { name: "total", memoryMb: view.memoryMb }]) {
    memory.set(name, [...(memory.get(name) ?? []), memoryMb]);
  }
  if ((await readStatus(state.folder))?.phase !== "ready") throw new Error("the cluster is not ready");
}
await wipeCluster(NAME);
table(
  `Start of the local cluster, tools built, ${RUNS} runs: median [least–most]`,
  ["start", "seconds to ready"],
  [
    ["new (certificates, disks formatted)", show(spread(fresh), 1)],
    ["with data kept", show(spread(warm), 1)],
  ],
);
table(
  "Resident memory just after the start",
  ["process", "MB"],
  [...memory].map(([name, values]) => [name, show(spread(values))]),
);
