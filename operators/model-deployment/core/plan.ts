import { REST } from "#runtime/contracts/ledger.ts";
import type { CanaryStep } from "../api/model-deployment.ts";
import type { Decision, ModelDeploymentStatus } from "../api/status.ts";
import { goBack, promote } from "./conclude.ts";
import { begunAnew, harmOf, stepHash, strategyOf } from "./edits.ts";
import { fitted } from "./fit.ts";
import { closedGates } from "./gates.ts";
import type { Effect, Note, Observed, Plan } from "./observed.ts";
import { isFast, pruned, stepsFor } from "./past.ts";
import { phaseAndConditions, wasPaused } from "./phase.ts";
import { problemOf } from "./problems.ts";
import { advance, type Hold, podsHold, watch } from "./release.ts";
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
import { desiredRevision, templateOf } from "./revision.ts";
import { ownsEverything, weightAt } from "./steps.ts";
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
export function plan(seen: Observed): Plan {
  const observed = { ...seen, invalid: problemOf(seen) };
  let planned = planOne(observed);
  const events = [...planned.events];
  for (let ahead = 0; ahead < MAX_AHEAD; ahead++) {
    const { status, effects, next } = planned;
    if (next !== 0 || effects.length > 0 || status.decision !== undefined) break;
    planned = planOne({ ...observed, object: { ...observed.object, status }, results: [] });
    events.push(...planned.events);
  }
  return { ...planned, status: fitted(planned.status), events };
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
  if (holds.reason === "InvalidSpec") return [{ type: "Warning", reason: "InvalidSpec", message }];
  if (holds.paused) return [{ type: "Normal", reason: "Paused", message }];
  return holds.reason === "Inconclusive" ? [{ type: "Warning", reason: "Inconclusive", message }] : [];
}

function decide(observed: Observed): Pass {
  const { object, invalid, stream } = observed;
  const idle = { effects: [], events: [], due: [], holds: undefined };
  // Another object has its stream: who decides on what cannot be seen.
  if (object.spec.stream !== undefined && stream === undefined) return { ...idle, status: object.status };
  const { status, events, decision } = obey(observed);
  // The stable revision goes on, whatever is wrong with what is asked for. A candidate is seen to, and nothing new is begun.
  const isUnderWay = status.candidate !== undefined || status.decision !== undefined;
  if (invalid !== undefined && !isUnderWay && !isPinned(object.spec, status))
    return { ...idle, status, events };
  const pass = goOn(observed, status, decision);
  return { ...pass, events: [...events, ...pass.events] };
}

/** Whether it is to go back to what a person has named, which takes nothing of the spec's. */
function isPinned(spec: Observed["object"]["spec"], status: Status): boolean {
  return status.stable !== undefined && status.pinned?.revision === desiredRevision(spec, status);
}

/** What follows from the status, and from what a command has decided. */
function goOn(observed: Observed, status: Status, commanded: Omit<Decision, "at"> | undefined): Pass {
  const { stable } = status;
  const desired = desiredRevision(observed.object.spec, status);
  if (status.decision !== undefined) {
    const { revision } = status.decision;
    if (!isLost(observed, status.decision)) return act(observed, status, status.decision);
    const message = "the spec has changed before it was made";
    return decided(observed, status, { kind: "Supersede", revision, reason: "NewSpec", message });
  }
  if (commanded !== undefined) return decided(observed, status, commanded);
  if (stable === undefined) return first(observed, status, desired);
  const candidate = status.candidate?.revision;
  if (candidate === undefined) return settled(observed, status, desired);
  if (candidate === desired) return release(observed, status, candidate, stable.revision);
  const message = desired === stable.revision ? "the spec has gone back" : "a newer release has come";
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
  if (view === undefined || view.replicas !== spec.replicas) {
    const scale: Effect = { kind: "Scale", revision: desired, replicas: spec.replicas, template: "spec" };
    return { ...pass, status: { ...status, releaseStartedAt: started }, effects: [scale], holds: undefined };
  }
  const pods = podsHold(view, spec.replicas);
  if (pods !== undefined) return { ...pass, holds: pods };
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
  if (stream?.reachable === true && (isOpen || !ownsEverything(stable, stream.owners))) {
    effects.push({ kind: "Route", instruments: [REST], to: stable, caughtUp: false });
  }
  const due: number[] = [];
  const view = revisions.find(({ revision }) => revision === stable);
  if (view?.replicas !== object.spec.replicas) {
    const template = templateOf(object.spec, stable);
    effects.push({ kind: "Scale", revision: stable, replicas: object.spec.replicas, template });
  }
  const { restart } = status;
  if (restart?.revision === stable && view !== undefined && view.restartedAt !== restart.at) {
    effects.push({ kind: "Restart", revision: stable, at: restart.at });
  }
  const { previousStable } = status;
  const warm = previousStable !== undefined && Date.parse(previousStable.scaleDownAt) > now;
  if (warm) due.push(Date.parse(previousStable.scaleDownAt));
  const keep = warm ? previousStable.revision : undefined;
  for (const { revision, replicas } of revisions) {
    if (revision === stable || revision === keep || revision === desired || replicas === 0) continue;
    effects.push({ kind: "Scale", revision, replicas: 0, template: "own" });
  }
  effects.push(...pruned(observed, status, [stable, desired, ...(keep === undefined ? [] : [keep])]));
  const next = warm ? status : without(status, ["previousStable"]);
  const condemned = (status.condemned ?? []).includes(desired);
  if (desired === stable || condemned) {
    const old = revisions.find(({ revision }) => revision === desired);
    // One that was condemned is not started again by the way.
    if (condemned && (old?.replicas ?? 0) > 0)
      effects.push({ kind: "Scale", revision: desired, replicas: 0, template: "own" });
    return { status: next, effects, events: [], due, holds: undefined };
  }
  const started = time(now);
  const model = modelOf(object.spec.model, status, desired);
  const [last] = status.history ?? [];
  const isSwitched = last?.revision === desired && last.reason === STRATEGY_CHANGED;
  const beginning: Status = {
    ...without(next, [...(isSwitched ? [] : ["analysis"]), "pausedAt", "approvals", ...HELD]),
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

/** What a release runs by. */
const HELD: readonly (keyof Status)[] = ["currentStepHash", "strategy", "editedAt"];
const STRATEGY_CHANGED = "StrategyChanged";
/** Where a release stands before it has come to one of its steps for the first time. */
const BEFORE_STEPS: readonly (Hold["reason"] | undefined)[] = [
  ...(["Pods", "Coherence", "PausedByUser", "Frozen", "KafkaUnavailable", "Halted", "Inconclusive"] as const),
  "InvalidSpec",
];

/** A release, by what it has run by so far: what is edited is begun anew, and by itself gives the candidate nothing. */
function release(seen: Observed, before: Status, candidate: string, stable: string): Pass {
  const { now, object, instruments } = seen;
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
      paused: object.spec.paused || status.pausedAt !== undefined,
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
  const stableScale = stableReplicas(observed, steps, progress.index);
  const stableView = observed.revisions.find(({ revision }) => revision === stable);
  const scale: Effect[] =
    stableView?.replicas === stableScale || invalid !== undefined
      ? []
      : [{ kind: "Scale", revision: stable, replicas: stableScale, template: "own" }];
  const events: Note[] =
    progress.index > (status.currentStepIndex ?? 0)
      ? [{ type: "Normal", reason: "StepCompleted", message: stepMessage(candidate, steps, progress.index) }]
      : [];
  return { status: next, effects: [...scale, ...effects], events, due, holds };
}

function stepMessage(candidate: string, steps: readonly CanaryStep[], done: number): string {
  const step = Object.keys(steps[done - 1] ?? {})[0] ?? "";
  return `${candidate}: step ${done} of ${steps.length} is done (${step})`;
}

/** Without a stream the weight is in the numbers of replicas; with one stable computes everything all the while. */
function stableReplicas({ object, stream }: Observed, steps: readonly CanaryStep[], index: number): number {
  const { replicas } = object.spec;
  if (stream !== undefined) return replicas;
  // The steps that are done: stable shrinks when the candidate has grown.
  return Math.max(1, replicas - Math.floor((replicas * (weightAt(steps, index - 1) ?? 0)) / 100));
}

function act(observed: Observed, status: Status, decision: Decision): Pass {
  const { now } = observed;
  const { kind, revision, reason } = decision;
  const result =
    kind === "Promote"
      ? promote(observed, status, stepsFor(observed, status, revision))
      : { ...goBack(observed, status, revision), status, instead: undefined };
  if (result.instead !== undefined) return decided(observed, result.status, result.instead);
  if (!result.done) return { ...result, events: [], due: result.due ?? [] };
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
    ...HELD,
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
  // The harm that a revision has done stays counted, whatever strategy it is released by.
  const harm = reason === STRATEGY_CHANGED ? harmOf(status.analysis ?? [], now) : [];
  return {
    status: {
      ...cleared,
      history,
      ...(condemned.length === 0 ? {} : { condemned }),
      ...(harm.length === 0 ? {} : { analysis: harm }),
    },
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
