import type { Metric } from "../api/analysis.ts";
import type { ModelDeploymentSpec } from "../api/model-deployment.ts";
import { type Decision, MAX_METRICS, type MetricStatus } from "../api/status.ts";
import {
  type ActiveMetric,
  activeMetrics,
  addMeasurement,
  dueAt,
  hasSharedCause,
  judge,
  startMetric,
} from "./analysis.ts";
import { continued, metricHash, unproven, withoutRemoved } from "./edits.ts";
import type { Hold } from "./holds.ts";
import type { Effect, Observed, RevisionView } from "./observed.ts";
import type { Release } from "./release.ts";
import { ownsAny } from "./steps.ts";

// What is measured and seen of a candidate, whether it is still being tried or is to be promoted, and whether it does harm.

/** A candidate that decides on something and has had no replica for so long is taken back. */
export const DOWN_MS = 10_000;

/** What is seen of a candidate, whether it is still being tried or is to be promoted. */
export interface Watched {
  readonly metrics: readonly ActiveMetric[];
  readonly analysis: readonly MetricStatus[];
  /** A metric without good evidence is not measured any more: the spec or its template was edited. */
  readonly isEvidenceGone: boolean;
  /** What is to be measured now. */
  readonly effects: readonly Effect[];
  readonly due: readonly number[];
  /** It does harm: what is to become of it. */
  readonly harm: Omit<Decision, "at"> | undefined;
  /** Stable suffers as much: nothing is decided by it, and nothing goes on until it is over. */
  readonly shared: Hold | undefined;
}

export function watch(
  observed: Observed,
  release: Pick<Release, "candidate" | "stable" | "steps" | "index"> & Partial<Pick<Release, "editedAt">>,
  analysisBefore: readonly MetricStatus[],
): Watched {
  const { now, revisions, stream } = observed;
  const { candidate, stable } = release;
  const metrics = metricsOf(observed, release);
  const { analysis, isEvidenceGone } = measured(observed, release.index, metrics, analysisBefore);
  const effects: Effect[] = [];
  const due: number[] = [];
  for (const metric of metrics) {
    const state = statusOf(analysis, metric.name, now);
    const at = dueAt(state, metric.metric);
    if (at === undefined) continue;
    const run = `${candidate} ${metric.name} ${metric.hash} ${state.measurements.at(-1)?.at ?? state.startedAt}`;
    if (at > now) due.push(at);
    else effects.push({ kind: "Measure", ...metric, candidate, stable, run });
  }
  const shared = sharedHold(metrics, analysis, now);
  const seen = (harm?: Omit<Decision, "at">): Watched => ({
    metrics,
    analysis,
    isEvidenceGone,
    effects,
    due,
    harm,
    shared,
  });

  const failed = analysis.find(({ phase }) => phase === "Failed");
  if (failed !== undefined) return seen(rollback(candidate, "AnalysisFailed", describe(failed)));
  const view = revisions.find(({ revision }) => revision === candidate);
  const downSince = downWhileDeciding(observed, release, view);
  if (downSince !== undefined && now - downSince > DOWN_MS) {
    const message = `it has had no replica for ${DOWN_MS / 1000} s`;
    return seen(rollback(candidate, "CandidateUnavailable", message));
  }
  if (downSince !== undefined) due.push(downSince + DOWN_MS + 1);
  if (view?.deviation !== undefined && stream !== undefined && ownsAny(candidate, stream.owners))
    return seen(rollback(candidate, "Incoherent", view.deviation));
  return seen();
}

/** What stable suffers too is no fault of the candidate's, and no deadline counts it. */
function sharedHold(
  metrics: readonly ActiveMetric[],
  analysis: readonly MetricStatus[],
  now: number,
): Hold | undefined {
  const found = metrics
    .map(({ name }) => statusOf(analysis, name, now))
    .find((status) => hasSharedCause(status));
  if (found === undefined) return undefined;
  return { reason: "SharedCause", message: `a shared cause: ${describe(found)}`, paused: true };
}

/** Since when a candidate that decides on something has had no replica, while stable has some. */
function downWhileDeciding(
  { revisions, stream }: Observed,
  {
    candidate,
    stable,
    index,
    editedAt,
  }: Pick<Release, "candidate" | "stable" | "index"> & Partial<Pick<Release, "editedAt">>,
  view: RevisionView | undefined,
): number | undefined {
  // One that begins its steps anew has what it has.
  const began = index > 0 || editedAt !== undefined;
  const decides = stream === undefined ? began : stream.reachable && ownsAny(candidate, stream.owners);
  const alive = revisions.some(({ revision, available }) => revision === stable && available > 0);
  return decides && alive && view?.available === 0 ? view.downSince : undefined;
}

function metricsOf(
  observed: Observed,
  { candidate, index, steps }: Pick<Release, "candidate" | "index" | "steps">,
): readonly HeldMetric[] {
  const { spec } = observed.object;
  const background =
    spec.analysis !== undefined && index >= spec.analysis.startingStep
      ? activeMetrics("background", spec.analysis.templates, observed.templates)
      : [];
  const own = steps[index]?.analysis;
  // More than there is room for is no legal spec, and may be what it was edited to: hard limits come first.
  return [
    ...(spec.limits ?? []).map(limitMetric),
    ...background,
    ...(own === undefined ? [] : activeMetrics(`step-${index}`, own.templates, observed.templates)),
  ]
    .slice(0, MAX_METRICS)
    .map((active) => ({ ...active, hash: metricHash(candidate, active.metric, active.args) }));
}

type Limit = NonNullable<ModelDeploymentSpec["limits"]>[number];
/** A limit is never changed; another one is another object. */
const limitMetrics = new WeakMap<Limit, ActiveMetric>();

/** A hard limit: looked at each second, and the first time it is passed ends the release. Not knowing it holds. */
function limitMetric(limit: Limit): ActiveMetric {
  const known = limitMetrics.get(limit);
  if (known !== undefined) return known;
  const { name, query, max } = limit;
  const metric: Metric = {
    name,
    interval: "1s",
    window: "60s",
    threshold: { max },
    failureLimit: 0,
    inconclusiveLimit: 0,
    consecutiveErrorLimit: 4,
    provider: { prometheus: { query } },
  };
  const active = { name: `limit/${name}`, metric, args: {} };
  limitMetrics.set(limit, active);
  return active;
}

/** A metric as it is defined now. */
type HeldMetric = ActiveMetric & { readonly hash: string };

/** The metrics' status with what has been measured; those of steps that are over stay as they are. */
function measured(
  observed: Observed,
  index: number,
  metrics: readonly HeldMetric[],
  before: readonly MetricStatus[],
): ReturnType<typeof withoutRemoved> {
  const now = new Map(before.map((status) => [status.name, status]));
  for (const active of metrics) {
    const { name, metric, hash } = active;
    let status = continued(now.get(name), active, observed.now);
    for (const result of observed.results) {
      // One that was asked for by another definition, or of another revision, says nothing of this one.
      if (result.name !== name || (result.hash ?? hash) !== hash) continue;
      status = addMeasurement(status, metric, judge(metric, result));
    }
    now.set(name, unproven(status));
  }
  const all = [...now.values()];
  return withoutRemoved(observed, index, metrics, all);
}

export function statusOf(analysis: readonly MetricStatus[], name: string, now: number): MetricStatus {
  return analysis.find((status) => status.name === name) ?? startMetric(name, now);
}

export function describe({ name, measurements, restarted, phase }: MetricStatus): string {
  if (restarted === true && phase !== "Failed")
    return `${name}: it was edited, and no good measurement since`;
  const last = measurements.at(-1);
  return `${name}: ${last?.message ?? last?.verdict ?? "not measured"}`;
}

function rollback(revision: string, reason: string, message: string): Omit<Decision, "at"> {
  return { kind: "Rollback", revision, reason, message };
}

/** What has not got further for as long as it may goes back. */
export function late(revision: string, holds: Hold | undefined): Omit<Decision, "at"> {
  const message = `no progress in time: ${holds?.message ?? "not known why"}`;
  return rollback(revision, "ProgressDeadlineExceeded", message);
}
