/** A condition as Kubernetes writes it (metav1.Condition). */
export interface ConditionNow {
  readonly type: string;
  readonly status: "True" | "False" | "Unknown";
  readonly reason: string;
  readonly message: string;
}

export interface ConditionThen extends ConditionNow {
  readonly lastTransitionTime: string;
  readonly observedGeneration?: number | undefined;
}

/** Conditions with the time of their last change of status; one that stays as it is keeps its time. */
export function mergeConditions(
  before: readonly ConditionThen[],
  now: readonly ConditionNow[],
  generation: number,
  at: number,
): ConditionThen[] {
  return now.map((condition) => {
    const old = before.find(({ type }) => type === condition.type);
    const same = old?.status === condition.status;
    const lastTransitionTime = same ? old.lastTransitionTime : new Date(at).toISOString();
    return { ...condition, lastTransitionTime, observedGeneration: generation };
  });
}
