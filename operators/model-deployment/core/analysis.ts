import { cut } from "#operators/controller-kit/text.ts";
import type { AnalysisTemplateSpec, Metric, TemplateRef } from "../api/analysis.ts";
import { conditionHolds } from "../api/cel.ts";
import { milliseconds } from "../api/kit.ts";
import type { Measurement, MetricStatus } from "../api/status.ts";
import type { Result } from "./observed.ts";

// What measurements mean. Missing evidence is never success: no number, too few samples, nothing to compare with is
// inconclusive.

/** A metric of a template as a release uses it. */
export interface ActiveMetric {
  /** scope/template/metric */
  readonly name: string;
  readonly metric: Metric;
  readonly args: Readonly<Record<string, string>>;
}

/** Measurements of a metric that status keeps. */
const KEPT = 5;

/** The metrics of templates in a scope; those of a template that is not there are left out. */
export function activeMetrics(
  scope: string,
  refs: readonly TemplateRef[],
  templates: ReadonlyMap<string, AnalysisTemplateSpec>,
): readonly ActiveMetric[] {
  return refs.flatMap((ref) => {
    const template = templates.get(ref.name);
    if (template === undefined) return [];
    const args: Record<string, string> = {};
    for (const { name, value } of template.args ?? []) if (value !== undefined) args[name] = value;
    for (const { name, value } of ref.args ?? []) args[name] = value;
    return template.metrics.map((metric) => ({ name: `${scope}/${ref.name}/${metric.name}`, metric, args }));
  });
}

/** Whether a metric compares the candidate with the stable revision. */
export function needsBaseline({ threshold, successCondition = "", failureCondition = "" }: Metric): boolean {
  const { maxAboveBaseline, minBelowBaseline, maxOfBaseline, minOfBaseline } = threshold ?? {};
  const bounds = [maxAboveBaseline, minBelowBaseline, maxOfBaseline, minOfBaseline];
  return (
    bounds.some((bound) => bound !== undefined) ||
    `${successCondition} ${failureCondition}`.includes("baseline")
  );
}

/** What one measurement says. */
export function judge(metric: Metric, result: Result): Measurement {
  const { at, value, baseline, samples, error } = result;
  const shown = {
    at: new Date(at).toISOString(),
    ...(value === undefined ? {} : { value: String(value) }),
    ...(baseline === undefined ? {} : { baseline: String(baseline) }),
  };
  const inconclusive = (message: string): Measurement => ({ ...shown, verdict: "Inconclusive", message });
  if (error !== undefined) return { ...shown, verdict: "Error", message: cut(error, 256) };
  if (value === undefined || !Number.isFinite(value)) return inconclusive("no number");
  if (metric.minSamples !== undefined && !((samples ?? 0) >= metric.minSamples)) {
    return inconclusive(`${samples ?? 0} samples, fewer than ${metric.minSamples}`);
  }
  if (needsBaseline(metric) && (baseline === undefined || !Number.isFinite(baseline))) {
    return inconclusive("no baseline");
  }
  try {
    const harm = harmOf(metric, value, baseline ?? Number.NaN);
    if (harm === "unclear") return inconclusive("neither success nor failure");
    return harm === undefined
      ? { ...shown, verdict: "Success" }
      : { ...shown, verdict: "Failure", message: harm };
  } catch (cause) {
    return { ...shown, verdict: "Error", message: cut((cause as Error).message, 256) };
  }
}

/** Why a value is harm; undefined when it is none. */
function harmOf(metric: Metric, value: number, baseline: number): string | undefined {
  const { successCondition: success, failureCondition: failure } = metric;
  const threshold = metric.threshold ?? defaultThreshold(metric);
  if (threshold === undefined) {
    if (failure !== undefined && conditionHolds(failure, value, baseline)) return failure;
    if (success === undefined) return undefined;
    if (conditionHolds(success, value, baseline)) return undefined;
    return failure === undefined ? `not ${success}` : "unclear";
  }
  const { max, min, maxAboveBaseline, minBelowBaseline, maxOfBaseline, minOfBaseline } = threshold;
  const upper = [
    [max, Number(max)],
    [maxAboveBaseline, baseline + Number(maxAboveBaseline)],
    [maxOfBaseline, baseline * Number(maxOfBaseline)],
  ] as const;
  const lower = [
    [min, Number(min)],
    [minBelowBaseline, baseline - Number(minBelowBaseline)],
    [minOfBaseline, baseline * Number(minOfBaseline)],
  ] as const;
  const over = upper.find(([given, bound]) => given !== undefined && value > bound);
  if (over !== undefined) return `${value} is above ${over[1]}`;
  const under = lower.find(([given, bound]) => given !== undefined && value < bound);
  return under === undefined ? undefined : `${value} is below ${under[1]}`;
}

/** A Job that did not end well is harm, where nothing else is said. */
function defaultThreshold({ provider, successCondition, failureCondition }: Metric): Metric["threshold"] {
  const silent = successCondition === undefined && failureCondition === undefined;
  return provider.job !== undefined && silent ? { min: "1" } : undefined;
}

export function startMetric(name: string, now: number): MetricStatus {
  const counts = { successes: 0, failures: 0, inconclusive: 0, errors: 0 };
  return { name, startedAt: new Date(now).toISOString(), phase: "Running", ...counts, measurements: [] };
}

/** A metric's status with one more measurement. */
export function addMeasurement(status: MetricStatus, metric: Metric, measurement: Measurement): MetricStatus {
  const { verdict } = measurement;
  const successes = status.successes + (verdict === "Success" ? 1 : 0);
  const failures = status.failures + (verdict === "Failure" ? 1 : 0);
  const inconclusive = verdict === "Inconclusive" ? status.inconclusive + 1 : 0;
  const errors = verdict === "Error" ? status.errors + 1 : 0;
  const measurements = [...status.measurements, measurement].slice(-KEPT);
  let phase: MetricStatus["phase"] = "Running";
  if (status.phase === "Failed" || failures > metric.failureLimit) phase = "Failed";
  else if (inconclusive > metric.inconclusiveLimit || errors > metric.consecutiveErrorLimit)
    phase = "Inconclusive";
  // Only what was good counts towards the end: failures that are borne, errors and gaps prolong it.
  else if (metric.count !== undefined && successes >= metric.count) phase = "Successful";
  return { ...status, phase, successes, failures, inconclusive, errors, measurements };
}

/** Milliseconds since 1970 at which a metric is to be measured next; undefined when it is done. */
export function dueAt(status: MetricStatus, metric: Metric): number | undefined {
  if (status.phase === "Failed" || status.phase === "Successful") return undefined;
  const last = status.measurements.at(-1);
  if (last !== undefined) return Date.parse(last.at) + milliseconds(metric.interval);
  return (
    Date.parse(status.startedAt) + (metric.initialDelay === undefined ? 0 : milliseconds(metric.initialDelay))
  );
}
