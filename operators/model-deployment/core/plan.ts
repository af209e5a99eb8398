import { REST } from "#runtime/contracts/ledger.ts";
import type { Decision, ModelDeploymentStatus } from "../api/status.ts";
import { goBack, promote } from "./conclude.ts";
import { HELD, harmOf, STRATEGY_CHANGED } from "./edits.ts";
import { fitted } from "./fit.ts";
import { type Hold, podsHold, SCALED_TO_ZERO } from "./holds.ts";
import type { Effect, Note, Observed, Plan } from "./observed.ts";
import { end, pruned, stillNeeded } from "./others.ts";
import { decided, type Pass } from "./pass.ts";
import { isFast, stepsFor } from "./past.ts";
import { phaseAndConditions } from "./phase.ts";
import { problemOf } from "./problems.ts";
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
import { ownsEverything } from "./steps.ts";
import { release } from "./under-way.ts";
import { withUpkeep } from "./upkeep.ts";
import { obey } from "./verbs.ts";

// The operator's whole decision: from what one pass sees to what it writes and does.

type Status = ModelDeploymentStatus;

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
  return {
    ...planned,
    status: fitted(planned.status),
    effects: withUpkeep(observed, planned.effects),
    events,
  };
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
  if (holds.reason === "SharedCause" || holds.reason === "InvalidSpec")
    return [{ type: "Warning", reason: holds.reason, message }];
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
