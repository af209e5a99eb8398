import type { CanaryStep } from "../api/model-deployment.ts";
import type { ModelDeploymentStatus } from "../api/status.ts";
import type { Effect, Observed } from "./observed.ts";
import { stepsOf } from "./steps.ts";

// Revisions that have been here before: which of them come back without steps, and how many are kept.

type Status = ModelDeploymentStatus;

/** What a person has asked to go back to has been here before, as what was promoted not long ago. */
export function isFast(observed: Observed, status: Status, candidate: string): boolean {
  return status.pinned?.revision === candidate || withinRollbackWindow(observed, status, candidate);
}

export function stepsFor(observed: Observed, status: Status, candidate: string): readonly CanaryStep[] {
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

/** Revisions beyond the limit of those that are kept, oldest first. */
export function pruned({ object, revisions }: Observed, status: Status, keep: readonly string[]): Effect[] {
  const order = (status.history ?? []).map(({ revision }) => revision);
  const age = (revision: string) => {
    const at = order.indexOf(revision);
    return at === -1 ? order.length : at;
  };
  return revisions
    .filter(({ revision, replicas }) => !keep.includes(revision) && replicas === 0)
    .toSorted((a, b) => age(a.revision) - age(b.revision))
    .slice(object.spec.revisionHistoryLimit)
    .map(({ revision }) => ({ kind: "DeleteRevision", revision }));
}
