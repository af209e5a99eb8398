import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import { parseAllDocuments } from "yaml";
import { BAD_VALUES, GOOD } from "#tests/support/bad-values.ts";
import { BAD, change, goodSpec, goodTemplate } from "#tests/support/model-deployments.ts";
import { objectProblems, specProblems } from "./lint.ts";

describe("the offline check", () => {
  it("finds nothing wrong with good objects", () => {
    expect(specProblems("ModelDeployment", goodSpec())).toEqual([]);
    expect(specProblems("AnalysisTemplate", goodTemplate())).toEqual([]);
  });

  it.each([...BAD, ...BAD_VALUES].map((bad) => [bad.what, bad] as const))("refuses %s", (_, bad) => {
    const spec = bad.kind === "AnalysisTemplate" ? goodTemplate() : goodSpec();
    for (const [path, value] of bad.changes) change(spec, path, value);
    const problems = specProblems(bad.kind, spec);
    expect(problems.map(({ field }) => field).join(" ")).toContain(bad.field);
    if (bad.says !== undefined) expect(problems.map(({ message }) => message).join()).toContain(bad.says);
  });

  it.each(GOOD.map((good) => [good.what, good] as const))("takes %s", (_, { kind, changes }) => {
    const spec = kind === "AnalysisTemplate" ? goodTemplate() : goodSpec();
    for (const [path, value] of changes) change(spec, path, value);
    expect(specProblems(kind, spec)).toEqual([]);
  });

  it("finds nothing wrong with what is rendered", () => {
    const folder = join(import.meta.dirname, "../../../clusters/local/manifests/models");
    const objects = readdirSync(folder).flatMap((file) =>
      parseAllDocuments(readFileSync(join(folder, file), "utf8")).map((entry) => entry.toJS() as unknown),
    );
    expect(objects.length).toBeGreaterThan(1);
    expect(objects.flatMap(objectProblems)).toEqual([]);
  });

  it("names an unknown field, and a condition that is no expression", () => {
    const spec = change(goodSpec(), "template.spec.hostNetwork", true);
    expect(specProblems("ModelDeployment", spec)[0]?.message).toContain("hostNetwork");
    const wrong = change(goodTemplate(), "metrics.1.successCondition", "result <");
    expect(specProblems("AnalysisTemplate", wrong)[0]?.field).toBe("spec.metrics[1].successCondition");
    const unknown = change(goodTemplate(), "metrics.1.successCondition", "reslut < 1.0");
    expect(specProblems("AnalysisTemplate", unknown)[0]?.message).toContain("reslut");
  });

  it("names another kind, version or nothing at all", () => {
    const object = { apiVersion: "baton.dev/v1alpha1", kind: "ModelDeployment", metadata: { name: "a" } };
    expect(objectProblems({ ...object, spec: goodSpec() })).toEqual([]);
    expect(objectProblems({ ...object, apiVersion: "apps/v1" })[0]?.field).toBe("apiVersion");
    expect(objectProblems({ ...object, kind: "Rollout" })[0]?.field).toBe("kind");
    expect(objectProblems({ ...object, metadata: {} })[0]?.field).toBe("metadata.name");
    const long = { name: "n".repeat(64) };
    expect(objectProblems({ ...object, metadata: long, spec: goodSpec() })).toMatchObject([
      { field: "metadata.name", message: "may not be longer than 63 characters" },
    ]);
    expect(objectProblems(null)[0]?.message).toBe("not an object");
  });
});
