import { REST } from "#runtime/contracts/ledger.ts";
import type { Metric } from "../api/analysis.ts";
import { milliseconds } from "../api/kit.ts";
import type { CanaryStep, ModelDeploymentSpec } from "../api/model-deployment.ts";
import { type Decision, MAX_METRICS, type MetricStatus } from "../api/status.ts";
import { type ActiveMetric, activeMetrics, addMeasurement, dueAt, judge, startMetric } from "./analysis.ts";
import { continued, metricHash, unproven, withoutRemoved } from "./edits.ts";
import { type Closed, describeGate, gateAt } from "./gates.ts";
import type { Effect, Observed, RevisionView, StreamView } from "./observed.ts";
import { templateOf } from "./revision.ts";
import { instrumentsAt, ownsAll, ownsAny, weightAt } from "./steps.ts";

// One pass over a release that nothing has been decided about yet: where it stands, what it waits for, whether it ends.

export interface Release {
  readonly candidate: string;
  readonly stable: string;
  readonly steps: readonly CanaryStep[];
  readonly index: number;
  readonly stepStartedAt: number;
  /** The deadline counts from here. */
  readonly progressedAt: number;
  /** Until this pass the candidate had not been complete: a pause before anything is moved begins now. */
  readonly incomplete: boolean;
  /** A person holds it. */
  readonly paused: boolean;
  /** Gates that lack approvals. */
  readonly closed: readonly Closed[];
  /** When what it runs by was edited, where nothing has been waited for since: it gets no more than it has. */
  readonly editedAt: number | undefined;
}

/**
 * A replica that is ready for a moment and ends proves nothing: one that has just come, and one that had to be started
 * again; that has half a minute to prove itself, or a third of the deadline where that is less.
 */
const STEADY_MS = 3_000;
const STEADY_AFTER_CRASH_MS = 30_000;
/** A candidate that decides on something and has had no replica for so long is taken back. */
const DOWN_MS = 10_000;

/** What a pass makes of a release. */
export interface Progress {
  /** The step that it stands at afterwards. */
  readonly index: number;
  /** When the step that it stands at began. */
  readonly stepStartedAt: number;
  readonly progressedAt: number;
  /** As in Release, afterwards. */
  readonly editedAt: number | undefined;
  readonly analysis: readonly MetricStatus[];
  readonly effects: readonly Effect[];
  /** Why it does not go on; undefined when it does. */
  readonly holds: Hold | undefined;
  readonly decision: Omit<Decision, "at"> | undefined;
  /** Milliseconds since 1970 at which something is due. */
  readonly due: readonly number[];
}

export interface Hold {
  readonly reason:
    | "Pods"
    | "Coherence"
    | "Moving"
    | "Pause"
    | "PausedByUser"
    | "Gate"
    | "Analysis"
    | "Inconclusive"
    | "Frozen"
    | "KafkaUnavailable"
    | "Halted"
    | "StepsEdited"
    | "InvalidSpec";
  readonly message: string;
  /** A pause, which no deadline counts. */
  readonly paused: boolean;
}

/** Replicas that the candidate is to have at a step. */
export function candidateReplicas(
  steps: readonly CanaryStep[],
  index: number,
  full: number,
  stream: boolean,
): number {
  const scale = steps
    .slice(0, index + 1)
    .findLast(({ setCanaryScale }) => setCanaryScale !== undefined)?.setCanaryScale;
  if (scale !== undefined) return scale.replicas;
  // With a stream both compute everything. Without one the replicas' number is the weight.
  if (stream) return full;
  const weight = weightAt(steps, index);
  return weight === undefined ? 1 : Math.max(1, Math.ceil((full * weight) / 100));
}

export function advance(
  observed: Observed,
  release: Release,
  analysisBefore: readonly MetricStatus[],
): Progress {
  const { now, object } = observed;
  const { spec } = object;
  const { metrics, analysis, effects, due, harm, isEvidenceGone } = watch(observed, release, analysisBefore);
  const editedAt = isEvidenceGone ? now : release.editedAt;
  const stay = (
    holds: Hold | undefined,
    decision?: Omit<Decision, "at">,
    more: readonly Effect[] = [],
    wakeAt: readonly number[] = [],
  ): Progress => {
    const { index, stepStartedAt } = release;
    // The deadline stands still while somebody has asked for the pause.
    const progressedAt = holds?.paused === true ? now : release.progressedAt;
    const deadline = progressedAt + spec.progressDeadlineSeconds * 1000;
    return {
      index,
      stepStartedAt,
      progressedAt,
      editedAt,
      analysis,
      effects: [...effects, ...more],
      holds,
      decision: decision ?? (now > deadline ? late(release.candidate, holds) : undefined),
      due: [...due, ...wakeAt, ...(holds?.paused === true ? [] : [deadline + 1])],
    };
  };

  if (harm !== undefined) return stay(undefined, harm);
  // It is watched, and gets nothing by what cannot be acted on.
  if (observed.invalid !== undefined)
    return stay({ reason: "InvalidSpec", message: observed.invalid, paused: false });

  const { index, steps } = release;
  const { revisions, stream } = observed;
  const view = revisions.find(({ revision }) => revision === release.candidate);
  const step = steps[index];
  const replicas = candidateReplicas(steps, index, spec.replicas, stream !== undefined);
  // Without a stream its share is in its replicas.
  const size = view?.replicas ?? 0;
  if (editedAt !== undefined && stream === undefined && replicas > size)
    return stay(podsHold(view, size) ?? EDITED);
  const template = templateOf(spec, release.candidate);
  const scale: Effect = { kind: "Scale", revision: release.candidate, replicas, template };
  const pods = podsHold(view, replicas);
  if (pods !== undefined) return stay(pods, undefined, view?.replicas === replicas ? [] : [scale]);
  const steadyAt = steadySince(view, spec);
  if (steadyAt > now && (index > 0 || step === undefined)) {
    const message = "its replicas have not run for long enough";
    return stay({ reason: "Pods", message, paused: false }, undefined, [], [steadyAt]);
  }

  if (release.paused) {
    return stay({ reason: "PausedByUser", message: "paused by a person", paused: true });
  }
  const frozen = (spec.freezeWindows ?? []).find(
    ({ from, to }) => Date.parse(from) <= now && now < Date.parse(to),
  );
  if (frozen !== undefined) {
    const message = `no step forward until ${frozen.to}`;
    return stay({ reason: "Frozen", message, paused: true }, undefined, [], [Date.parse(frozen.to)]);
  }
  const still = streamHold(stream);
  if (still !== undefined) return stay(still);
  // What is not known to be good does not go on.
  const unclear = metrics
    .map(({ name }) => statusOf(analysis, name, now))
    .find(({ phase }) => phase === "Inconclusive");
  if (unclear !== undefined) {
    return stay({ reason: "Inconclusive", message: describe(unclear), paused: false });
  }
  const closed = gateAt(release.closed, steps, index);
  if (closed !== undefined) return stay({ reason: "Gate", message: describeGate(closed), paused: true });
  if (step === undefined) {
    // Errors and gaps that are borne are no evidence. What has no steps has been here before.
    const unknown = metrics.find(({ name }) => statusOf(analysis, name, now).successes === 0);
    if (unknown !== undefined && steps.length > 0) {
      const message = `${unknown.name}: no good measurement yet`;
      return stay({ reason: "Analysis", message, paused: false });
    }
    if (editedAt !== undefined) return stay(EDITED);
    const message = `all ${steps.length} steps are done`;
    return stay(undefined, { kind: "Promote", revision: release.candidate, reason: "StepsDone", message });
  }

  // A wait that was begun before the edit proves nothing of what it was edited to.
  const next = (hasWaited = false): Progress => ({
    ...stay(undefined),
    index: index + 1,
    stepStartedAt: now,
    progressedAt: now,
    editedAt: hasWaited && release.stepStartedAt >= (editedAt ?? 0) ? undefined : editedAt,
    decision: undefined,
    due: [now],
  });
  if (step.pause !== undefined) {
    const { duration } = step.pause;
    if (duration === undefined)
      return stay({ reason: "Pause", message: "waits for a person to promote it", paused: true });
    // What is to be watched for a while has to be there: replicas that come late take nothing of that time.
    const stepStartedAt = index === 0 && release.incomplete ? now : release.stepStartedAt;
    const end = stepStartedAt + milliseconds(duration);
    if (now >= end) return next(milliseconds(duration) > 0);
    const pause: Hold = { reason: "Pause", message: `pauses for ${duration}`, paused: true };
    return { ...stay(pause, undefined, [], [end]), stepStartedAt };
  }
  if (step.analysis !== undefined) {
    const own = metrics.filter(({ name }) => name.startsWith(`step-${index}/`));
    const open = own.filter(({ name }) => statusOf(analysis, name, now).phase !== "Successful");
    if (own.length > 0 && open.length === 0) return next(true);
    const message =
      open.length === 0
        ? "its templates are not there"
        : `measures ${open.map(({ name }) => name).join(", ")}`;
    return stay({ reason: "Analysis", message, paused: false });
  }
  if (step.setCanaryScale !== undefined) return next();
  const wanted = instrumentsAt(steps, index, observed.instruments);
  if (stream === undefined) return next();
  if (ownsAll(release.candidate, wanted, stream.owners) && stream.movingTo === undefined) return next();
  if (editedAt !== undefined && !ownsAll(release.candidate, wanted, stream.owners)) return stay(EDITED);
  const message = `hands over ${wanted.length > 3 ? `${wanted.length} instruments` : wanted.join(", ")}`;
  const route: Effect = {
    kind: "Route",
    instruments: wanted.includes(REST) ? [REST] : wanted,
    to: release.candidate,
    caughtUp: true,
  };
  return stay({ reason: "Moving", message, paused: false }, undefined, [route]);
}

/** A pause that is for a person to end. */
const EDITED: Hold = {
  reason: "StepsEdited",
  message:
    "what it runs by was edited: it gets no more than it has until a person says resume or promote; abort takes it back",
  paused: true,
};

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
  const seen = (harm?: Omit<Decision, "at">): Watched => ({
    metrics,
    analysis,
    isEvidenceGone,
    effects,
    due,
    harm,
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

/** From when on a revision's replicas count, as milliseconds since 1970. */
export function steadySince(
  { readySince = 0, crashedAt }: Partial<RevisionView> = {},
  { progressDeadlineSeconds }: ModelDeploymentSpec,
): number {
  const wait = Math.min(STEADY_AFTER_CRASH_MS, (progressDeadlineSeconds * 1000) / 3);
  const crashed = crashedAt === undefined ? 0 : crashedAt + wait;
  return Math.max(readySince + STEADY_MS, crashed);
}

/** Why nothing is moved forward, which no deadline counts. */
export function streamHold(stream: StreamView | undefined): Hold | undefined {
  if (stream?.reachable === false)
    return { reason: "KafkaUnavailable", message: "Kafka does not answer: nothing is moved", paused: true };
  if (stream?.halted === true)
    return { reason: "Halted", message: "the kill switch is on: nothing is moved", paused: true };
  return undefined;
}

/** What a revision lacks of its replicas; undefined where it has them, and all are what was released. */
export function podsHold(view: RevisionView | undefined, replicas: number): Hold | undefined {
  const available = view?.available ?? 0;
  if (view === undefined || view.replicas !== replicas || available < replicas) {
    return { reason: "Pods", message: `${available} of ${replicas} replicas are available`, paused: false };
  }
  return coherenceHold(view);
}

/** One server of eight with another model is what ended Knight Capital: nobody decides before all say the same. */
export function coherenceHold({ coherent, deviation }: RevisionView): Hold | undefined {
  if (coherent) return undefined;
  const message = "not every replica reports the model and configuration that it should";
  return {
    reason: "Coherence",
    message: deviation === undefined ? message : `${message}: ${deviation}`,
    paused: false,
  };
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

function statusOf(analysis: readonly MetricStatus[], name: string, now: number): MetricStatus {
  return analysis.find((status) => status.name === name) ?? startMetric(name, now);
}

function describe({ name, measurements, restarted, phase }: MetricStatus): string {
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
