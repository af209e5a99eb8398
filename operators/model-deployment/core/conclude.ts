import { REST } from "#runtime/contracts/ledger.ts";
import type { Decision, ModelDeploymentStatus } from "../api/status.ts";
import type { Effect, Observed } from "./observed.ts";
import { coherenceHold, type Hold, steadySince } from "./release.ts";
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

export function conclude(observed: Observed, status: ModelDeploymentStatus, decision: Decision): Concluded {
  return decision.kind === "Promote"
    ? promote(observed, decision.revision)
    : goBack(observed, status, decision.revision);
}

/** The candidate is brought to its full size, then gets everything. */
function promote(observed: Observed, candidate: string): Concluded {
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
  if (!stream.reachable) return waits(effects, "KafkaUnavailable", "Kafka does not answer");
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
function goBack(observed: Observed, status: ModelDeploymentStatus, candidate: string): Concluded {
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
