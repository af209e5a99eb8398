import { afterAll, beforeAll, expect, inject, it } from "vitest";
import { topics } from "#runtime/contracts/topics.ts";
import { verifyHistory } from "#runtime/handover/history/read.ts";
import { ensureDeploymentTopics } from "#runtime/handover/ledger.ts";
import { OperatorBench } from "#tests/support/operator-bench.ts";
import { waitFor } from "#tests/support/wait.ts";

// A ledger that somebody deletes, and a service makes anew.

const bench = new OperatorBench(inject("cluster"));

beforeAll(async () => {
  await bench.open();
  await bench.startStream();
  expect(await bench.create(bench.spec("1.0.0"))).toBeUndefined();
  await bench.stable("1.0.0");
});
afterAll(() => bench.close());

it("a ledger that was deleted is written anew, with stable as the owner of everything", {
  timeout: 120_000,
}, async () => {
  const status = await bench.stable("1.0.0");
  const ledger = topics.ledger(bench.name);
  const admin = await bench.bus.admin();
  const live = async () =>
    [...(await admin.offsets(topics.signals(bench.name))).values()].reduce(
      (sum, { latest }) => sum + latest,
      0n,
    );
  await waitFor("decisions", async () => (await live()) > 100n);
  await admin.deleteTopics([ledger]);
  await waitFor("it to be gone", async () => !(await admin.topics()).includes(ledger));
  // As a service does that starts.
  await ensureDeploymentTopics(bench.bus, bench.name, { partitions: 2, replicas: 1 });
  await waitFor(
    "a hand-over in the new ledger",
    async () => (await verifyHistory(bench.bus, bench.name)).counts.handovers > 0,
    30_000,
    500,
  );
  const before = await live();
  await waitFor("decisions by it", async () => (await live()) > before + 300n, 60_000, 500);
  const { stable, assignments } = await bench.stable("1.0.0");
  expect(stable?.revision).toBe(status.stable?.revision);
  expect(assignments).toMatchObject([{ revision: stable?.revision }]);
});
