import { REST } from "#runtime/contracts/ledger.ts";
import type { CanaryStep } from "../api/model-deployment.ts";
import type { Decision, ModelDeploymentStatus } from "../api/status.ts";
import type { Effect, Observed } from "./observed.ts";
import { wasPaused } from "./phase.ts";
import { coherenceHold, type Hold, late, steadySince, streamHold, watch } from "./release.ts";
import { time } from "./report.ts";
import { templateOf } from "./revision.ts";
import { ownsAny, ownsEverything } from "./steps.ts";

// What a decision asks for, until it is done. Going back takes no steps.

export interface Concluded {
  readonly done: boolean;
  readonly effects: readonly Effect[];
  readonly holds: Hold | undefined;
  /** Milliseconds since 1970 at which something is due. */
  readonly due?: readonly number[];
}

export interface Promoting extends Concluded {
  readonly status: ModelDeploymentStatus;
  /** What becomes of the candidate instead. */
  readonly instead: Omit<Decision, "at"> | undefined;
}

/**
 * A candidate that is to be promoted may have to wait, for pods or for what comes in, and decides meanwhile on what it has: it
 * is watched on. One that does harm, or is not there before the deadline, goes back.
 */
export function promote(
  observed: Observed,
  status: ModelDeploymentStatus,
  steps: readonly CanaryStep[],
): Promoting {
  const { now, object } = observed;
  const candidate = status.decision?.revision ?? "";
  const release = {
    candidate,
    stable: status.stable?.revision ?? "",
    steps,
    index: Math.min(status.currentStepIndex ?? 0, steps.length),
  };
  const { analysis, effects, due, harm } = watch(observed, release, status.analysis ?? []);
  const { done, holds, effects: own, due: ownDue = [] } = moveToCandidate(observed, candidate);
  const isHeld = holds?.paused === true;
  // Where nothing could be moved the deadline counts from when it can be again.
  const since = [status.progressedAt, status.decision?.at].flatMap((at) =>
    at === undefined ? [] : [Date.parse(at)],
  );
  const progressedAt = wasPaused(status) ? now : Math.max(...since);
  const deadline = progressedAt + object.spec.progressDeadlineSeconds * 1000;
  const isLate = !done && !isHeld && now > deadline;
  return {
    done,
    status: {
      ...status,
      ...(isHeld ? {} : { progressedAt: time(progressedAt) }),
      ...(analysis.length === 0 ? {} : { analysis: [...analysis] }),
    },
    effects: [...effects, ...own],
    holds,
    due: [...due, ...ownDue, ...(isHeld ? [] : [deadline + 1])],
    instead: harm ?? (isLate ? late(candidate, holds) : undefined),
  };
}

/** The candidate is brought to its full size, then gets everything. */
function moveToCandidate(observed: Observed, candidate: string): Concluded {
  const { now, object, revisions, stream } = observed;
  const { replicas } = object.spec;
  const view = revisions.find(({ revision }) => revision === candidate);
  const effects: Effect[] = [];
  if (view?.replicas !== replicas)
    effects.push({
      kind: "Scale",
      revision: candidate,
      replicas,
      template: templateOf(object.spec, candidate),
    });
  if (view?.replicas !== replicas || view.available < replicas)
    return waits(effects, "Pods", "the candidate gets its full size");
  const incoherent = coherenceHold(view);
  if (incoherent !== undefined) return waits(effects, incoherent.reason, incoherent.message);
  const steadyAt = steadySince(view, object.spec);
  if (steadyAt > now) return waits(effects, "Pods", "its replicas have not run for long enough", [steadyAt]);
  if (stream === undefined) return { done: true, effects, holds: undefined };
  const held = streamHold(stream);
  if (held !== undefined) return { done: false, effects, holds: held };
  if (ownsEverything(candidate, stream.owners) && stream.movingTo === undefined) {
    return { done: true, effects, holds: undefined };
  }
  return waits(
    [...effects, { kind: "Route", instruments: [REST], to: candidate, caughtUp: true }],
    "Moving",
    "the candidate gets everything",
  );
}

/** Everything goes back to stable, which is brought to full size first where it is not; then the candidate ends. */
export function goBack(observed: Observed, status: ModelDeploymentStatus, candidate: string): Concluded {
  const { object, revisions, stream } = observed;
  const stable = status.stable?.revision ?? "";
  const { replicas } = object.spec;
  const view = revisions.find(({ revision }) => revision === stable);
  const effects: Effect[] = [];
  if (view?.replicas !== replicas)
    effects.push({ kind: "Scale", revision: stable, replicas, template: "own" });
  const end: Effect = { kind: "Scale", revision: candidate, replicas: 0, template: "own" };
  if (stream === undefined) {
    if ((view?.available ?? 0) < replicas) return waits(effects, "Pods", "stable gets its full size");
    return { done: true, effects: [...effects, end], holds: undefined };
  }
  // While Kafka is away nobody moves; what is decided stays decided.
  if (!stream.reachable) return waits(effects, "KafkaUnavailable", "Kafka does not answer");
  if (stream.movingTo === undefined && !ownsAny(candidate, stream.owners)) {
    return { done: true, effects: [...effects, end], holds: undefined };
  }
  // Never to a dead one.
  if ((view?.available ?? 0) === 0)
    return waits(effects, "Pods", "stable has no replica that could take over");
  return waits(
    [...effects, { kind: "Route", instruments: [REST], to: stable, caughtUp: false }],
    "Moving",
    "everything goes back to stable",
  );
}

function waits(
  effects: readonly Effect[],
  reason: Hold["reason"],
  message: string,
  due: readonly number[] = [],
): Concluded {
  return { done: false, effects, holds: { reason, message, paused: false }, due };
}
