import type { CanaryStep } from "../api/model-deployment.ts";
import type { ModelDeploymentStatus } from "../api/status.ts";
import { begunAnew, STRATEGY_CHANGED, stepHash, strategyOf } from "./edits.ts";
import { closedGates } from "./gates.ts";
import { type Hold, steadySince } from "./holds.ts";
import type { Note, Observed } from "./observed.ts";
import { end, stillNeeded } from "./others.ts";
import { decided, type Pass } from "./pass.ts";
import { isFast, stepsFor } from "./past.ts";
import { wasPaused } from "./phase.ts";
import { advance } from "./release.ts";
import { time, without } from "./report.ts";
import { scaleStable } from "./revision.ts";
import { weightAt } from "./steps.ts";
import { watch } from "./watch.ts";

// A release that is under way: what it runs by is held, and what a pass over it has found is written into status.

type Status = ModelDeploymentStatus;

/** Where a release stands before it has come to one of its steps for the first time. */
const BEFORE_STEPS: readonly (Hold["reason"] | undefined)[] = [
  ...(["Pods", "Coherence", "PausedByUser", "Frozen", "KafkaUnavailable", "Halted", "Inconclusive"] as const),
  "InvalidSpec",
];

/** A release, by what it has run by so far: what is edited is begun anew, and by itself gives the candidate nothing. */
export function release(seen: Observed, before: Status, candidate: string, stable: string): Pass {
  const { now, object, instruments } = seen;
  if (isTakenFirst(seen, candidate, stable)) {
    // What was taken back while stable had no replica goes first; then this one begins anew.
    const message = "stable has replicas again: it gets everything first";
    return decided(seen, before, {
      kind: "Supersede",
      revision: candidate,
      reason: "StableAvailable",
      message,
    });
  }
  // What a person has named to go back to takes nothing of the spec's.
  const observed = before.pinned?.revision === candidate ? { ...seen, invalid: undefined } : seen;
  const fast = isFast(observed, before, candidate);
  const steps = stepsFor(observed, before, candidate);
  const hash = stepHash(object.spec, instruments, fast);
  const strategy = strategyOf(object.spec);
  // What cannot be acted on changes nothing.
  const isHeld = before.currentStepHash !== undefined && observed.invalid === undefined;
  if (isHeld && !fast && (before.strategy ?? strategy) !== strategy)
    return switched(observed, before, candidate, stable);
  const isEdited = isHeld && before.currentStepHash !== hash;
  const status = isEdited ? begunAnew(before, steps, hash, now) : before;
  const pass = underWay(observed, status, candidate, stable, steps, fast);
  const { currentStepIndex = 0, approvals } = pass.status;
  const isBegun =
    currentStepIndex > 0 || approvals !== undefined || !BEFORE_STEPS.includes(pass.holds?.reason);
  const message = `${candidate}: its steps or gates were edited: it begins them anew, with what it has`;
  return {
    ...pass,
    status:
      isBegun && observed.invalid === undefined
        ? { ...pass.status, currentStepHash: hash, strategy }
        : pass.status,
    events: [
      ...(isEdited ? [{ type: "Warning", reason: "StepsEdited", message } as const] : []),
      ...pass.events,
    ],
  };
}

/** Whether a revision that was taken back still decides on something, and stable could take that over by now. */
function isTakenFirst(
  { now, object, revisions, stream }: Observed,
  candidate: string,
  stable: string,
): boolean {
  const isOther = (owner: string | undefined) =>
    owner !== undefined && owner !== stable && owner !== candidate;
  const view = revisions.find(({ revision }) => revision === stable);
  const isBack = (view?.available ?? 0) > 0 && steadySince(view, object.spec) <= now;
  return isBack && stream?.reachable === true && [...stream.owners.values()].some(isOther);
}

/** Another strategy is another release of the same revision; unless this one has done harm. */
function switched(observed: Observed, status: Status, candidate: string, stable: string): Pass {
  const { currentStepIndex: index = 0, analysis: before = [] } = status;
  const { analysis, harm } = watch(observed, { candidate, stable, steps: [], index }, before);
  const message = "the strategy was edited: it is released anew";
  const next = { ...status, analysis: [...analysis] };
  return decided(
    observed,
    next,
    harm ?? { kind: "Supersede", revision: candidate, reason: STRATEGY_CHANGED, message },
  );
}

/** A release that goes on by steps that are as they were. */
function underWay(
  observed: Observed,
  status: Status,
  candidate: string,
  stable: string,
  steps: readonly CanaryStep[],
  fast: boolean,
): Pass {
  const { now, object, invalid } = observed;
  const before = (type: string) => status.conditions?.find((condition) => condition.type === type);
  const progress = advance(
    observed,
    {
      candidate,
      stable,
      steps,
      index: Math.min(status.currentStepIndex ?? 0, steps.length),
      stepStartedAt: Date.parse(status.stepStartedAt ?? time(now)),
      // Where a pause has ended the deadline counts from here.
      progressedAt: wasPaused(status) ? now : Date.parse(status.progressedAt ?? time(now)),
      // A release that has just begun says no more of itself than its phase.
      incomplete: ["Pods", "Coherence", "Progressing"].includes(before("Progressing")?.reason ?? ""),
      // A person who goes back does so whatever the spec says.
      paused: (object.spec.paused && status.pinned?.revision !== candidate) || status.pausedAt !== undefined,
      fast,
      closed: fast ? [] : closedGates(object.spec.gates ?? [], status.approvals ?? []),
      editedAt: status.editedAt === undefined ? undefined : Date.parse(status.editedAt),
    },
    status.analysis ?? [],
  );
  const next: Status = {
    ...without(status, ["analysis", "editedAt"]),
    // Steps that cannot be acted on are not counted in.
    currentStepIndex: invalid === undefined ? progress.index : (status.currentStepIndex ?? 0),
    ...(progress.editedAt === undefined ? {} : { editedAt: time(progress.editedAt) }),
    stepStartedAt: time(progress.stepStartedAt),
    // Written when it moves, not in each pass of a pause.
    progressedAt:
      progress.holds?.paused === true ? (status.progressedAt ?? time(now)) : time(progress.progressedAt),
    ...(progress.analysis.length === 0 ? {} : { analysis: [...progress.analysis] }),
  };
  const { effects, due, holds } = progress;
  if (progress.decision !== undefined) return decided(observed, next, progress.decision);
  const scale =
    invalid === undefined
      ? scaleStable(observed, stable, stableReplicas(observed, steps, progress.index))
      : [];
  const events: Note[] =
    progress.index > (status.currentStepIndex ?? 0)
      ? [{ type: "Normal", reason: "StepCompleted", message: stepMessage(candidate, steps, progress.index) }]
      : [];
  const keep = [stable, candidate, status.previousStable?.revision, ...stillNeeded(observed, stable)];
  const over = end(observed.revisions.filter(({ revision }) => !keep.includes(revision)));
  return { status: next, effects: [...scale, ...over, ...effects], events, due, holds };
}

function stepMessage(candidate: string, steps: readonly CanaryStep[], done: number): string {
  const step = Object.keys(steps[done - 1] ?? {})[0] ?? "";
  return `${candidate}: step ${done} of ${steps.length} is done (${step})`;
}

/** Without a stream the weight is in the numbers of replicas; with one stable computes everything all the while. */
function stableReplicas({ object, stream }: Observed, steps: readonly CanaryStep[], index: number): number {
  const { replicas } = object.spec;
  if (stream !== undefined || replicas === 0) return replicas;
  // The steps that are done: stable shrinks when the candidate has grown.
  return Math.max(1, replicas - Math.floor((replicas * (weightAt(steps, index - 1) ?? 0)) / 100));
}
