import { REST } from "#runtime/contracts/ledger.ts";
import type { Metric } from "../api/analysis.ts";
import { milliseconds } from "../api/kit.ts";
import type { CanaryStep, ModelDeploymentSpec } from "../api/model-deployment.ts";
import type { Decision, MetricStatus } from "../api/status.ts";
import {
  type ActiveMetric,
  activeMetrics,
  addMeasurement,
  dueAt,
  hasSharedCause,
  judge,
  startMetric,
} from "./analysis.ts";
import { type Closed, describeGate, gateAt } from "./gates.ts";
import { canGoBack, freezeHold, SCALED_TO_ZERO, stuck } from "./holds.ts";
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
  /** It has been here before: going back to it waits for no freeze window. */
  readonly fast: boolean;
}

/**
 * A replica that is ready for a moment and ends proves nothing: one that has just come, and one that had to be started
 * again; that has half a minute to prove itself, or a third of the deadline where that is less.
 */
const STEADY_MS = 3_000;
const STEADY_AFTER_CRASH_MS = 30_000;
/** A candidate that decides on something and has had no replica for so long is taken back. */
export const DOWN_MS = 10_000;

/** What a pass makes of a release. */
export interface Progress {
  /** The step that it stands at afterwards. */
  readonly index: number;
  /** When the step that it stands at began. */
  readonly stepStartedAt: number;
  readonly progressedAt: number;
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
    | "SharedCause"
    | "Frozen"
    | "KafkaUnavailable"
    | "Halted"
    | "ScaledToZero";
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
  const { metrics, analysis, effects, due, harm, shared } = watch(observed, release, analysisBefore);
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
    const isLate = now > deadline;
    const canEnd = canGoBack(observed, release);
    return {
      index,
      stepStartedAt,
      progressedAt,
      analysis,
      effects: [...effects, ...more],
      holds: isLate && !canEnd ? stuck(holds) : holds,
      decision: decision ?? (isLate && canEnd ? late(release.candidate, holds) : undefined),
      due: [...due, ...wakeAt, ...(holds?.paused === true || isLate ? [] : [deadline + 1])],
    };
  };

  if (harm !== undefined) return stay(undefined, harm);

  const { index, steps } = release;
  const { revisions, stream } = observed;
  const view = revisions.find(({ revision }) => revision === release.candidate);
  const step = steps[index];
  const replicas = candidateReplicas(steps, index, spec.replicas, stream !== undefined);
  const template = templateOf(spec, release.candidate);
  // Nobody could take anything over.
  if (spec.replicas === 0)
    return stay(SCALED_TO_ZERO, undefined, view?.replicas === 0 ? [] : [zero(release, spec)]);
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
  const frozen = release.fast ? undefined : freezeHold(spec, now);
  if (frozen !== undefined) return stay(frozen.hold, undefined, [], [frozen.until]);
  const still = streamHold(stream);
  if (still !== undefined) return stay(still);
  if (shared !== undefined) return stay(shared);
  // What is not known to be good does not go on.
  const unclear = analysis.find(({ phase }) => phase === "Inconclusive");
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
    const message = `all ${steps.length} steps are done`;
    return stay(undefined, { kind: "Promote", revision: release.candidate, reason: "StepsDone", message });
  }

  const next = (): Progress => ({
    ...stay(undefined),
    index: index + 1,
    stepStartedAt: now,
    progressedAt: now,
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
    if (now >= end) return next();
    const pause: Hold = { reason: "Pause", message: `pauses for ${duration}`, paused: true };
    return { ...stay(pause, undefined, [], [end]), stepStartedAt };
  }
  if (step.analysis !== undefined) {
    const own = metrics.filter(({ name }) => name.startsWith(`step-${index}/`));
    const open = own.filter(({ name }) => statusOf(analysis, name, now).phase !== "Successful");
    if (own.length > 0 && open.length === 0) return next();
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
  const message = `hands over ${wanted.length > 3 ? `${wanted.length} instruments` : wanted.join(", ")}`;
  const route: Effect = {
    kind: "Route",
    instruments: wanted.includes(REST) ? [REST] : wanted,
    to: release.candidate,
    caughtUp: true,
  };
  return stay({ reason: "Moving", message, paused: false }, undefined, [route]);
}

function zero({ candidate }: Release, spec: ModelDeploymentSpec): Effect {
  return { kind: "Scale", revision: candidate, replicas: 0, template: templateOf(spec, candidate) };
}

/** What is seen of a candidate, whether it is still being tried or is to be promoted. */
export interface Watched {
  readonly metrics: readonly ActiveMetric[];
  readonly analysis: readonly MetricStatus[];
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
  release: Pick<Release, "candidate" | "stable" | "steps" | "index">,
  analysisBefore: readonly MetricStatus[],
): Watched {
  const { now, revisions, stream } = observed;
  const { candidate, stable } = release;
  const metrics = metricsOf(observed, release);
  const analysis = measured(observed, metrics, analysisBefore);
  const effects: Effect[] = [];
  const due: number[] = [];
  for (const metric of metrics) {
    const state = statusOf(analysis, metric.name, now);
    const at = dueAt(state, metric.metric);
    if (at === undefined) continue;
    const run = `${candidate} ${metric.name} ${state.measurements.at(-1)?.at ?? state.startedAt}`;
    if (at > now) due.push(at);
    else effects.push({ kind: "Measure", ...metric, candidate, stable, run });
  }
  const shared = sharedHold(metrics, analysis, now);
  const seen = (harm?: Omit<Decision, "at">): Watched => ({ metrics, analysis, effects, due, harm, shared });

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
  { candidate, stable, index }: Pick<Release, "candidate" | "stable" | "index">,
  view: RevisionView | undefined,
): number | undefined {
  const decides = stream === undefined ? index > 0 : stream.reachable && ownsAny(candidate, stream.owners);
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
    const message = `${available} of ${replicas} replicas are available${because(view)}`;
    return { reason: "Pods", message, paused: false };
  }
  return coherenceHold(view);
}

/** What is known of why a revision's pods do not come. */
export function because(view: RevisionView | undefined): string {
  return view?.problem === undefined ? "" : `: ${view.problem}`;
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
  { index, steps }: Pick<Release, "index" | "steps">,
): readonly ActiveMetric[] {
  const { spec } = observed.object;
  const background =
    spec.analysis !== undefined && index >= spec.analysis.startingStep
      ? activeMetrics("background", spec.analysis.templates, observed.templates)
      : [];
  const own = steps[index]?.analysis;
  return [
    ...(spec.limits ?? []).map(limitMetric),
    ...background,
    ...(own === undefined ? [] : activeMetrics(`step-${index}`, own.templates, observed.templates)),
  ];
}

/** A hard limit: looked at each second, and the first time it is passed ends the release. Not knowing it holds. */
function limitMetric({ name, query, max }: NonNullable<ModelDeploymentSpec["limits"]>[number]): ActiveMetric {
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
  return { name: `limit/${name}`, metric, args: {} };
}

/** The metrics' status with what has been measured; those that are over stay as they are. */
function measured(
  observed: Observed,
  metrics: readonly ActiveMetric[],
  before: readonly MetricStatus[],
): readonly MetricStatus[] {
  const now = new Map(before.map((status) => [status.name, status]));
  for (const { name, metric } of metrics) {
    let status = now.get(name) ?? startMetric(name, observed.now);
    for (const result of observed.results) {
      if (result.name === name) status = addMeasurement(status, metric, judge(metric, result));
    }
    now.set(name, status);
  }
  return [...now.values()];
}

function statusOf(analysis: readonly MetricStatus[], name: string, now: number): MetricStatus {
  return analysis.find((status) => status.name === name) ?? startMetric(name, now);
}

function describe({ name, measurements }: MetricStatus): string {
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
