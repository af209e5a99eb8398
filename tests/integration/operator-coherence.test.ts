import { afterAll, beforeAll, describe, expect, inject, it } from "vitest";
import type { DecisionWorker } from "#runtime/handover/worker.ts";
import { echoWorker } from "#tests/support/handover.ts";
import { OperatorBench } from "#tests/support/operator-bench.ts";

// One server of eight with something else on it ended Knight Capital in 2012: a worker that joins a revision with another
// model than was released.

let bench: OperatorBench;

beforeAll(async () => {
  bench = await new OperatorBench(inject("cluster")).open();
  expect(await bench.create(bench.spec("1.0.0"))).toBeUndefined();
  await bench.startStream();
  await bench.stable("1.0.0");
});
afterAll(() => bench.close());

const owns = (revision: string) => async () =>
  (await bench.status()).assignments?.some((entry) => entry.revision === revision) === true;

/** A worker of the revision, in this process, that has loaded another model. */
async function impostor(revision: string): Promise<DecisionWorker> {
  const { bus, name: deployment, topic } = bench;
  const worker = echoWorker({ bus, deployment, revision, topics: [topic], modelDigest: "sha256:other" });
  await worker.start();
  return worker;
}

describe("a replica that has loaded another model", { timeout: 120_000 }, () => {
  it("keeps its revision from getting anything for as long as it is there", async () => {
    await bench.update(
      bench.spec("2.0.0", (draft) => {
        // Nothing moves before the impostor has come, however long that takes.
        draft["strategy"].canary.steps.unshift({ pause: {} });
      }),
    );
    const { candidate } = await bench.until("a candidate", (status) => status.candidate);
    const revision = candidate?.revision ?? "";
    const worker = await impostor(revision);
    const held = await bench.until("the hold", ({ message }) =>
      message?.includes("has loaded the model sha256:other"),
    );
    expect(held.candidate).toMatchObject({ available: 1, coherent: false });
    expect(await owns(revision)()).toBe(false);
    await worker.stop();
    await bench.until("the pause", ({ phase, candidate }) => phase === "Paused" && candidate?.coherent);
    expect(await bench.baton("promote", bench.name)).toMatchObject({ code: 0 });
    const { stable } = await bench.stable("2.0.0");
    expect(stable).toMatchObject({ coherent: true });
  });

  it("has its revision taken back at once where that decides already", async () => {
    await bench.update(
      bench.spec("3.0.0", (draft) => {
        draft["strategy"].canary.steps[1].pause = {};
      }),
    );
    const { candidate } = await bench.until("the pause", ({ phase }) => phase === "Paused");
    const revision = candidate?.revision ?? "";
    expect(await owns(revision)()).toBe(true);
    const worker = await impostor(revision);
    const status = await bench.back();
    expect(status.history?.[0]).toMatchObject({
      version: "3.0.0",
      completionStatus: "RolledBack",
      reason: "Incoherent",
    });
    expect(status.stable?.version).toBe("2.0.0");
    await worker.stop();
    await bench.verify();
  });
});
