import { afterEach, beforeEach, describe, expect, it } from "vitest";
import type { Api, KubeObject } from "#operators/controller-kit/api.ts";
import { specOf } from "#tests/support/deployment-world.ts";
import { MemoryCluster } from "#tests/support/memory-cluster.ts";
import { waitFor } from "#tests/support/wait.ts";
import { COMMAND_ANNOTATION } from "../api/crd.ts";
import { type CustomObject, MODEL_DEPLOYMENTS, View } from "./view.ts";

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
