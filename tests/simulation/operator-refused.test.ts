import { afterEach, beforeEach, describe, expect, it, vi } from "vitest";
import { ApiError } from "#operators/controller-kit/errors.ts";
import { FENCE_POLICY } from "#operators/model-deployment/api/fence.ts";
import type { ModelDeploymentStatus } from "#operators/model-deployment/api/status.ts";
import { shortCanary } from "#tests/support/model-deployments.ts";
import { Simulated, simulatedSpec } from "#tests/support/simulated.ts";
import { pass, standStill } from "#tests/support/virtual-time.ts";

// An API server that refuses the status of an object, for whatever reason: harm is acted on all the same, and nothing else.

const tooLong = new ApiError(
  "Invalid",
  422,
  "status.lastVerb.result: Too long: may not be more than 256 bytes",
);
const tooLarge = new ApiError("Transient", 500, "etcdserver: request is too large");
const spec = (version: number, seconds = "1h") =>
  simulatedSpec(version, (draft) => {
    draft["strategy"] = shortCanary(seconds);
  });

// Minutes of virtual time.
vi.setConfig({ testTimeout: 60_000 });

let end: () => void;
let sim: Simulated;
beforeEach(() => {
  end = standStill("2026-01-01T00:00:00Z");
  sim = new Simulated();
});
afterEach(async () => {
  await sim.end();
  end();
});

/** v1 is stable, and v2 decides on BTCUSDT; from now on statuses are refused. */
async function refused(
  refusal: (status: ModelDeploymentStatus) => ApiError | undefined,
  pauseFor?: string,
): Promise<{ readonly v1: string; readonly v2: string }> {
  await sim.begin(spec(1));
  const v1 = sim.status.stable?.revision ?? "";
  await sim.update(spec(2, pauseFor));
  await pass(8_000);
  const v2 = sim.status.candidate?.revision ?? "";
  expect(sim.owners().get("BTCUSDT")).toBe(v2);
  sim.refusal = refusal;
  return { v1, v2 };
}

const owners = () => [...new Set(sim.owners().values())];

describe.each([
  ["too long for the schema", tooLong],
  ["too large for etcd", tooLarge],
])("a status that is %s", (_, error) => {
  it("is written without what is for people, harm goes back, and it is told", async () => {
    const { v1, v2 } = await refused(({ notes }) => (notes === undefined ? undefined : error));
    sim.value = 1;
    await pass(10_000);
    expect(owners()).toEqual([v1]);
    expect(sim.status).toMatchObject({ phase: "Degraded", condemned: [v2], history: [{ revision: v2 }, {}] });
    expect(sim.status.message).toBeUndefined();
    expect(sim.events()).toEqual(expect.arrayContaining(["StatusRefused", "AnalysisFailed", "RolledBack"]));
    expect(sim.deployments().find(({ metadata }) => metadata.name.endsWith(v2))?.spec.replicas).toBe(0);
    // Settled it costs a look now and then, and is whole again when it is taken.
    const { writes } = sim;
    await pass(6 * 60_000, 1_000);
    expect(sim.writes - writes).toBeLessThan(10);
    sim.refusal = () => undefined;
    await pass(6 * 60_000, 1_000);
    expect(sim.status.message).toContain("is not tried again");
    expect(sim.broken).toEqual([]);
  });
});

describe("a status that is refused whatever is in it", () => {
  it("does not keep harm from going back, and is written when it is taken again", async () => {
    const { v1, v2 } = await refused(() => tooLong);
    sim.value = 1;
    await pass(10_000);
    expect(owners()).toEqual([v1]);
    expect(sim.status.candidate?.revision).toBe(v2);
    expect(sim.deployments().find(({ metadata }) => metadata.name.endsWith(v2))?.spec.replicas).toBe(0);
    // What has been decided is not forgotten while this operator lives.
    sim.value = 0;
    await pass(60_000, 1_000);
    expect(owners()).toEqual([v1]);
    sim.refusal = () => undefined;
    await pass(15_000);
    expect(sim.status).toMatchObject({ phase: "Degraded", stable: { revision: v1 }, condemned: [v2] });
    expect(sim.status.candidate).toBeUndefined();
    expect(sim.broken).toEqual([]);
  });

  it("obeys an abort", async () => {
    const { v1, v2 } = await refused(() => tooLong);
    await sim.tell("abort", v2);
    await pass(10_000);
    expect(owners()).toEqual([v1]);
    expect(sim.broken).toEqual([]);
  });

  it("gives the candidate nothing, begins nothing, and does not ask all the time", async () => {
    const { v1, v2 } = await refused(() => tooLong, "20s");
    const { writes } = sim;
    await pass(60_000, 1_000);
    expect(sim.owners().get("*")).toBe(v1);
    expect(sim.owners().get("BTCUSDT")).toBe(v2);
    expect(sim.writes - writes).toBeLessThan(40);
    await sim.update(spec(3));
    await pass(10_000);
    expect(sim.deployments()).toHaveLength(2);
    expect(sim.broken).toEqual([]);
  });
});

it("an operator whose writes are refused because another one leads does nothing by itself", async () => {
  const { v2 } = await refused(() => new ApiError("Forbidden", 403, "another operator leads"));
  sim.value = 1;
  await pass(10_000);
  expect(sim.owners().get("BTCUSDT")).toBe(v2);
});

it("while the fence cannot be evaluated that is not taken for a status that is too long", async () => {
  const noLease = `ValidatingAdmissionPolicy '${FENCE_POLICY}' with binding '${FENCE_POLICY}' denied request: no params found`;
  const { v1, v2 } = await refused(() => new ApiError("Invalid", 422, noLease));
  sim.value = 1;
  await pass(10_000);
  expect(sim.owners().get("BTCUSDT")).toBe(v2);
  sim.refusal = () => undefined;
  await pass(70_000);
  expect(owners()).toEqual([v1]);
  // Whole, and not only its facts.
  expect(sim.status.assignments?.map(({ revision }) => revision)).toEqual([v1]);
});
