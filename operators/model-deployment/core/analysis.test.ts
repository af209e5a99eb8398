import { describe, expect, it } from "vitest";
import { analysisTemplateSpec, type Metric } from "../api/analysis.ts";
import { judge } from "./analysis.ts";
import type { Result } from "./observed.ts";

function metric(change: object): Metric {
  const provider = { prometheus: { query: "x{r='{{revision}}'}" } };
  const [parsed] = analysisTemplateSpec.parse({ metrics: [{ name: "m", provider, ...change }] }).metrics;
  if (parsed === undefined) throw new Error("no metric");
  return parsed;
}
const verdict = (change: object, values: Omit<Result, "name" | "at">) => {
  const { verdict: says, reason, message } = judge(metric(change), { name: "m", at: 0, ...values });
  return { says: reason ?? says, message };
};

describe("harm of the candidate's that stable suffers too", () => {
  it.each<[what: string, change: object, value: number, baseline: number | undefined, says: string]>([
    ["above max, both", { threshold: { max: "1" } }, 3, 2, "SharedCause"],
    ["above max, stable at it", { threshold: { max: "1" } }, 3, 1, "Failure"],
    ["above max, stable better than anything", { threshold: { max: "1" } }, 3, -5, "Failure"],
    ["below min, both", { threshold: { min: "1" } }, 0.5, 0.2, "SharedCause"],
    ["above max, stable below min: another harm", { threshold: { max: "10", min: "1" } }, 20, 0, "Failure"],
    ["below min, stable above max: another harm", { threshold: { max: "10", min: "1" } }, 0, 20, "Failure"],
    ["good, stable is not", { threshold: { max: "1" } }, 0.5, 20, "Success"],
    ["stable without a value", { threshold: { max: "1" } }, 3, undefined, "Failure"],
    ["stable without a number", { threshold: { max: "1" } }, 3, Number.NaN, "Failure"],
    ["stable with no end", { threshold: { max: "1" } }, 3, Infinity, "Failure"],
    ["a failure condition, both", { failureCondition: "result > 1.0" }, 3, 2, "SharedCause"],
    ["a failure condition, the candidate alone", { failureCondition: "result > 1.0" }, 3, 1, "Failure"],
    ["a success condition, both", { successCondition: "result < 1.0" }, 3, 2, "SharedCause"],
    ["a success condition, the candidate alone", { successCondition: "result < 1.0" }, 3, 0.5, "Failure"],
    [
      "stable neither good nor bad",
      { failureCondition: "result > 2.0", successCondition: "result < 1.0" },
      3,
      1.5,
      "Failure",
    ],
    [
      "a condition that compares: stable is as good as itself",
      { failureCondition: "result > 1.0 && result > baseline * 1.5" },
      9,
      2,
      "Failure",
    ],
    ["a bound relative to stable beside", { threshold: { max: "1", maxOfBaseline: "2" } }, 5, 2, "Failure"],
    ["within that", { threshold: { max: "1", maxOfBaseline: "2" } }, 4, 2, "SharedCause"],
  ])("%s", (_, change, value, baseline, says) => {
    const values = { value, ...(baseline === undefined ? {} : { baseline }) };
    // Where stable has nothing to compare with, a comparison is inconclusive with or without an excuse.
    expect(verdict({ ...change, sharedCause: {} }, values).says).toBe(says);
  });

  it.each<[margin: object, value: number, says: string]>([
    [{ maxOfBaseline: "3" }, 6, "SharedCause"],
    [{ maxOfBaseline: "3" }, 6.1, "Failure"],
    [{ maxAboveBaseline: "0.5" }, 2.5, "SharedCause"],
    [{ maxAboveBaseline: "0.5" }, 2.6, "Failure"],
    [{ maxAboveBaseline: "10", maxOfBaseline: "3" }, 6.1, "Failure"],
  ])("is harm all the same when it is worse by more than %o: %s", (sharedCause, value, says) => {
    expect(verdict({ threshold: { max: "1" }, sharedCause }, { value, baseline: 2 }).says).toBe(says);
  });

  it("below, likewise", () => {
    const change = { threshold: { min: "10" }, sharedCause: { minOfBaseline: "0.5", minBelowBaseline: "3" } };
    expect(verdict(change, { value: 4, baseline: 6 }).says).toBe("SharedCause");
    expect(verdict(change, { value: 2.9, baseline: 6 }).says).toBe("Failure");
    expect(verdict(change, { value: 4.9, baseline: 8 }).says).toBe("Failure");
  });

  it("does not excuse a margin when nothing is over the bound", () => {
    const change = { threshold: { max: "1" }, sharedCause: { maxOfBaseline: "2" } };
    expect(verdict(change, { value: 0.9, baseline: 0.1 }).says).toBe("Success");
  });
});

describe("a measurement's message", () => {
  it("fits status, however long the condition is", () => {
    const long = { failureCondition: `result > 1.0 && ${"true && ".repeat(100)}true` };
    expect(verdict(long, { value: 2 }).message).toHaveLength(256);
    expect(verdict({ ...long, sharedCause: {} }, { value: 2, baseline: 2 }).message).toHaveLength(256);
    expect(verdict({ threshold: { max: "1" } }, { missing: "x".repeat(500) }).message).toHaveLength(256);
  });

  it.each([
    ["more samples than there are numbers", { value: 0, samples: Infinity }],
    ["samples that are no number", { value: 0, samples: Number.NaN }],
    ["a value that is no number", { value: Number.NaN, samples: 10 }],
    ["a value without end", { value: -Infinity, samples: 10 }],
  ])("is no success with %s", (_, values) => {
    const provider = { prometheus: { query: "x", samplesQuery: "n" } };
    expect(verdict({ threshold: { max: "1" }, minSamples: 10, provider }, values).says).toBe("Inconclusive");
  });
});
