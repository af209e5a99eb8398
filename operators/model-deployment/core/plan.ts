import { REST } from "#runtime/contracts/ledger.ts";
import type { CanaryStep } from "../api/model-deployment.ts";
import type { Decision, ModelDeploymentStatus } from "../api/status.ts";
import { goBack, promote } from "./conclude.ts";
import { closedGates } from "./gates.ts";
import { SCALED_TO_ZERO } from "./holds.ts";
import type { Effect, Note, Observed, Plan } from "./observed.ts";
import { end, pruned, stillNeeded } from "./others.ts";
import { phaseAndConditions, wasPaused } from "./phase.ts";
import { advance, type Hold, podsHold, steadySince } from "./release.ts";
import {
  addHistory,
  historyEntry,
  modelOf,
  noted,
  reported,
  revisionStatus,
  time,
  without,
} from "./report.ts";
import { desiredRevision, hasFix, overtaken, scaleStable, templateOf } from "./revision.ts";
import { ownsEverything, stepsOf, weightAt } from "./steps.ts";
import { withUpkeep } from "./upkeep.ts";
import { obey } from "./verbs.ts";

// The operator's whole decision: from what one pass sees to what it writes and does.

type Status = ModelDeploymentStatus;

/** A pass in the making. */
interface Pass {
  readonly status: Status;
  readonly effects: readonly Effect[];
  readonly events: readonly Note[];
  readonly due: readonly number[];
  readonly holds: Hold | undefined;
}

/** More than follows from one another in any release. */
const MAX_AHEAD = 10;

/**
 * What is to be done now. The same input has the same output. What follows at once, without anything being done in
 * between, is gone through in one go, and so written once; a decision is written before anything follows from it.
 */
export function plan(observed: Observed): Plan {
  let planned = planOne(observed);
  const events = [...planned.events];
  for (let ahead = 0; ahead < MAX_AHEAD; ahead++) {
    const { status, effects, next } = planned;
    if (next !== 0 || effects.length > 0 || status.decision !== undefined) break;
    planned = planOne({ ...observed, object: { ...observed.object, status }, results: [] });
    events.push(...planned.events);
  }
  return { ...planned, effects: withUpkeep(observed, planned.effects), events };
}

function planOne(observed: Observed): Plan {
  const pass = decide(observed);
  const events = [...pass.events, ...holdNotes(observed, pass)];
  const told = noted(observed, reported(observed, pass.status), events);
  const status = phaseAndConditions(observed, told, pass.holds);
  const due = pass.due.filter((at) => Number.isFinite(at));
  const next = due.length === 0 ? undefined : Math.max(0, Math.min(...due) - observed.now);
  return { status, effects: pass.effects, events, next };
}

/** What people are told of a release that begins to wait for them, or for evidence. */
function holdNotes({ object }: Observed, { status, holds }: Pass): readonly Note[] {
  if (holds === undefined || status.candidate === undefined) return [];
  const before = object.status.conditions?.find(({ type }) => type === "Progressing")?.reason;
  if (before === holds.reason) return [];
  const message = `${status.candidate.revision}, step ${status.currentStepIndex ?? 0}: ${holds.message}`;
  if (holds.reason === "SharedCause") return [{ type: "Warning", reason: "SharedCause", message }];
  if (holds.paused) return [{ type: "Normal", reason: "Paused", message }];
  return holds.reason === "Inconclusive" ? [{ type: "Warning", reason: "Inconclusive", message }] : [];
}

function decide(observed: Observed): Pass {
  const { object, invalid } = observed;
  const idle = { effects: [], events: [], due: [], holds: undefined };
  // The stable revision goes on, whatever is wrong with what is asked for.
  if (invalid !== undefined && object.status.decision === undefined)
    return { ...idle, status: object.status };
  const { status, events, decision } = obey(observed);
  const pass = goOn(observed, status, decision);
  return { ...pass, events: [...events, ...pass.events] };
}

/** What follows from the status, and from what a command has decided. */
function goOn(observed: Observed, status: Status, commanded: Omit<Decision, "at"> | undefined): Pass {
  const { stable } = status;
  const desired = desiredRevision(observed.object.spec, status);
  if (status.decision !== undefined) {
    const { revision } = status.decision;
    if (!isLost(observed, status.decision)) return act(observed, status, status.decision);
    const message = "its Deployment is gone, and the spec does not say how to make it";
    return decided(observed, status, { kind: "Supersede", revision, reason: "NewSpec", message });
  }
  if (commanded !== undefined) return decided(observed, status, commanded);
  if (stable === undefined) return first(observed, status, desired);
  const candidate = status.candidate?.revision;
  if (candidate === undefined) return settled(observed, status, desired);
  const message = overtaken(observed, status, candidate);
  if (message === undefined) return release(observed, status, candidate, stable.revision);
  return decided(observed, status, { kind: "Supersede", revision: candidate, reason: "NewSpec", message });
}

/** It was to be promoted before its Deployment was made, and nobody says any more how to make it. */
function isLost({ object, revisions }: Observed, { kind, revision }: Decision): boolean {
  if (kind !== "Promote" || revisions.some((view) => view.revision === revision)) return false;
  return templateOf(object.spec, revision) === "own";
}

/** Writes down what a release has come to. It is acted on from the next pass on: what is written cannot be forgotten. */
function decided({ now }: Observed, status: Status, decision: Omit<Decision, "at">): Pass {
  const type = decision.kind === "Promote" ? "Normal" : "Warning";
  const message = `${decision.revision}: ${decision.message}`;
  return {
    status: { ...status, decision: { ...decision, at: time(now) } },
    effects: [],
    events: [{ type, reason: decision.reason, message }],
    due: [now],
    holds: undefined,
  };
}

/** The first revision becomes the stable one when it runs and has been given everything. */
function first(observed: Observed, status: Status, desired: string): Pass {
  const { now, object, stream, revisions } = observed;
  const { spec } = object;
  const view = revisions.find(({ revision }) => revision === desired);
  const pass = { status, events: [], due: [], effects: [] as readonly Effect[] };
  const started = status.releaseStartedAt ?? time(now);
  const nobody = spec.replicas === 0 ? SCALED_TO_ZERO : undefined;
  if (view === undefined || view.replicas !== spec.replicas) {
    const scale: Effect = { kind: "Scale", revision: desired, replicas: spec.replicas, template: "spec" };
    return { ...pass, status: { ...status, releaseStartedAt: started }, effects: [scale], holds: nobody };
  }
  if (nobody !== undefined) return { ...pass, holds: nobody };
  const pods = podsHold(view, spec.replicas);
  // One that was asked for before, and never came, takes the room of this one.
  const dead = revisions.filter(({ revision, available }) => revision !== desired && available === 0);
  if (pods !== undefined) return { ...pass, effects: end(dead), holds: pods };
  if (stream !== undefined && !ownsEverything(desired, stream.owners)) {
    if (!stream.reachable) {
      return {
        ...pass,
        holds: { reason: "KafkaUnavailable", message: "Kafka does not answer", paused: false },
      };
    }
    const holds: Hold = { reason: "Moving", message: "gets everything", paused: false };
    return {
      ...pass,
      effects: [{ kind: "Route", instruments: [REST], to: desired, caughtUp: false }],
      holds,
    };
  }
  const entry = historyEntry(observed, status, desired, "Promoted", "FirstRevision");
  return {
    status: {
      ...without(status, ["releaseStartedAt"]),
      stable: revisionStatus(observed, desired, spec.model),
      stableSince: time(now),
      history: addHistory(observed, status, entry),
    },
    effects: [],
    events: [{ type: "Normal", reason: "Promoted", message: `${desired} is the first revision` }],
    due: [],
    holds: undefined,
  };
}

/** Nothing is being released: stable is kept as it should be, and what is asked for is compared with it. */
function settled(observed: Observed, status: Status, desired: string): Pass {
  const { now, object, revisions, stream } = observed;
  const stable = status.stable?.revision ?? "";
  const effects: Effect[] = [];
  // Partitions that were added belong to nobody yet; and what was asked for by an operator that is no more has to be seen
  // through.
  const isOpen = stream?.movingTo !== undefined;
  const view = revisions.find(({ revision }) => revision === stable);
  const isAlive = (view?.available ?? 0) > 0;
  if (stream?.reachable === true && isAlive && (isOpen || !ownsEverything(stable, stream.owners))) {
    effects.push({ kind: "Route", instruments: [REST], to: stable, caughtUp: false });
  }
  const due: number[] = [];
  if (view !== undefined && view.replicas !== object.spec.replicas) {
    const template = templateOf(object.spec, stable);
    effects.push({ kind: "Scale", revision: stable, replicas: object.spec.replicas, template });
  } else effects.push(...scaleStable(observed, stable, object.spec.replicas));
  const { restart } = status;
  if (restart?.revision === stable && view !== undefined && view.restartedAt !== restart.at) {
    effects.push({ kind: "Restart", revision: stable, at: restart.at });
  }
  const { previousStable } = status;
  const warm = previousStable !== undefined && Date.parse(previousStable.scaleDownAt) > now;
  if (warm) due.push(Date.parse(previousStable.scaleDownAt));
  const keep = [
    stable,
    desired,
    ...(warm ? [previousStable.revision] : []),
    ...stillNeeded(observed, stable),
  ];
  effects.push(...end(revisions.filter(({ revision }) => !keep.includes(revision))));
  effects.push(...pruned(observed, status, keep));
  const next = warm ? status : without(status, ["previousStable"]);
  const condemned = (status.condemned ?? []).includes(desired);
  if (desired === stable || condemned) {
    const old = revisions.find(({ revision }) => revision === desired);
    // One that was condemned is not started again by the way.
    if (condemned && old !== undefined && !stillNeeded(observed, stable).includes(desired))
      effects.push(...end([old]));
    const halted: Hold = { reason: "Halted", message: "the kill switch is on: nobody decides", paused: true };
    const isHalted = stream?.halted === true ? halted : undefined;
    const holds = object.spec.replicas === 0 ? SCALED_TO_ZERO : isHalted;
    return { status: next, effects, events: [], due, holds };
  }
  const started = time(now);
  const model = modelOf(object.spec.model, status, desired);
  const beginning: Status = {
    ...without(next, ["analysis", "pausedAt", "approvals"]),
    candidate: revisionStatus(observed, desired, model),
    currentStepIndex: 0,
    stepStartedAt: started,
    progressedAt: started,
    releaseStartedAt: started,
  };
  const message = `${desired} (model ${model.version}) is being released`;
  return {
    status: beginning,
    effects,
    events: [{ type: "Normal", reason: "Started", message }],
    due: [now],
    holds: undefined,
  };
}

function release(observed: Observed, status: Status, candidate: string, stable: string): Pass {
  const { now, object } = observed;
  const fast = isFast(observed, status, candidate);
  const stableView = observed.revisions.find(({ revision }) => revision === stable);
  const { stream } = observed;
  const isOther = (revision: string | undefined) => revision !== stable && revision !== candidate;
  const isHeld = [...(stream?.owners.values() ?? [])].some((owner) => owner !== undefined && isOther(owner));
  const isBack = (stableView?.available ?? 0) > 0 && steadySince(stableView, object.spec) <= now;
  if (isHeld && stream?.reachable === true && isBack) {
    // What was taken back while stable had no replica goes first; then this one begins anew.
    const message = "stable has replicas again: it gets everything first";
    return decided(observed, status, {
      kind: "Supersede",
      revision: candidate,
      reason: "StableAvailable",
      message,
    });
  }
  const steps = stepsFor(observed, status, candidate);
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
    },
    status.analysis ?? [],
  );
  const next: Status = {
    ...status,
    currentStepIndex: progress.index,
    stepStartedAt: time(progress.stepStartedAt),
    // Written when it moves, not in each pass of a pause.
    progressedAt:
      progress.holds?.paused === true ? (status.progressedAt ?? time(now)) : time(progress.progressedAt),
    ...(progress.analysis.length === 0 ? {} : { analysis: [...progress.analysis] }),
  };
  const { effects, due, holds } = progress;
  if (progress.decision !== undefined) return decided(observed, next, progress.decision);
  const scale = scaleStable(observed, stable, stableReplicas(observed, steps, progress.index));
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

function act(observed: Observed, status: Status, decision: Decision): Pass {
  const { now } = observed;
  const { kind, revision, reason } = decision;
  const result =
    kind === "Promote"
      ? {
          ...promote(observed, status, {
            steps: stepsFor(observed, status, revision),
            fast: isFast(observed, status, revision),
            overtaken: overtaken(observed, status, revision),
          }),
          stableIsLost: false,
        }
      : { ...goBack(observed, status, revision), status, instead: undefined };
  if (result.instead !== undefined) return decided(observed, result.status, result.instead);
  // A broken stable does not block the fix: it is released from where things stand, and what was taken back ends with it.
  const isOver = result.done || (result.stableIsLost && hasFix(observed, status, decision));
  if (!isOver) return { ...result, events: [], due: result.due ?? [] };
  const cleared = without(status, [
    "decision",
    "candidate",
    "currentStepIndex",
    "stepStartedAt",
    "progressedAt",
    "releaseStartedAt",
    "analysis",
    "pausedAt",
    "approvals",
  ]);
  const completion = {
    Promote: reason === "FullPromotion" ? "FastPromoted" : "Promoted",
    Rollback: "RolledBack",
    Abort: "Aborted",
    Supersede: "Superseded",
  } as const;
  const entry = historyEntry(observed, status, revision, completion[kind], reason, decision.message);
  const history = addHistory(observed, status, entry);
  if (kind === "Promote") {
    const old = status.stable?.revision;
    const { blueGreen } = observed.object.spec.strategy;
    const scaleDownAt = time(now + (blueGreen?.scaleDownDelaySeconds ?? 0) * 1000);
    return {
      status: {
        ...cleared,
        history,
        ...(status.candidate === undefined ? {} : { stable: status.candidate }),
        stableSince: time(now),
        ...(blueGreen === undefined || old === undefined
          ? {}
          : { previousStable: { revision: old, scaleDownAt } }),
      },
      effects: [],
      events: [{ type: "Normal", reason: "Promoted", message: `${revision} is stable` }],
      due: [now],
      holds: undefined,
    };
  }
  const condemned =
    kind === "Supersede"
      ? (status.condemned ?? [])
      : [...new Set([...(status.condemned ?? []), revision])].slice(-100);
  return {
    status: { ...cleared, history, ...(condemned.length === 0 ? {} : { condemned }) },
    effects: result.effects,
    events: [
      {
        type: kind === "Supersede" ? "Normal" : "Warning",
        reason: completion[kind],
        message: `${revision}: ${decision.message}`,
      },
    ],
    due: [now],
    holds: undefined,
  };
}

/** What a person has asked to go back to has been here before, as what was promoted not long ago. */
function isFast(observed: Observed, status: Status, candidate: string): boolean {
  return status.pinned?.revision === candidate || withinRollbackWindow(observed, status, candidate);
}

function stepsFor(observed: Observed, status: Status, candidate: string): readonly CanaryStep[] {
  return isFast(observed, status, candidate) ? [] : stepsOf(observed.object.spec, observed.instruments);
}

/** Going back to a revision that was promoted not long ago takes no steps. */
function withinRollbackWindow({ object }: Observed, status: Status, candidate: string): boolean {
  const window = object.spec.rollbackWindow?.revisions ?? 0;
  const promoted = (status.history ?? [])
    .filter(({ completionStatus }) => completionStatus === "Promoted" || completionStatus === "FastPromoted")
    .slice(0, window + 1);
  return promoted.some(({ revision }) => revision === candidate);
}
