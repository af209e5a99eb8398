import { cut } from "#operators/controller-kit/text.ts";
import type { AnalysisTemplateSpec, Metric, TemplateRef } from "../api/analysis.ts";
import { conditionHolds, firstLine } from "../api/cel.ts";
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

type Bounds = NonNullable<Metric["threshold"]>;

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

/** Most of a message that status takes. */
const MESSAGE = 256;

/** What one measurement says. */
export function judge(metric: Metric, result: Result): Measurement {
  const { at, value, baseline, samples, error, missing, noBaseline } = result;
  const shown = {
    at: new Date(at).toISOString(),
    ...(value === undefined ? {} : { value: String(value) }),
    ...(baseline === undefined ? {} : { baseline: String(baseline) }),
  };
  const says = (verdict: Measurement["verdict"], message: string): Measurement => ({
    ...shown,
    verdict,
    message: cut(message, MESSAGE),
  });
  const without = (what: string, instead?: string) =>
    says("Inconclusive", instead === undefined ? what : `${what}: ${instead}`);
  if (error !== undefined) return says("Error", error);
  if (value === undefined || !Number.isFinite(value)) return without("no number", missing);
  if (!areEnough(metric, samples))
    return says("Inconclusive", `${samples ?? 0} samples, fewer than ${metric.minSamples}`);
  if (needsBaseline(metric) && (baseline === undefined || !Number.isFinite(baseline)))
    return without("no baseline", noBaseline);
  try {
    const harm = harmOf(metric, value, baseline ?? Number.NaN);
    if (harm === UNCLEAR) return says("Inconclusive", UNCLEAR);
    if (harm === undefined) return { ...shown, verdict: "Success" };
    if (!isShared(metric, value, result)) return says("Failure", harm);
    const both = `${value} with the candidate and ${baseline} with stable: ${harm}`;
    return { ...says("Inconclusive", both), reason: "SharedCause" };
  } catch (cause) {
    return says("Error", firstLine((cause as Error).message));
  }
}

/** A count that is no number, or infinite, is no count. */
function areEnough({ minSamples }: Metric, samples = 0): boolean {
  return minSamples === undefined || (Number.isFinite(samples) && samples >= minSamples);
}

/**
 * Whether stable breaks the same bound in the same window, and the candidate is not worse than stable by more than it may.
 * An excuse needs evidence: without a value of stable there is none.
 */
function isShared(metric: Metric, value: number, { baseline, baselineSamples }: Result): boolean {
  const { sharedCause, threshold = defaultThreshold(metric) } = metric;
  if (sharedCause === undefined || baseline === undefined || !Number.isFinite(baseline)) return false;
  if (!areEnough(metric, baselineSamples)) return false;
  const isWorse = [sharedCause, threshold ?? {}].some((bounds) => relativeHarm(bounds, value, baseline));
  if (isWorse) return false;
  if (threshold === undefined) {
    const harm = harmOf(metric, baseline, baseline);
    return harm !== undefined && harm !== UNCLEAR;
  }
  const { max, min } = threshold;
  return [
    max !== undefined && value > Number(max) && baseline > Number(max),
    min !== undefined && value < Number(min) && baseline < Number(min),
  ].some(Boolean);
}

const UNCLEAR = "neither success nor failure";

/** Why a value is harm; undefined when it is none. */
function harmOf(metric: Metric, value: number, baseline: number): string | undefined {
  const { successCondition: success, failureCondition: failure } = metric;
  const threshold = metric.threshold ?? defaultThreshold(metric);
  if (threshold === undefined) {
    if (failure !== undefined && conditionHolds(failure, value, baseline)) return failure;
    if (success === undefined) return undefined;
    if (conditionHolds(success, value, baseline)) return undefined;
    return failure === undefined ? `not ${success}` : UNCLEAR;
  }
  const { max, min } = threshold;
  if (max !== undefined && value > Number(max)) return above(value, Number(max));
  if (min !== undefined && value < Number(min)) return below(value, Number(min));
  return relativeHarm(threshold, value, baseline);
}

const above = (value: number, bound: number) => `${value} is above ${bound}`;
const below = (value: number, bound: number) => `${value} is below ${bound}`;

/** Why a value is harm in comparison with the baseline; undefined when it is none. */
function relativeHarm(
  { maxAboveBaseline, minBelowBaseline, maxOfBaseline, minOfBaseline }: Omit<Bounds, "max" | "min">,
  value: number,
  baseline: number,
): string | undefined {
  const upper = [
    maxAboveBaseline === undefined ? Infinity : baseline + Number(maxAboveBaseline),
    maxOfBaseline === undefined ? Infinity : baseline * Number(maxOfBaseline),
  ].find((bound) => !(value <= bound));
  if (upper !== undefined) return above(value, upper);
  const lower = [
    minBelowBaseline === undefined ? -Infinity : baseline - Number(minBelowBaseline),
    minOfBaseline === undefined ? -Infinity : baseline * Number(minOfBaseline),
  ].find((bound) => !(value >= bound));
  return lower === undefined ? undefined : below(value, lower);
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
  const { verdict, reason } = measurement;
  const successes = status.successes + (verdict === "Success" ? 1 : 0);
  const failures = status.failures + (verdict === "Failure" ? 1 : 0);
  // There was evidence, of what the candidate is not the cause of.
  const isGap = verdict === "Inconclusive" && reason !== "SharedCause";
  const inconclusive = isGap ? status.inconclusive + 1 : 0;
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

/** Whether a metric's last measurement is of harm that stable suffers too. */
export function hasSharedCause({ phase, measurements }: MetricStatus): boolean {
  return phase === "Running" && measurements.at(-1)?.reason === "SharedCause";
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
