import { afterAll, beforeAll, describe, expect, inject, it } from "vitest";
import { DISRUPTION_BUDGETS } from "#operators/model-deployment/adapters/budget.ts";
import { DEPLOYMENTS } from "#operators/model-deployment/adapters/deployment.ts";
import { MODEL_DEPLOYMENTS } from "#operators/model-deployment/adapters/view.ts";
import { OperatorBench, SHELL, type Status } from "#tests/support/operator-bench.ts";
import { waitFor } from "#tests/support/wait.ts";

// A release that is overtaken: by a newer one, by its spec's return, by a fix of a broken stable, by deletion.

const bench = new OperatorBench(inject("cluster"));
const spec = (version: string) =>
  bench.spec(version, (draft) => {
    draft["strategy"].canary.steps[1].pause.duration = "600s";
  });
const atFirst = (version: string) => (status: Status) =>
  status.weight === 25 && status.currentStepIndex === 1 && status.candidate?.version === version;

beforeAll(async () => {
  await bench.open();
  await bench.startStream();
  expect(await bench.create(spec("1.0.0"))).toBeUndefined();
  await bench.stable("1.0.0");
});
afterAll(() => bench.close());

describe("a release that is overtaken", { timeout: 120_000 }, () => {
  it("by a newer one: everything goes back first, then the newer one begins", async () => {
    await bench.update(spec("2.0.0"));
    await bench.until("2.0.0 at BTCUSDT", atFirst("2.0.0"));
    await bench.update(spec("3.0.0"));
    const status = await bench.until("3.0.0 at BTCUSDT", atFirst("3.0.0"));
    expect(status.history?.[0]).toMatchObject({ completionStatus: "Superseded", version: "2.0.0" });
    expect(status.condemned ?? []).toEqual([]);
    const owners = status.assignments?.map(({ revision }) => revision) ?? [];
    expect(owners.toSorted()).toEqual([status.candidate?.revision, status.stable?.revision].toSorted());
  });

  it("by the spec's return: everything goes back, and stable is stable", async () => {
    await bench.update(spec("1.0.0"));
    const status = await bench.stable("1.0.0");
    expect(status.history?.[0]).toMatchObject({ completionStatus: "Superseded", version: "3.0.0" });
    expect(status.assignments).toMatchObject([{ revision: status.stable?.revision }]);
  });

  it("lost, doubled and misplaced nothing on the way", async () => {
    await bench.verify();
  });

  it("by deletion in its middle: pods, Deployments and budgets go with the object", async () => {
    await bench.update(spec("4.0.0"));
    await bench.until("the candidate", ({ candidate }) => candidate?.available === 1);
    await bench.api.delete(MODEL_DEPLOYMENTS, bench.namespace, bench.name);
    const noneLeft = async () => {
      const lists = await Promise.all(
        [DEPLOYMENTS, DISRUPTION_BUDGETS].map((of) => bench.api.listAll(of, { namespace: bench.namespace })),
      );
      const { items } = await bench.pods.core.listNamespacedPod({ namespace: bench.namespace });
      return lists.flat().length === 0 && items.length === 0;
    };
    // The garbage collector looks for new kinds every half minute, and this cluster's are that new.
    await waitFor("nothing to be left", noneLeft, 45_000);
  });

  it("a broken stable does not block the fix", async () => {
    const plain = (version: string, args: string) =>
      bench.plainSpec(version, (draft) => {
        delete draft["analysis"];
        draft["strategy"] = { canary: { steps: [{ setWeight: 100 }] } };
        draft["template"].spec.containers = [{ ...SHELL, args: [args] }];
      });
    // It ran, and then it does not any more.
    expect(await bench.create(plain("1.0.0", "sleep 4; exit 1"))).toBeUndefined();
    await bench.until("1.0.0 to be stable", ({ stable }) => stable?.version === "1.0.0");
    await bench.until("1.0.0 to be broken", ({ stable }) => stable?.available === 0);
    await bench.update(plain("1.0.1", "sleep 600"));
    const status = await bench.stable("1.0.1");
    expect(status.stable?.available).toBe(1);
  });
});
