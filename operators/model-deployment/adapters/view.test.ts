import { afterEach, beforeEach, describe, expect, it } from "vitest";
import type { Api, KubeObject } from "#operators/controller-kit/api.ts";
import { specOf } from "#tests/support/deployment-world.ts";
import { MemoryCluster } from "#tests/support/memory-cluster.ts";
import { waitFor } from "#tests/support/wait.ts";
import { COMMAND_ANNOTATION, resourceOf } from "../api/crd.ts";
import { Cluster } from "./cluster.ts";
import { DEPLOYMENTS, deploymentOf } from "./deployment.ts";
import { type CustomObject, MODEL_DEPLOYMENTS, View } from "./view.ts";

const KEY = "trading/echo";
let cluster: MemoryCluster;
let api: Api;
let view: View;
let told: { readonly key: string; readonly urgent: boolean }[];

beforeEach(async () => {
  cluster = new MemoryCluster();
  api = cluster.api("test");
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
const merge = (patch: Partial<KubeObject> & Record<string, unknown>) =>
  api.merge(MODEL_DEPLOYMENTS, "trading", "echo", patch);

describe("a ModelDeployment that changes", () => {
  it("is urgent when somebody asks for something: another spec, a command, its end", async () => {
    const spec = () => api.apply(MODEL_DEPLOYMENTS, object("2.0.0"));
    const command = () => merge({ metadata: { name: "echo", annotations: { [COMMAND_ANNOTATION]: "{}" } } });
    const end = () => api.delete(MODEL_DEPLOYMENTS, "trading", "echo");
    for (const work of [spec, command, end]) expect(await toldOf(work)).toEqual([{ key: KEY, urgent: true }]);
  });

  it("is not when its status is written, or a note that is nobody's command", async () => {
    const status = () =>
      api.apply(
        MODEL_DEPLOYMENTS,
        { ...object("1.0.0"), spec: undefined, status: { message: "so far" } },
        "status",
      );
    const note = () => merge({ metadata: { name: "echo", annotations: { "example.com/seen": "1" } } });
    for (const work of [status, note]) expect(await toldOf(work)).toEqual([{ key: KEY, urgent: false }]);
  });
});

describe("a status that another version has written", () => {
  const condemned = ["r-1"];
  const lastVerb = { id: "c1", verb: "approve", result: "r".repeat(300), at: "2026-01-01T00:00:00Z" };
  const write = (status: object) =>
    toldOf(() => api.apply(MODEL_DEPLOYMENTS, { ...object("1.0.0"), spec: undefined, status }, "status"));

  it("is read with its texts cut, and without what is made anew anyway", async () => {
    await write({ condemned, lastVerb, message: 7, notes: [{ id: "a" }], assignments: "none" });
    expect(view.see(KEY)?.status).toEqual({
      condemned,
      lastVerb: { ...lastVerb, result: `${"r".repeat(255)}…` },
    });
  });

  it("is no status where what is gone by cannot be read", async () => {
    await write({ condemned: "r-1" });
    expect(() => view.see(KEY)).toThrow("status.condemned");
  });
});

describe("the copy of a ModelDeployment", () => {
  it("has its spec read once, and again when there is another", async () => {
    const first = view.see(KEY)?.spec;
    await toldOf(() => merge({ metadata: { name: "echo", annotations: { "example.com/seen": "1" } } }));
    expect(view.see(KEY)?.spec).toBe(first);
    await toldOf(() => api.apply(MODEL_DEPLOYMENTS, object("2.0.0")));
    expect(view.see(KEY)?.spec.model.version).toBe("2.0.0");
  });

  it("does not say who has written which field, which is half of it", () => {
    expect(view.see(KEY)?.object.metadata).not.toHaveProperty("managedFields");
    expect(view.see(KEY)?.object.metadata.name).toBe("echo");
  });
});

describe("a template that a ModelDeployment uses", () => {
  const TEMPLATES = resourceOf("AnalysisTemplate");
  const apply = (query: string) =>
    api.apply(TEMPLATES, {
      metadata: { name: "errors", namespace: "trading" },
      spec: {
        args: [{ name: "max" }],
        metrics: [{ name: "m", threshold: { max: "1" }, provider: { prometheus: { query } } }],
      },
    } as CustomObject);
  const using = (args: readonly object[]) => {
    const analysis = { templates: [{ name: "errors", args }], startingStep: 0 };
    return api.apply(MODEL_DEPLOYMENTS, {
      ...object("1.0.0"),
      spec: { ...specOf("1.0.0"), analysis },
    } as CustomObject);
  };
  const invalid = (says: string | undefined) =>
    waitFor(says ?? "nothing wrong", () => {
      const seen = view.see(KEY);
      return (
        seen !== undefined && (says === undefined ? seen.invalid === undefined : seen.invalid?.includes(says))
      );
    });

  it("is refused with its field when a name is not known, an argument is missing or does not fit", async () => {
    await apply("x{r='{{revision}}'} > {{args.max}}");
    await using([{ name: "max", value: "1" }]);
    await invalid(undefined);
    await apply("x{r='{{revison}}'}");
    await invalid(
      "AnalysisTemplate errors spec.metrics[0].provider.prometheus.query: what stands in two braces",
    );
    await apply("x > {{args.mox}}");
    await invalid("{{args.mox}} is none of revision");
    await apply("x > {{args.max}}");
    await using([]);
    await invalid(
      "spec.analysis.templates[0]: errors: spec.metrics[0].provider.prometheus.query: {{args.max}}",
    );
    await using([{ name: "max", value: "1 or vector(0)" }]);
    await invalid("is no number");
    await using([
      { name: "max", value: "1" },
      { name: "mox", value: "1" },
    ]);
    await invalid("spec.analysis.templates[0].args[1].name: errors has no argument mox");
  });

  it("is not refused in the middle of a release: it is watched on, and what cannot be measured holds it", async () => {
    await apply("x > {{args.mox}}");
    await using([{ name: "max", value: "1" }]);
    await invalid("{{args.mox}}");
    const revision = {
      revision: "r-2",
      version: "2.0.0",
      digest: "",
      replicas: 1,
      available: 1,
      coherent: true,
    };
    const seen = view.see(KEY);
    if (seen === undefined) throw new Error("it is not there");
    await new Cluster(api, 1).writeStatus(seen.object, { candidate: revision });
    await invalid(undefined);
  });
});

describe("a revision whose pods do not come", () => {
  const PODS = { group: "", version: "v1", plural: "pods", kind: "Pod" };
  const problem = () => view.see(KEY)?.revisions[0]?.problem;

  it("says why, from the Deployment and from its pods; and what changes of that is told", async () => {
    const deployment = deploymentOf(object("1.0.0"), specOf("1.0.0"), 2, undefined);
    const { name, labels = {} } = deployment.metadata;
    await toldOf(() => api.create(DEPLOYMENTS, deployment));
    expect(problem()).toBeUndefined();
    const conditions = [{ type: "ReplicaFailure", status: "True", message: "exceeded quota: hunt" }];
    await toldOf(async () => cluster.setStatus(DEPLOYMENTS, "trading", name, { conditions }));
    expect(problem()).toBe("ReplicaFailure: exceeded quota: hunt");
    await toldOf(() => api.create(PODS, { metadata: { name: "echo-1", namespace: "trading", labels } }));
    const waiting = (reason: string) => ({
      containerStatuses: [{ name: "main", restartCount: 0, ready: false, state: { waiting: { reason } } }],
    });
    await toldOf(async () => cluster.setStatus(PODS, "trading", "echo-1", waiting("ContainerCreating")));
    await toldOf(async () => cluster.setStatus(PODS, "trading", "echo-1", waiting("ImagePullBackOff")));
    expect(problem()).toBe("main: ImagePullBackOff");
  });
});
