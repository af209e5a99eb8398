import { type CoreV1Api, CustomObjectsApi, PolicyV1Api } from "@kubernetes/client-node";
import { afterAll, beforeAll, describe, expect, inject, it } from "vitest";
import type { KubeObject } from "#operators/controller-kit/api.ts";
import { DISRUPTION_BUDGETS, type DisruptionBudget } from "#operators/model-deployment/adapters/budget.ts";
import { DEPLOYMENTS } from "#operators/model-deployment/adapters/deployment.ts";
import { type Draft, OperatorBench, SHELL } from "#tests/support/operator-bench.ts";
import { waitFor } from "#tests/support/wait.ts";

// What others do with a ModelDeployment and its pods, on the real API server with the real controllers: they drain nodes, and
// they scale.

const bench = new OperatorBench(inject("cluster"));
let policy: PolicyV1Api;
let core: CoreV1Api;

beforeAll(async () => {
  await bench.open();
  policy = bench.pods.config.makeApiClient(PolicyV1Api);
  core = bench.pods.core;
});
afterAll(() => bench.close());

const podsOf = async (labelSelector: string) => {
  const { items } = await core.listNamespacedPod({ namespace: bench.namespace, labelSelector });
  return items.filter(({ metadata }) => metadata?.deletionTimestamp === undefined);
};

describe("nodes can be drained", { timeout: 120_000 }, () => {
  it("where a revision's pods crash again and again: their eviction is not refused", async () => {
    const crashing = bench.plainSpec("1.0.0", (spec) => {
      spec["replicas"] = 2;
      spec["template"].spec.containers = [{ ...SHELL, args: ["exit 1"] }];
    });
    expect(await bench.create(crashing)).toBeUndefined();
    const pod = await waitFor("a pod that crashed, and its budget", async () => {
      const [budget] = (await policy.listNamespacedPodDisruptionBudget({ namespace: bench.namespace })).items;
      const found = await podsOf(`baton.dev/deployment=${bench.name}`);
      const crashed = found.find(({ status }) => status?.containerStatuses?.[0]?.restartCount);
      // Of two none is healthy: by the numbers nobody may go.
      return budget?.status?.expectedPods === 2 && budget.status.disruptionsAllowed === 0 && crashed;
    });
    // Where a pod changes at that moment the API server asks for another try, as a drain makes it.
    const evict = () => {
      const { name = "", namespace = "" } = pod.metadata ?? {};
      const body = { apiVersion: "policy/v1", kind: "Eviction", metadata: { name, namespace } };
      return core.createNamespacedPodEviction({ name, namespace, body });
    };
    expect(await waitFor("the eviction", evict)).toMatchObject({ kind: "Status" });
  });

  it("a budget that is deleted, edited or no longer labelled comes back as it was", async () => {
    await bench.update(bench.plainSpec("2.0.0"));
    const { stable } = await bench.stable("2.0.0");
    const name = `${bench.name}-${stable?.revision}`;
    const budget = () => bench.api.get<DisruptionBudget>(DISRUPTION_BUDGETS, bench.namespace, name);
    const before = await budget();
    const comesBack = (what: string) =>
      waitFor(`the budget, ${what}`, async () => {
        const { metadata, spec } = await budget();
        expect(spec).toEqual(before.spec);
        expect(metadata.labels).toEqual(before.metadata.labels);
        return true;
      });
    await bench.api.delete(DISRUPTION_BUDGETS, bench.namespace, name);
    await comesBack("deleted");
    const edit = (patch: object) => bench.api.merge(DISRUPTION_BUDGETS, bench.namespace, name, patch);
    await edit({ spec: { maxUnavailable: null, minAvailable: "100%", unhealthyPodEvictionPolicy: null } });
    await comesBack("edited");
    await edit({ metadata: { labels: null }, spec: { maxUnavailable: null, minAvailable: 1 } });
    await comesBack("not labelled");
  });
});

describe("a revision's Deployment", { timeout: 120_000 }, () => {
  it("that somebody edits comes back as it was, and what it did not say stays theirs", async () => {
    const { stable } = await bench.status();
    const name = `${bench.name}-${stable?.revision}`;
    const read = async () => {
      const { spec } = await bench.api.get<KubeObject & { readonly spec: Draft }>(
        DEPLOYMENTS,
        bench.namespace,
        name,
      );
      const { image, livenessProbe, command } = spec["template"].spec.containers[0];
      return { image, livenessProbe, command, minReadySeconds: spec.minReadySeconds };
    };
    const before = await read();
    await bench.api.merge(DEPLOYMENTS, bench.namespace, name, {
      spec: {
        minReadySeconds: 300,
        progressDeadlineSeconds: 777,
        template: { spec: { containers: [{ name: "main", image: "test/other:1", command: ["sh", "-c"] }] } },
      },
    });
    await waitFor("the Deployment", async () => {
      expect(await read()).toEqual(before);
      return true;
    });
    const { spec } = await bench.api.get<KubeObject & { readonly spec: Draft }>(
      DEPLOYMENTS,
      bench.namespace,
      name,
    );
    expect(spec["progressDeadlineSeconds"]).toBe(777);
  });
});

describe("the scale subresource", { timeout: 120_000 }, () => {
  interface Scale {
    readonly spec: { readonly replicas: number };
    readonly status: { readonly replicas: number; readonly selector: string };
  }
  const of = () => ({
    group: "baton.dev",
    version: "v1alpha1",
    namespace: bench.namespace,
    plural: "modeldeployments",
    name: bench.name,
  });
  const custom = () => bench.pods.config.makeApiClient(CustomObjectsApi);
  const read = async () => (await custom().getNamespacedCustomObjectScale(of())) as Scale;
  const scale = async () => {
    const { spec, status } = await read();
    const pods = await podsOf(status.selector);
    return { spec: spec.replicas, status: status.replicas, pods: pods.length, selector: status.selector };
  };
  /** As an autoscaler and `kubectl scale` do: once more where somebody has written to the object meanwhile. */
  const scaleTo = (replicas: number) =>
    waitFor("the scale to be taken", async () => {
      const body = { ...(await read()), spec: { replicas } };
      return custom().replaceNamespacedCustomObjectScale({ ...of(), body });
    });
  const settled = (replicas: number) =>
    waitFor(`a scale of ${replicas}`, async () => {
      const { selector, ...numbers } = await scale();
      expect(numbers).toEqual({ spec: replicas, status: replicas, pods: replicas });
      return selector;
    });

  it("counts and selects stable alone during a canary on a stream, and takes a number", async () => {
    const spec = (version: string) =>
      bench.spec(version, (draft: Draft) => {
        draft["replicas"] = 2;
        draft["strategy"].canary.steps[1] = { pause: {} };
      });
    await bench.startStream();
    await bench.update(spec("3.0.0"));
    await bench.until("3.0.0 to wait", ({ phase }) => phase === "Paused");
    expect(await bench.baton("promote", "--full")).toMatchObject({ code: 0 });
    const { stable } = await bench.stable("3.0.0");
    await bench.update(spec("4.0.0"));
    await bench.until(
      "4.0.0 to wait",
      ({ phase, candidate }) => phase === "Paused" && candidate?.replicas === 2,
    );
    const selector = await settled(2);
    expect(selector).toContain(`baton.dev/revision=${stable?.revision}`);
    await scaleTo(3);
    await settled(3);
  });
});
