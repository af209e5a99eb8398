import { REST } from "#runtime/contracts/ledger.ts";
import type { CanaryStep } from "../api/model-deployment.ts";
import type { Decision, ModelDeploymentStatus } from "../api/status.ts";
import { closedGates, describeGate } from "./gates.ts";
import {
  because,
  canGoBack,
  coherenceHold,
  freezeHold,
  type Hold,
  SCALED_TO_ZERO,
  steadySince,
  streamHold,
  stuck,
} from "./holds.ts";
import type { Effect, Observed, RevisionView } from "./observed.ts";
import { wasPaused } from "./phase.ts";
import { time } from "./report.ts";
import { scaleStable, templateOf } from "./revision.ts";
import { ownsAny, ownsEverything } from "./steps.ts";
import { DOWN_MS, late, watch } from "./watch.ts";

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

/** How a decided promotion was to go on. */
export interface Promotion {
  readonly steps: readonly CanaryStep[];
  /** It has been here before: no gate and no freeze window holds it. */
  readonly fast: boolean;
  /** Why it is no longer asked for; undefined while it is. */
  readonly overtaken: string | undefined;
}

/**
 * A candidate that is to be promoted may have to wait, for pods or for what comes in, and decides meanwhile on what it has: it
 * is watched on. One that does harm, is no longer asked for, or is not there before the deadline, goes back.
 */
export function promote(
  observed: Observed,
  status: ModelDeploymentStatus,
  { steps, fast, overtaken }: Promotion,
): Promoting {
  const { now, object } = observed;
  const candidate = status.decision?.revision ?? "";
  // Past every step: whatever watches a release from some step on watches this.
  const index = Number.POSITIVE_INFINITY;
  const release = { candidate, stable: status.stable?.revision ?? "", steps, index };
  const { analysis, effects, due, harm, shared } = watch(observed, release, status.analysis ?? []);
  // A full promotion is a person's to decide; one that follows from its steps gives nothing more while stable suffers as well.
  const suffers = status.decision?.reason === "FullPromotion" ? undefined : shared;
  const held = forwardHold(observed, status, fast) ?? (suffers === undefined ? undefined : { hold: suffers });
  const moved = moveToCandidate(observed, candidate, held?.hold);
  const { done, holds, effects: own, due: ownDue = [] } = moved;
  const isHeld = holds?.paused === true;
  // Where nothing could be moved the deadline counts from when it can be again.
  const since = [status.progressedAt, status.decision?.at].flatMap((at) =>
    at === undefined ? [] : [Date.parse(at)],
  );
  const progressedAt = wasPaused(status) ? now : Math.max(...since);
  const deadline = progressedAt + object.spec.progressDeadlineSeconds * 1000;
  const isLate = !done && !isHeld && now > deadline;
  const canEnd = canGoBack(observed, release);
  const superseded: Omit<Decision, "at"> | undefined =
    done || overtaken === undefined
      ? undefined
      : { kind: "Supersede", revision: candidate, reason: "NewSpec", message: overtaken };
  return {
    done,
    status: {
      ...status,
      ...(isHeld ? {} : { progressedAt: time(progressedAt) }),
      ...(analysis.length === 0 ? {} : { analysis: [...analysis] }),
    },
    effects: [...effects, ...own],
    holds: isLate && !canEnd ? stuck(holds) : holds,
    due: [
      ...due,
      ...ownDue,
      ...(held?.until === undefined ? [] : [held.until]),
      ...(isHeld || isLate ? [] : [deadline + 1]),
    ],
    instead: harm ?? superseded ?? (isLate && canEnd ? late(candidate, holds) : undefined),
  };
}

/** Why nothing more is given to a candidate, though it is to be promoted; as of a release that still has steps. */
function forwardHold(
  { now, object }: Observed,
  status: ModelDeploymentStatus,
  fast: boolean,
): { readonly hold: Hold; readonly until?: number } | undefined {
  const { spec } = object;
  if (spec.replicas === 0) return { hold: SCALED_TO_ZERO };
  // A person who goes back does so whatever the spec says.
  const byCommand = status.pinned !== undefined && status.pinned.revision === status.decision?.revision;
  if (status.pausedAt !== undefined || (spec.paused && !byCommand))
    return { hold: { reason: "PausedByUser", message: "paused by a person", paused: true } };
  if (fast) return undefined;
  const frozen = freezeHold(spec, now);
  if (frozen !== undefined) return frozen;
  const [closed] = closedGates(spec.gates ?? [], status.approvals ?? []);
  if (closed === undefined) return undefined;
  return { hold: { reason: "Gate", message: describeGate(closed), paused: true } };
}

/** The candidate is brought to its full size, then gets everything. Pods that do not come are late while it is held, too. */
function moveToCandidate(observed: Observed, candidate: string, held: Hold | undefined): Concluded {
  const { now, object, revisions, stream } = observed;
  const view = revisions.find(({ revision }) => revision === candidate);
  // Without a stream more replicas are more of what comes in.
  const isSized = held !== undefined && stream === undefined;
  const replicas = isSized ? (view?.replicas ?? 0) : object.spec.replicas;
  const effects: Effect[] = [];
  if (view?.replicas !== replicas)
    effects.push({
      kind: "Scale",
      revision: candidate,
      replicas,
      template: templateOf(object.spec, candidate),
    });
  if (view?.replicas !== replicas || view.available < replicas)
    return waits(effects, "Pods", `the candidate gets its full size${sizeOf(view, replicas)}`);
  const incoherent = coherenceHold(view);
  if (incoherent !== undefined) return waits(effects, incoherent.reason, incoherent.message);
  const steadyAt = steadySince(view, object.spec);
  if (steadyAt > now) return waits(effects, "Pods", "its replicas have not run for long enough", [steadyAt]);
  if (held !== undefined) return { done: false, effects, holds: held };
  if (stream === undefined) return { done: true, effects, holds: undefined };
  const still = streamHold(stream);
  if (still !== undefined) return { done: false, effects, holds: still };
  if (ownsEverything(candidate, stream.owners) && stream.movingTo === undefined) {
    return { done: true, effects, holds: undefined };
  }
  return waits(
    [...effects, { kind: "Route", instruments: [REST], to: candidate, caughtUp: true }],
    "Moving",
    "the candidate gets everything",
  );
}

function sizeOf(view: RevisionView | undefined, replicas: number): string {
  return `, ${view?.available ?? 0} of ${replicas} replicas are available${because(view)}`;
}

export interface GoingBack extends Concluded {
  /** Stable has been without a replica for too long to be waited for, where something else is asked for. */
  readonly stableIsLost: boolean;
}

/** Everything goes back to stable, which is brought to full size first where it is not; then the candidate ends. */
export function goBack(observed: Observed, status: ModelDeploymentStatus, candidate: string): GoingBack {
  const { object, stream } = observed;
  const stable = status.stable?.revision ?? "";
  const effects = scaleStable(observed, stable, object.spec.replicas);
  const end: Effect = { kind: "Scale", revision: candidate, replicas: 0, template: "own" };
  const over: GoingBack = {
    done: true,
    effects: [...effects, end],
    holds: undefined,
    stableIsLost: false,
  };
  if (stream === undefined) return withoutStream(observed, status, candidate, over, effects);
  const view = observed.revisions.find(({ revision }) => revision === stable);
  // While Kafka is away nobody moves; what is decided stays decided.
  if (!stream.reachable)
    return { ...waits(effects, "KafkaUnavailable", "Kafka does not answer"), stableIsLost: false };
  const isStill = stream.movingTo === undefined;
  if (isStill && [...stream.owners.values()].every((owner) => owner === stable)) return over;
  // Never to a dead one.
  if ((view?.available ?? 0) === 0) {
    if (isStill && !ownsAny(candidate, stream.owners)) return over;
    return waitsForStable(observed, status, view, effects);
  }
  const route: Effect = { kind: "Route", instruments: [REST], to: stable, caughtUp: false };
  return {
    ...waits([...effects, route], "Moving", "everything goes back to stable"),
    stableIsLost: false,
  };
}

/**
 * The candidate ends as stable gets its replicas, one for one and one ahead: where there is room for no more, those of the
 * candidate are the room. One that serves nothing is not waited for; nor is one that was condemned kept beyond the deadline for want of room.
 */
function withoutStream(
  observed: Observed,
  status: ModelDeploymentStatus,
  candidate: string,
  over: GoingBack,
  effects: readonly Effect[],
): GoingBack {
  const { now, object, revisions } = observed;
  const { replicas, progressDeadlineSeconds } = object.spec;
  const view = revisions.find(({ revision }) => revision === status.stable?.revision);
  const own = revisions.find(({ revision }) => revision === candidate);
  const available = view?.available ?? 0;
  if (available >= replicas || (own?.available ?? 0) === 0) return over;
  if (available === 0) return waitsForStable(observed, status, view, effects);
  const deadline = Date.parse(status.decision?.at ?? time(now)) + progressDeadlineSeconds * 1000;
  if (now > deadline) return over;
  const left = replicas - available - 1;
  const fewer: readonly Effect[] =
    (own?.replicas ?? 0) > left
      ? [{ kind: "Scale", revision: candidate, replicas: left, template: "own" }]
      : [];
  const message = `stable gets its full size${sizeOf(view, replicas)}`;
  return { ...waits([...effects, ...fewer], "Pods", message, [deadline + 1]), stableIsLost: false };
}

function waitsForStable(
  { now }: Observed,
  { decision }: ModelDeploymentStatus,
  view: RevisionView | undefined,
  effects: readonly Effect[],
): GoingBack {
  const lostAt = (view?.downSince ?? Date.parse(decision?.at ?? time(now))) + DOWN_MS + 1;
  const message = `stable has no replica that could take over${because(view)}`;
  return {
    ...waits(effects, "Pods", message, lostAt > now ? [lostAt] : []),
    stableIsLost: lostAt <= now,
  };
}

function waits(
  effects: readonly Effect[],
  reason: Hold["reason"],
  message: string,
  due: readonly number[] = [],
): Concluded {
  return { done: false, effects, holds: { reason, message, paused: false }, due };
}
