import { afterEach, beforeEach, describe, expect, it } from "vitest";
import type { Api } from "#operators/controller-kit/api.ts";
import { specOf } from "#tests/support/deployment-world.ts";
import { MemoryCluster } from "#tests/support/memory-cluster.ts";
import { waitFor } from "#tests/support/wait.ts";
import { revisionOf } from "../core/revision.ts";
import { DISRUPTION_BUDGETS, type DisruptionBudget } from "./budget.ts";
import { Cluster } from "./cluster.ts";
import { DEPLOYMENTS } from "./deployment.ts";
import { type CustomObject, MODEL_DEPLOYMENTS, type Seen, View } from "./view.ts";

// What others do to a revision's objects, and what becomes of it.

const KEY = "trading/echo";
let api: Api;
let view: View;
let told: { readonly key: string; readonly urgent: boolean }[];

beforeEach(async () => {
  api = new MemoryCluster().api("test");
  told = [];
  view = new View({
    api,
    onChange: (key, urgent) => told.push({ key, urgent }),
    onError: (error) => expect.unreachable(error.message),
  });
  await view.start();
  await api.create(MODEL_DEPLOYMENTS, object("1.0.0"));
  await waitFor("the object", () => view.see(KEY));
});
afterEach(() => view.stop());

const object = (version: string): CustomObject => ({
  metadata: {
    name: "echo",
    namespace: "trading",
    // As API servers have it.
    ...{ managedFields: [{ manager: "test" }] },
  },
  spec: specOf(version),
});

/** What is told of what somebody does. */
async function toldOf(work: () => Promise<unknown>): Promise<typeof told> {
  told = [];
  await work();
  await waitFor("what has changed", () => told.length > 0);
  return told;
}

describe("a disruption budget", () => {
  const NAME = `echo-${revisionOf(specOf("1.0.0"))}`;
  const seen = () => view.see(KEY) as Seen;
  const budget = () => api.get<DisruptionBudget>(DISRUPTION_BUDGETS, "trading", NAME);
  const problem = () => seen().revisions[0]?.budget;
  const protect = async () =>
    view.wroteBudget(await new Cluster(api).protect(seen(), revisionOf(specOf("1.0.0"))));
  const change = (patch: object) =>
    toldOf(() => api.merge(DISRUPTION_BUDGETS, "trading", NAME, patch)).then(problem);

  beforeEach(async () => {
    const revision = revisionOf(specOf("1.0.0"));
    const scale = { kind: "Scale", revision, replicas: 2, template: "spec" } as const;
    const deployment = await new Cluster(api).scale(seen(), scale);
    if (deployment !== undefined) view.wroteDeployment(deployment);
    expect(problem()).toBe("missing");
    await protect();
    expect(problem()).toBeUndefined();
  });

  it("keeps all but one of a revision's pods, and never a pod that is not ready", async () => {
    expect(await budget()).toMatchObject({
      metadata: { ownerReferences: [{ kind: "ModelDeployment", name: "echo", controller: true }] },
      spec: { maxUnavailable: 1, unhealthyPodEvictionPolicy: "AlwaysAllow" },
    });
  });

  it.each([
    ["blocks", { maxUnavailable: 0 }],
    ["names the other bound", { maxUnavailable: null, minAvailable: "100%" }],
    ["protects what is not ready", { unhealthyPodEvictionPolicy: "IfHealthyBudget" }],
    [
      "says nothing of what is not ready, as an operator before this one",
      { unhealthyPodEvictionPolicy: null },
    ],
    ["selects fewer", { selector: { matchLabels: { tier: "x" } } }],
    ["selects none", { selector: { matchExpressions: [{ key: "x", operator: "Exists" }] } }],
  ])("that %s is put right", async (_, spec) => {
    const { spec: before } = await budget();
    expect(await change({ spec })).toBe("changed");
    await protect();
    expect(problem()).toBeUndefined();
    expect((await budget()).spec).toEqual(before);
  });

  it("that is deleted is made again", async () => {
    await toldOf(() => api.delete(DISRUPTION_BUDGETS, "trading", NAME));
    expect(problem()).toBe("missing");
    await protect();
    expect(problem()).toBeUndefined();
  });

  it("is not looked at each time a pod of it comes or goes", async () => {
    told = [];
    await api.merge(DISRUPTION_BUDGETS, "trading", NAME, { status: { currentHealthy: 1 } });
    await toldOf(() => api.delete(DEPLOYMENTS, "trading", NAME));
    expect(told).toEqual([{ key: KEY, urgent: false }]);
  });
});

describe("a Deployment", () => {
  const NAME = `echo-${revisionOf(specOf("1.0.0"))}`;
  const scale = {
    kind: "Scale",
    revision: revisionOf(specOf("1.0.0")),
    replicas: 2,
    template: "spec",
  } as const;
  const edited = () => view.see(KEY)?.revisions[0]?.edited;
  const write = async () => {
    const seen = view.see(KEY) as Seen;
    const deployment = await new Cluster(api).scale(seen, scale);
    if (deployment !== undefined) view.wroteDeployment(deployment);
  };
  const change = (patch: object) => toldOf(() => api.merge(DEPLOYMENTS, "trading", NAME, patch));

  it("is as it was written until somebody else changes its spec, and then until it is written again", async () => {
    await write();
    expect(edited()).toBe(false);
    await change({ metadata: { annotations: { "deployment.kubernetes.io/revision": "1" } } });
    expect(edited()).toBe(false);
    await change({ spec: { minReadySeconds: 900 } });
    expect(edited()).toBe(true);
    await write();
    expect(edited()).toBe(false);
    expect(await api.get(DEPLOYMENTS, "trading", NAME)).toMatchObject({ spec: { minReadySeconds: 0 } });
  });

  it("of another operator before this one is taken as it is found", async () => {
    await write();
    const other = new View({ api, onChange: () => {}, onError: () => {} });
    await other.start();
    expect(other.see(KEY)?.revisions[0]?.edited).toBe(false);
    await other.stop();
  });
});
