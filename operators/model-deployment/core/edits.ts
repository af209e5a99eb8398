import { createHash } from "node:crypto";
import { REST } from "#runtime/contracts/ledger.ts";
import type { Metric } from "../api/analysis.ts";
import type { CanaryStep, Instrument, ModelDeploymentSpec } from "../api/model-deployment.ts";
import { MAX_METRICS, type MetricStatus, type ModelDeploymentStatus } from "../api/status.ts";
import { type ActiveMetric, activeMetrics, startMetric } from "./analysis.ts";
import type { Observed } from "./observed.ts";
import { time, without } from "./report.ts";
import { canonical } from "./revision.ts";
import { instrumentsOf, stepsOf } from "./steps.ts";

// What a release runs by may be edited while it is on its way. An index, a count or an approval means nothing any more once
// that is something else: status has a hash of it, and an edit by itself gives the candidate nothing.

type Status = ModelDeploymentStatus;

/** Fields of status that hold what a release runs by. */
export const HELD: readonly (keyof Status)[] = ["currentStepHash", "strategy", "editedAt"];
/** Reason of a release that ends because its strategy was edited. */
export const STRATEGY_CHANGED = "StrategyChanged";

const hashOf = (value: unknown): string =>
  createHash("sha256").update(canonical(value)).digest("hex").slice(0, 16);

interface Known {
  readonly instruments: readonly Instrument[];
  readonly hash: string;
}
/** One is asked for with each look at a release. */
const known = new WeakMap<ModelDeploymentSpec, Known>();

/**
 * Hash of what an index into the steps rests on: the steps with the instruments that each gives, the gates between them, and
 * from which of them on the background analysis runs. A release that takes no steps passes no gates.
 */
export function stepHash(
  spec: ModelDeploymentSpec,
  instruments: readonly Instrument[],
  takesNoSteps: boolean,
): string {
  if (takesNoSteps) return "none";
  const before = known.get(spec);
  if (before?.instruments === instruments) return before.hash;
  const steps = stepsOf(spec, instruments).map((step) => [step, resolved(step, spec, instruments)]);
  const hash = hashOf([steps, spec.gates ?? [], spec.analysis?.startingStep ?? 0]);
  known.set(spec, { instruments, hash });
  return hash;
}

/** The instruments that a step gives by itself. Everything is everything, whatever the list has. */
function resolved(
  step: CanaryStep,
  { stream }: ModelDeploymentSpec,
  instruments: readonly Instrument[],
): readonly string[] {
  if (stream === undefined) return [];
  const keys = instrumentsOf(step, instruments);
  return keys.includes(REST) ? [REST] : keys.toSorted();
}

export function strategyOf({ strategy }: ModelDeploymentSpec): NonNullable<Status["strategy"]> {
  return strategy.blueGreen === undefined ? "canary" : "blueGreen";
}

/**
 * The release from its first step again, with what the candidate has. Approvals were for what it ran by; what analysis steps
 * have found good is to be found again, and the harm that they have counted stays with the metric.
 */
export function begunAnew(status: Status, steps: readonly CanaryStep[], hash: string, now: number): Status {
  const at = time(now);
  return {
    ...without(status, ["approvals", "analysis"]),
    ...(status.analysis && { analysis: rescoped(status.analysis, steps, now) }),
    currentStepIndex: 0,
    currentStepHash: hash,
    stepStartedAt: at,
    progressedAt: at,
    editedAt: at,
  };
}

const STEP = /^step-([0-9]+)\/(.*)$/;

/** The metrics of steps as those of the new ones: the first step with a template goes on with the first one's harm, and so on. */
function rescoped(
  analysis: readonly MetricStatus[],
  steps: readonly CanaryStep[],
  now: number,
): MetricStatus[] {
  const result = analysis.filter(({ name }) => !STEP.test(name));
  const before = analysis
    .flatMap((status) => {
      const [, index, metric] = STEP.exec(status.name) ?? [];
      return index === undefined || metric === undefined ? [] : [{ index: Number(index), metric, status }];
    })
    .toSorted((a, b) => a.index - b.index);
  const kept = new Map<string, MetricStatus>();
  const counts = new Map<string, number>();
  for (const { metric, status } of before) {
    const [template = ""] = metric.split("/");
    const places = steps.flatMap(({ analysis: own }, i) =>
      own?.templates.some(({ name }) => name === template) === true ? [i] : [],
    );
    const nth = counts.get(metric) ?? 0;
    counts.set(metric, nth + 1);
    const place = places[Math.min(nth, places.length - 1)];
    if (place === undefined || status.failures === 0) continue;
    const name = `step-${place}/${metric}`;
    const failures = Math.max(status.failures, kept.get(name)?.failures ?? 0);
    const { metricHash } = status;
    kept.set(name, { ...startMetric(name, now), failures, ...(metricHash && { metricHash }) });
  }
  return [...result, ...kept.values()];
}

/** What background metrics and limits have counted of harm, for them to go on from in another release of the same revision. */
export function harmOf(analysis: readonly MetricStatus[], now: number): MetricStatus[] {
  return analysis
    .filter(({ name, failures }) => failures > 0 && !STEP.test(name))
    .map(({ name, failures, metricHash }) => ({
      ...startMetric(name, now),
      failures,
      ...(metricHash && { metricHash }),
    }));
}

/** The latest hash of each metric: one is asked for with each look at a release. */
const metricHashes = new WeakMap<Metric, { readonly of: string; readonly hash: string }>();

/** Hash of a metric as it is measured of a revision: a result by another one says nothing of it. */
export function metricHash(revision: string, metric: Metric, args: Readonly<Record<string, string>>): string {
  const of = JSON.stringify([revision, args]);
  const before = metricHashes.get(metric);
  if (before?.of === of) return before.hash;
  const hash = hashOf([revision, metric, args]);
  metricHashes.set(metric, { of, hash });
  return hash;
}

/** A metric's status to go on from. One that was edited is measured anew, and holds until it is good; its harm stays counted. */
export function continued(
  before: MetricStatus | undefined,
  { name, metric, hash }: ActiveMetric & { readonly hash: string },
  now: number,
): MetricStatus {
  if (before === undefined) return { ...startMetric(name, now), metricHash: hash };
  if (before.metricHash === hash) return before;
  // From before there were hashes.
  if (before.metricHash === undefined) return { ...before, metricHash: hash };
  const { failures, measurements } = before;
  return {
    ...startMetric(name, now),
    phase: failures > metric.failureLimit ? "Failed" : "Inconclusive",
    failures,
    measurements,
    metricHash: hash,
    restarted: true,
  };
}

/** One that was edited is inconclusive until it has been good once, whatever it bears. */
export function unproven(status: MetricStatus): MetricStatus {
  if (status.restarted !== true) return status;
  if (status.successes === 0) {
    return status.phase === "Running" ? { ...status, phase: "Inconclusive" } : status;
  }
  const { restarted: _, ...proven } = status;
  return proven;
}

export interface Kept {
  readonly analysis: readonly MetricStatus[];
  /** Something that the release waited for, or was to wait for, is not measured any more. */
  readonly isEvidenceGone: boolean;
}

/** Without the metrics that the spec and its templates do not have any more; and no more of them than status has room for. */
export function withoutRemoved(
  { object, templates, invalid }: Observed,
  index: number,
  active: readonly ActiveMetric[],
  analysis: readonly MetricStatus[],
): Kept {
  const background = object.spec.analysis?.templates ?? [];
  const names = new Set([
    ...active.map(({ name }) => name),
    ...activeMetrics("background", background, templates).map(({ name }) => name),
  ]);
  const scopes = ["limit/", "background/", `step-${index}/`];
  // What is missing of a spec that cannot be acted on was not taken away.
  const isGone = ({ name, phase }: MetricStatus) =>
    invalid === undefined &&
    phase !== "Failed" &&
    !names.has(name) &&
    scopes.some((scope) => name.startsWith(scope));
  const isEvidenceGone = analysis.some(
    (status) => isGone(status) && (status.successes === 0 || status.phase === "Inconclusive"),
  );
  const there = analysis.filter((status) => !isGone(status));
  return { analysis: bounded(there, active), isEvidenceGone };
}

/** Those that are measured, and the latest of the others. */
function bounded(
  analysis: readonly MetricStatus[],
  active: readonly ActiveMetric[],
): readonly MetricStatus[] {
  let excess = analysis.length - MAX_METRICS;
  if (excess <= 0) return analysis;
  const names = new Set(active.map(({ name }) => name));
  return analysis.filter(({ name }) => names.has(name) || excess-- <= 0);
}
