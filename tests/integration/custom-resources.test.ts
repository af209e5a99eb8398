import { mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, inject, it } from "vitest";
import { BAD_VALUES, GOOD } from "#tests/support/bad-values.ts";
import { baton } from "#tests/support/baton.ts";
import { create } from "#tests/support/custom-resources.ts";
import { PodBench } from "#tests/support/kubernetes.ts";
import { BAD, change, goodSpec, goodTemplate } from "#tests/support/model-deployments.ts";

// Our kinds as the real API server takes and refuses them.

const bench = new PodBench(inject("cluster"));
beforeAll(() => bench.open());
afterAll(() => bench.close());

describe("the API server", () => {
  it("takes good objects and fills in what they leave out", async () => {
    const { object, refusal } = await create(
      bench.config,
      bench.namespace,
      "ModelDeployment",
      "good",
      goodSpec(),
    );
    expect(refusal).toBeUndefined();
    expect(object?.["spec"]).toMatchObject({
      paused: false,
      progressDeadlineSeconds: 600,
      model: { format: "onnx" },
      stream: { releaseSeconds: 15, takeSeconds: 30 },
      template: { spec: { terminationGracePeriodSeconds: 30 } },
    });
    const template = await create(bench.config, bench.namespace, "AnalysisTemplate", "good", goodTemplate());
    expect(template.refusal).toBeUndefined();
    const blueGreen = change(goodSpec(), "strategy", { blueGreen: {} });
    const other = await create(bench.config, bench.namespace, "ModelDeployment", "blue-green", blueGreen);
    expect(other.object?.["spec"]).toMatchObject({
      strategy: { blueGreen: { autoPromotionEnabled: true, scaleDownDelaySeconds: 86_400 } },
    });
  });

  it.each([...BAD, ...BAD_VALUES].map((bad) => [bad.what, bad] as const))("refuses %s", async (_, bad) => {
    const spec = bad.kind === "AnalysisTemplate" ? goodTemplate() : goodSpec();
    for (const [path, value] of bad.changes) change(spec, path, value);
    const { refusal } = await create(bench.config, bench.namespace, bad.kind, "bad", spec, "All");
    expect(refusal).toContain(bad.field);
    if (bad.says !== undefined) expect(refusal).toContain(bad.says);
  });

  it.each(GOOD.map((good) => [good.what, good] as const))("takes %s", async (what, { kind, changes }) => {
    const spec = kind === "AnalysisTemplate" ? goodTemplate() : goodSpec();
    for (const [path, value] of changes) change(spec, path, value);
    const name = `good-${GOOD.findIndex((good) => good.what === what)}`;
    expect((await create(bench.config, bench.namespace, kind, name, spec)).refusal).toBeUndefined();
  });

  it("refuses what a pod could reach out with, by name", async () => {
    for (const [path, value] of [
      ["template.spec.hostNetwork", true],
      ["template.spec.containers.0.securityContext", { privileged: true }],
      ["template.spec.volumes", [{ name: "host", hostPath: { path: "/" } }]],
      ["instrumentSetRef", { name: "all", namespace: "other" }],
    ] as const) {
      const { refusal } = await create(
        bench.config,
        bench.namespace,
        "ModelDeployment",
        "bad",
        change(goodSpec(), path, value),
        "All",
      );
      expect(refusal).toMatch(/unknown field/);
    }
  });
});

it("baton lint says the same of a file, without a cluster, and ends with 1 where something is wrong", async () => {
  const example = join(import.meta.dirname, "../../clusters/local/manifests/models/momentum.yaml");
  const good = await baton({}, "lint", example);
  expect(good).toMatchObject({ code: 0 });
  expect(good.output).toContain("nothing wrong");
  const folder = await mkdtemp(join(tmpdir(), "lint-"));
  const text = await readFile(example, "utf8");
  await writeFile(
    join(folder, "bad.yaml"),
    text.replace("tier: medium", "tier: huge").replace("all: true", "all: true\n            tier: low"),
  );
  const bad = await baton({}, "lint", join(folder, "bad.yaml"), "--json");
  await rm(folder, { recursive: true });
  expect(bad).toMatchObject({ code: 1 });
  expect(bad.output).toContain("spec.strategy.canary.steps[4].setInstruments.tier");
  const missing = await baton({}, "lint", join(folder, "bad.yaml"));
  expect(missing).toMatchObject({ code: 1 });
  expect(missing.output).toContain("no such file");
});
