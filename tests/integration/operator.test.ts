import { setTimeout as sleep } from "node:timers/promises";
import { PolicyV1Api } from "@kubernetes/client-node";
import { afterAll, beforeAll, describe, expect, inject, it } from "vitest";
import { MODEL_DEPLOYMENTS } from "#operators/model-deployment/adapters/view.ts";
import { type Draft, OperatorBench, type Status } from "#tests/support/operator-bench.ts";
import { waitFor } from "#tests/support/wait.ts";

// The operator against the real API server, Kafka and pods: a release comes in and is promoted, a harmful one is rolled
// back, and the operator may be made anew in the middle of it.

const bench = new OperatorBench(inject("cluster"));

beforeAll(async () => {
  await bench.open();
  await bench.startStream();
});
afterAll(() => bench.close());

/** BTCUSDT has been handed over. The pause after it may be over before the replicas have run for long enough. */
const atFirst = ({ weight, currentStepIndex }: Status) => weight === 25 && currentStepIndex === 1;
const ownersOf = ({ assignments = [] }: Status) => assignments.map(({ revision }) => revision);

describe("the operator", { timeout: 120_000 }, () => {
  it("makes the first revision and gives it everything", async () => {
    expect(await bench.create(bench.spec("1.0.0"))).toBeUndefined();
    const status = await bench.stable("1.0.0");
    expect(status.stable).toMatchObject({ available: 1, coherent: true });
    expect(ownersOf(status)).toEqual([status.stable?.revision]);
    const budgets = await bench.pods.config
      .makeApiClient(PolicyV1Api)
      .listNamespacedPodDisruptionBudget({ namespace: bench.namespace });
    expect(budgets.items.map(({ metadata, spec }) => [metadata?.name, spec?.maxUnavailable])).toEqual([
      [`${bench.name}-${status.stable?.revision}`, 1],
    ]);
  });

  it("brings a good release in through its steps and promotes it", async () => {
    const old = (await bench.status()).stable?.revision;
    await bench.update(bench.spec("2.0.0"));
    const canary = await bench.until("BTCUSDT at the candidate", atFirst);
    expect(canary).toMatchObject({ candidate: { version: "2.0.0" }, currentStepIndex: 1 });
    expect(canary.assignments).toContainEqual(
      expect.objectContaining({ revision: canary.candidate?.revision, instruments: ["BTCUSDT"] }),
    );
    const status = await bench.stable("2.0.0");
    expect(ownersOf(status)).toEqual([status.stable?.revision]);
    expect(status.history?.[0]).toMatchObject({ completionStatus: "Promoted", version: "2.0.0" });
    await waitFor("the old pods to end", async () => {
      const { items } = await bench.pods.core.listNamespacedPod({ namespace: bench.namespace });
      return items.every(({ metadata }) => metadata?.labels?.["baton.dev/revision"] !== old);
    });
  });

  it("rolls a harmful one back by itself, and does not try it again", async () => {
    // It waits at BTCUSDT for longer than a busy machine takes to see it there.
    const slowly = (spec: Draft) => {
      spec["strategy"].canary.steps[1] = { pause: { duration: "60s" } };
    };
    await bench.update(bench.spec("3.0.0", slowly));
    await bench.until("BTCUSDT at the candidate", atFirst);
    const breach = Date.now();
    bench.errors = 0.5;
    const status = await bench.back();
    expect(Date.now() - breach).toBeLessThan(8_000);
    bench.errors = 0;
    expect(status.history?.[0]).toMatchObject({
      completionStatus: "RolledBack",
      reason: "AnalysisFailed",
      version: "3.0.0",
    });
    expect(status).toMatchObject({ stable: { version: "2.0.0" } });
    expect(ownersOf(status)).toEqual([status.stable?.revision]);
    await bench.until("Degraded", ({ phase }) => phase === "Degraded");
    // An event follows what it is about.
    const told = ["Started", "StepCompleted", "Promoted", "AnalysisFailed", "RolledBack"];
    await waitFor("the events", async () => {
      const own = await bench.events();
      return told.every((reason) => own.includes(reason));
    });
  });

  it("goes on where another operator has left off, and writes nothing once it is settled", async () => {
    await bench.update(bench.spec("4.0.0"));
    await bench.until("BTCUSDT at the candidate", atFirst);
    await bench.stopOperator();
    await bench.startOperator();
    await bench.stable("4.0.0");
    // The old pods end.
    await sleep(3_000);
    const version = async () =>
      (await bench.api.get(MODEL_DEPLOYMENTS, bench.namespace, bench.name)).metadata.resourceVersion;
    const before = await version();
    await sleep(4_000);
    expect(await version()).toBe(before);
    // What the first operator had told was not told again by the second.
    const events = await bench.events();
    expect(events.filter((reason) => reason === "RolledBack").length).toBe(1);
  });

  it("is not held up by another object that nothing can be made of", async () => {
    const broken = bench.spec("1.0.0", (spec) => {
      spec["analysis"] = { templates: [{ name: "nowhere" }] };
    });
    expect(await bench.create(broken, "broken")).toBeUndefined();
    const twin = bench.spec("1.0.0", (spec) => {
      spec["stream"].name = bench.name;
    });
    expect(await bench.create(twin, "twin")).toBeUndefined();
    await bench.update(bench.spec("5.0.0"));
    await bench.stable("5.0.0");
    expect(await bench.status("broken")).toMatchObject({ phase: "Degraded" });
    expect((await bench.status("broken")).message).toContain("AnalysisTemplate nowhere is not there");
    expect((await bench.status("twin")).message).toContain(`${bench.namespace}/${bench.name} has`);
  });

  it("lost, doubled and misplaced nothing on the way", async () => {
    const counts = await bench.verify();
    expect(counts.handovers).toBeGreaterThan(8);
  });
});
