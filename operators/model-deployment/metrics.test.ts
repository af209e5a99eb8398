import { Registry } from "prom-client";
import { describe, expect, it } from "vitest";
import { specOf, World } from "#tests/support/deployment-world.ts";
import { analysisTemplateSpec } from "./api/analysis.ts";
import { OperatorMetrics } from "./metrics.ts";

const setUp = () => {
  const registry = new Registry();
  const metrics = new OperatorMetrics(registry, () => 0);
  const spec = (version: string) =>
    specOf(version, (draft) => {
      draft["analysis"] = { templates: [{ name: "errors" }], startingStep: 0 };
    });
  const world = new World(spec("1.0.0"));
  const provider = { prometheus: { query: "x" } };
  const metric = { name: "rate", interval: "1s", threshold: { max: "0.5" }, provider };
  world.templates.set("errors", analysisTemplateSpec.parse({ metrics: [metric] }));
  const pass = () => {
    const before = world.status;
    world.pass();
    metrics.observe("trading/momentum", before, world.status);
  };
  const passes = (count: number) => {
    for (let i = 0; i < count; i++) pass();
  };
  const value = async (name: string, labels: Record<string, string> = {}) => {
    const found = await registry.getSingleMetric(name)?.get();
    return found?.values.find(
      (one) =>
        Object.entries(labels).every(([key, is]) => one.labels[key as never] === is) &&
        (!("metricName" in one) || String(one.metricName).endsWith("_count")),
    )?.value;
  };
  return { metrics, world, spec, passes, value };
};

describe("the operator's metrics", () => {
  it("say how each object stands, and nothing any more of one that is gone", async () => {
    const { metrics, world, spec, passes, value } = setUp();
    passes(5);
    expect(await value("baton_deployment_phase", { name: "momentum", phase: "Healthy" })).toBe(1);
    expect(await value("baton_deployment_step")).toBeUndefined();
    world.update(spec("2.0.0"));
    world.measure = () => ({ value: 0.25 });
    passes(12);
    expect(await value("baton_deployment_phase", { phase: "Paused" })).toBe(1);
    expect(await value("baton_deployment_phase", { phase: "Healthy" })).toBe(0);
    expect(await value("baton_deployment_step", { namespace: "trading" })).toBe(1);
    const measured = { metric: "background/errors/rate", side: "candidate" };
    expect(await value("baton_deployment_measurement", measured)).toBe(0.25);
    metrics.forget("trading/momentum");
    expect(await value("baton_deployment_phase", { phase: "Paused" })).toBeUndefined();
  });

  it("count measurements by verdict and releases by their end, each once", async () => {
    const { world, spec, passes, value } = setUp();
    passes(5);
    expect(await value("baton_release_seconds", { status: "Promoted" })).toBe(1);
    world.update(spec("2.0.0"));
    passes(12);
    const good = await value("baton_release_measurements_total", { verdict: "Success" });
    expect(good).toBeGreaterThan(0);
    passes(3);
    expect(await value("baton_release_measurements_total", { verdict: "Success" })).toBe(good);
    world.measure = () => ({ value: 1 });
    for (let i = 0; i < 3; i++) {
      world.now += 1_000;
      passes(4);
    }
    expect(await value("baton_release_measurements_total", { verdict: "Failure" })).toBe(1);
    expect(await value("baton_release_seconds", { status: "RolledBack" })).toBe(1);
  });
});
