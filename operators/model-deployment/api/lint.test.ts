import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import { parseAllDocuments } from "yaml";
import { BAD_VALUES, GOOD } from "#tests/support/bad-values.ts";
import { BAD, change, goodSpec, goodTemplate } from "#tests/support/model-deployments.ts";
import { objectProblems, problemsTogether, ruleProblems, specProblems } from "./lint.ts";

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

describe("what the API server cannot check", () => {
  const query = "metrics.1.provider.prometheus.query";
  const template = (text: string) => change(goodTemplate(), query, text);

  it.each([
    ["{{args.typo}}", "{{args.typo}} is none of revision, namespace, deployment, window, args.max"],
    ["{{constructor}}", "none of revision"],
    ["x {{revision}}", "{{revision}} stands outside quotes"],
    ["x{r=`{{args.max}}`} {{args.other}}", "{{args.other}} is none of"],
  ])("names %s with its field", (text, says) => {
    const [problem] = specProblems("AnalysisTemplate", template(text));
    expect(problem?.field).toBe("spec.metrics[1].provider.prometheus.query");
    expect(problem?.message).toContain(says);
  });

  it("names an argument in a limit, which has none, and a default that does not fit where it stands", () => {
    const spec = change(goodSpec(), "limits", [{ name: "loss", query: "x > {{args.max}}", max: "1" }]);
    expect(specProblems("ModelDeployment", spec)).toMatchObject([{ field: "spec.limits[0].query" }]);
    const wrong = change(template("x > {{args.max}}"), "args.0.value", "1 or vector(0)");
    expect(specProblems("AnalysisTemplate", wrong)[0]?.message).toContain("no number, duration or name");
  });

  it("takes an argument that whoever uses the template gives", () => {
    const open = change(template("x > {{args.max}}"), "args.0.value", undefined);
    expect(specProblems("AnalysisTemplate", open)).toEqual([]);
  });

  it("names a rule that cannot be evaluated, and the field, and does not end there", () => {
    const spec = change(goodSpec(), "instruments.0.volumeShare", "half");
    expect(ruleProblems("ModelDeployment", change(spec, "stream.topics", []))).toMatchObject([
      { field: "spec.instruments[0].volumeShare", message: expect.stringContaining("from 0 to 1 (") },
    ]);
    for (const odd of [null, [], "x", { strategy: null }, { limits: [null] }, { metrics: [{}] }])
      for (const kind of ["ModelDeployment", "AnalysisTemplate", "InstrumentSet", "Rollout"])
        expect(specProblems(kind, odd).length).toBeGreaterThan(0);
  });

  describe("of objects that are applied together", () => {
    const named = (kind: string, name: string, spec: object, namespace = "trading") => ({
      apiVersion: "baton.dev/v1alpha1",
      kind,
      metadata: { name, namespace },
      spec,
    });
    const using = (args: readonly object[]) => {
      const spec = change(goodSpec(), "analysis.templates.0", { name: "error-rate", args });
      return change(spec, "strategy.canary.steps.3.analysis.templates.0", { name: "error-rate", args });
    };
    const together = (args: readonly object[], text: string, namespace?: string) =>
      problemsTogether([
        named("ModelDeployment", "echo", using(args)),
        named("AnalysisTemplate", "error-rate", change(template(text), "args.0.value", undefined), namespace),
      ])[0]?.map(({ field, message }) => `${field}: ${message}`);

    it("finds nothing where every argument is given and fits", () => {
      expect(together([{ name: "max", value: "0.5" }], "x > {{args.max}}")).toEqual([]);
    });

    it("names an argument that is not given, is not known, or does not fit", () => {
      expect(together([], "x > {{args.max}}")).toEqual([
        expect.stringMatching(/^spec\.analysis\.templates\[0\]: error-rate: .*{{args\.max}} is none of/),
        expect.stringMatching(/^spec\.strategy\.canary\.steps\[3\]\.analysis\.templates\[0\]: error-rate/),
      ]);
      expect(together([{ name: "mox", value: "1" }], "x")?.[0]).toBe(
        "spec.analysis.templates[0].args[0].name: error-rate has no argument mox",
      );
      expect(together([{ name: "max", value: "1 or vector(0)" }], "x > {{args.max}}")?.[0]).toContain(
        "no number, duration or name of a metric",
      );
    });

    it("does not take a template of another namespace for it", () => {
      expect(together([], "x > {{args.max}}", "other")).toEqual([]);
    });
  });
});
