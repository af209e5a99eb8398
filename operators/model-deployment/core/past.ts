import type { CanaryStep } from "../api/model-deployment.ts";
import type { ModelDeploymentStatus } from "../api/status.ts";
import type { Observed } from "./observed.ts";
import { stepsOf } from "./steps.ts";

// Revisions that have been here before: which of them come back without steps.

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
