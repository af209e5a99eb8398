import { REST } from "#runtime/contracts/ledger.ts";
import { milliseconds } from "../api/kit.ts";
import type { CanaryStep, ModelDeploymentSpec } from "../api/model-deployment.ts";
import type { Decision, MetricStatus } from "../api/status.ts";
import { type Closed, describeGate, gateAt } from "./gates.ts";
import {
  canGoBack,
  freezeHold,
  type Hold,
  podsHold,
  SCALED_TO_ZERO,
  steadySince,
  streamHold,
  stuck,
} from "./holds.ts";
import type { Effect, Observed } from "./observed.ts";
import { templateOf } from "./revision.ts";
import { instrumentsAt, ownsAll, weightAt } from "./steps.ts";
import { describe, late, statusOf, watch } from "./watch.ts";

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
  /** When what it runs by was edited, where nothing has been waited for since: it gets no more than it has. */
  readonly editedAt: number | undefined;
}

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
  const { metrics, analysis, effects, due, harm, shared, isEvidenceGone } = watch(
    observed,
    release,
    analysisBefore,
  );
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
    const isLate = now > deadline;
    const canEnd = canGoBack(observed, release);
    return {
      index,
      stepStartedAt,
      progressedAt,
      editedAt,
      analysis,
      effects: [...effects, ...more],
      holds: isLate && !canEnd ? stuck(holds) : holds,
      decision: decision ?? (isLate && canEnd ? late(release.candidate, holds) : undefined),
      due: [...due, ...wakeAt, ...(holds?.paused === true || isLate ? [] : [deadline + 1])],
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

function zero({ candidate }: Release, spec: ModelDeploymentSpec): Effect {
  return { kind: "Scale", revision: candidate, replicas: 0, template: templateOf(spec, candidate) };
}

/** A pause that is for a person to end. */
const EDITED: Hold = {
  reason: "StepsEdited",
  message:
    "what it runs by was edited: it gets no more than it has until a person says resume or promote; abort takes it back",
  paused: true,
};
