import { afterAll, beforeAll, describe, expect, inject, it } from "vitest";
import { DEPLOYMENTS, type Deployment } from "#operators/model-deployment/adapters/deployment.ts";
import { OperatorBench } from "#tests/support/operator-bench.ts";
import { waitFor } from "#tests/support/wait.ts";

// Blue/green: the preview computes in shadow, everything moves at once, and blue stays warm for a return.

const bench = new OperatorBench(inject("cluster"));
const spec = (version: string, more: object = {}) =>
  bench.spec(version, (draft) => {
    draft["strategy"] = {
      blueGreen: { autoPromotionEnabled: true, autoPromotionSeconds: 2, scaleDownDelaySeconds: 60, ...more },
    };
    draft["rollbackWindow"] = { revisions: 2 };
  });

beforeAll(async () => {
  await bench.open();
  await bench.startStream();
  expect(await bench.create(spec("1.0.0"))).toBeUndefined();
  await bench.stable("1.0.0");
});
afterAll(() => bench.close());

const replicasOf = async (revision: string) => {
  const found = await bench.api.get<Deployment>(DEPLOYMENTS, bench.namespace, `${bench.name}-${revision}`);
  return found.status?.availableReplicas ?? 0;
};
const podsOf = async (revision: string) => {
  const labelSelector = `baton.dev/revision=${revision}`;
  const { items } = await bench.pods.core.listNamespacedPod({ namespace: bench.namespace, labelSelector });
  return items.map(({ metadata }) => metadata?.uid).toSorted();
};

describe("blue/green", { timeout: 120_000 }, () => {
  it("moves everything at once, after the preview has computed in shadow, and keeps blue warm", async () => {
    const blue = (await bench.status()).stable?.revision ?? "";
    await bench.update(spec("2.0.0"));
    const preview = await bench.until(
      "the preview",
      ({ phase, candidate }) => phase === "Paused" && candidate?.coherent,
    );
    expect(preview).toMatchObject({ weight: 0, assignments: [{ revision: blue }] });
    const status = await bench.stable("2.0.0");
    expect(status.assignments).toMatchObject([{ revision: status.stable?.revision }]);
    expect(status.previousStable?.revision).toBe(blue);
    expect(await replicasOf(blue)).toBe(1);
  });

  it("goes back to warm blue without waiting for pods", async () => {
    const blue = (await bench.status()).previousStable?.revision ?? "";
    const warm = await podsOf(blue);
    await bench.update(spec("1.0.0"));
    const status = await bench.stable("1.0.0");
    expect(status.stable?.revision).toBe(blue);
    expect(await podsOf(blue)).toEqual(warm);
    expect(status.history?.[0]).toMatchObject({ completionStatus: "Promoted", version: "1.0.0" });
  });

  it("takes the preview back where it does harm, and lets the old one go cold in the end", async () => {
    await bench.update(spec("3.0.0", { autoPromotionSeconds: 600, scaleDownDelaySeconds: 1 }));
    await bench.until(
      "the preview",
      ({ phase, candidate }) => phase === "Paused" && candidate?.version === "3.0.0",
    );
    bench.errors = 1;
    const status = await bench.back();
    bench.errors = 0;
    expect(status.history?.[0]).toMatchObject({ completionStatus: "RolledBack", version: "3.0.0" });
    await bench.update(spec("4.0.0", { scaleDownDelaySeconds: 1 }));
    const { previousStable, stable } = await bench.stable("4.0.0");
    const old = previousStable?.revision ?? status.stable?.revision ?? "";
    expect(old).not.toBe(stable?.revision);
    await waitFor("the old one to end", async () => (await replicasOf(old)) === 0);
  });

  it("lost, doubled and misplaced nothing on the way", async () => {
    await bench.verify();
  });
});
