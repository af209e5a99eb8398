import { AppsV1Api } from "@kubernetes/client-node";
import { afterAll, beforeAll, describe, expect, inject, it } from "vitest";
import { MODEL_DEPLOYMENTS } from "#operators/model-deployment/adapters/view.ts";
import { COMMAND_ANNOTATION } from "#operators/model-deployment/api/crd.ts";
import { OperatorBench, type Status } from "#tests/support/operator-bench.ts";

// What people ask for, by the command line: each verb, its answer, its exit code.

const bench = new OperatorBench(inject("cluster"));

beforeAll(async () => {
  await bench.open();
  await bench.startStream();
  expect(await bench.create(bench.spec("1.0.0"))).toBeUndefined();
  await bench.stable("1.0.0");
});
afterAll(() => bench.close());

const longPause = (version: string) =>
  bench.spec(version, (spec) => {
    spec["strategy"].canary.steps[1].pause.duration = "600s";
  });
const atFirst = ({ weight, currentStepIndex }: Status) => weight === 25 && currentStepIndex === 1;

describe("commands", { timeout: 120_000 }, () => {
  it("pause, resume, abort, and what comes too late", async () => {
    const { name } = bench;
    await bench.update(longPause("2.0.0"));
    await bench.until("BTCUSDT at the candidate", atFirst);
    expect(await bench.baton("pause")).toMatchObject({ code: 0 });
    const paused = await bench.until("the hold", ({ message }) => message?.includes("paused by a person"));
    expect(paused).toMatchObject({ phase: "Paused", currentStepIndex: 1 });
    const shown = await bench.baton("get", name);
    expect(shown.output).toMatch(/candidate +r-\w+ +2\.0\.0 +1\/1 +BTCUSDT \(25 %\)/);
    expect(shown.output).toContain("background/errors/rate  Running");
    // An old click, meant for a release that is no more.
    await bench.api.merge(MODEL_DEPLOYMENTS, bench.namespace, name, {
      metadata: {
        annotations: {
          [COMMAND_ANNOTATION]: JSON.stringify({ id: "old", verb: "abort", revision: "r-old" }),
        },
      },
    });
    const stale = await bench.until("the answer", ({ lastVerb }) => lastVerb?.id === "old");
    expect(stale.lastVerb?.result).toContain("refused: it means r-old");
    expect(stale).toMatchObject({ phase: "Paused", candidate: { version: "2.0.0" } });
    expect(await bench.baton("resume", name)).toMatchObject({ code: 0 });
    const restart = await bench.baton("restart", name);
    expect(restart).toMatchObject({ code: 1 });
    expect(restart.output).toContain("refused");
    const aborted = await bench.baton("abort", name);
    expect(aborted).toMatchObject({ code: 0 });
    expect(aborted.output).toMatch(/abort r-\w+: accepted: everything goes back to r-/);
    const status = await bench.back();
    expect(status.history?.[0]).toMatchObject({ completionStatus: "Aborted", version: "2.0.0" });
    expect(status.stable?.version).toBe("1.0.0");
    const late = await bench.baton("pause", name, "--json");
    expect(late).toMatchObject({ code: 1 });
    expect(late.output).toContain("refused: nothing is being released");
    expect(await bench.baton("get", "nobody")).toMatchObject({ code: 1 });
  });

  it("approve: a gate is opened by as many people as it asks for", async () => {
    const gated = bench.spec("2.1.0", (spec) => {
      spec["gates"] = [{ name: "risk", before: "Start", approvals: 2 }];
    });
    await bench.update(gated);
    await bench.until("the gate", ({ message }) => message?.includes("at the gate risk: 0 of 2 approvals"));
    const full = await bench.baton("promote", "--full");
    expect(full).toMatchObject({ code: 1 });
    expect(full.output).toContain("refused: it waits at the gate risk");
    const door = await bench.baton("approve", "--gate", "door", "--by", "ann");
    expect(door).toMatchObject({ code: 1 });
    expect(door.output).toContain("there is no gate door; its gates: risk");
    const first = await bench.baton("approve", "--by", "ann", "--reason", "figures looked at");
    expect(first).toMatchObject({ code: 0 });
    expect(first.output).toContain("1 of 2 approvals, so far by ann");
    expect(await bench.baton("approve", "--by", "ann")).toMatchObject({ code: 1 });
    expect((await bench.status()).weight).toBe(0);
    const second = await bench.baton("approve", "--gate", "risk", "--by", "bob", "--json");
    expect(second).toMatchObject({ code: 0 });
    expect(JSON.parse(second.output)).toMatchObject({
      gate: "risk",
      by: "bob",
      result: "done: risk is open",
    });
    await bench.until("BTCUSDT at the candidate", ({ weight = 0 }) => weight >= 25);
    // As it was before, without the gate.
    await bench.update({ ...longPause("2.0.0"), gates: null });
    const { history, approvals } = await bench.back();
    expect(history?.[0]).toMatchObject({ completionStatus: "Superseded", version: "2.1.0" });
    expect(approvals).toBeUndefined();
  });

  it("retry and promote: one step, then all of it", async () => {
    expect(await bench.baton("retry", bench.name)).toMatchObject({ code: 0 });
    await bench.until("BTCUSDT at the candidate", atFirst);
    expect(await bench.baton("promote", bench.name)).toMatchObject({ code: 0 });
    await bench.until("the next step", ({ currentStepIndex = 0, stable }) => {
      return currentStepIndex > 1 || stable?.version === "2.0.0";
    });
    await bench.stable("2.0.0");
    await bench.update(longPause("3.0.0"));
    await bench.until("BTCUSDT at the candidate", atFirst);
    expect(await bench.baton("promote", "--full", bench.name)).toMatchObject({ code: 0 });
    const status = await bench.stable("3.0.0");
    expect(status.history?.[0]).toMatchObject({ completionStatus: "FastPromoted" });
  });

  it("undo goes back at once and stays there", async () => {
    const undone = await bench.baton("undo", bench.name, "--reason", "it loses money");
    expect(undone).toMatchObject({ code: 0 });
    const status = await bench.stable("2.0.0", "Degraded");
    expect(status.message).toContain("was undone: it loses money");
    const again = await bench.baton("undo", bench.name, "--to-revision", "r-nothing");
    expect(again).toMatchObject({ code: 1 });
    expect(again.output).toContain("the Deployment of r-nothing is gone");
  });

  it("rollback names a version, follows it to its end, and says what there is", async () => {
    const rollback = (...more: readonly string[]) =>
      bench.baton("rollback", bench.name, "--reason", "drawdown", ...more);
    const unknown = await rollback("--to-version", "9.9.9");
    expect(unknown).toMatchObject({ code: 1 });
    expect(unknown.output).toContain("has had no version 9.9.9");
    const nowhere = await rollback("--to-version", "1.0.0", "--environment", "prod");
    expect(nowhere).toMatchObject({ code: 1 });
    expect(nowhere.output).toContain("the kubeconfig has no context prod; it has baton-local");
    const done = await rollback("--to-version", "1.0.0", "--environment", "baton-local");
    expect(done).toMatchObject({ code: 0 });
    expect(done.output).toContain("1.0.0 decides on everything after");
    expect((await bench.status()).stable?.version).toBe("1.0.0");
    const listed = await bench.baton("history", "list", bench.name);
    expect(listed.output).toMatch(/Promoted +r-\w+ +1\.0\.0/);
    expect(listed.output).toMatch(/Aborted +r-\w+ +2\.0\.0/);
  });

  it("restart makes the pods anew under the same revision", async () => {
    const { stable } = await bench.status();
    const pods = async () => {
      const { items } = await bench.pods.core.listNamespacedPod({
        namespace: bench.namespace,
        labelSelector: `baton.dev/revision=${stable?.revision}`,
      });
      return items.filter(({ metadata }) => metadata?.deletionTimestamp === undefined);
    };
    const before = (await pods()).map(({ metadata }) => metadata?.name);
    expect(await bench.baton("restart", bench.name)).toMatchObject({ code: 0 });
    await bench.until("new pods", async () => {
      const now = await pods();
      return now.length === 1 && now.every(({ metadata }) => !before.includes(metadata?.name));
    });
    const deployments = await bench.pods.config
      .makeApiClient(AppsV1Api)
      .readNamespacedDeployment({ namespace: bench.namespace, name: `${bench.name}-${stable?.revision}` });
    expect(deployments.spec?.template.metadata?.annotations).toHaveProperty(["baton.dev/restarted-at"]);
  });

  it("lost, doubled and misplaced nothing on the way", async () => {
    await bench.verify();
  });
});
