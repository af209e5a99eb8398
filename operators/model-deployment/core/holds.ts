import { momentMs } from "../api/kit.ts";
import type { ModelDeploymentSpec } from "../api/model-deployment.ts";
import type { Observed } from "./observed.ts";
import type { Hold, Release } from "./release.ts";
import { ownsAny } from "./steps.ts";

// What holds a release or a promotion, and a release that is late.

export const SCALED_TO_ZERO: Hold = {
  reason: "ScaledToZero",
  message: "nobody decides: spec.replicas is 0",
  paused: true,
};

/** The freeze window that holds now. One that cannot be read holds: nobody can say that it does not. */
export function freezeHold(
  { freezeWindows = [] }: ModelDeploymentSpec,
  now: number,
): { readonly hold: Hold; readonly until: number } | undefined {
  for (const { from, to } of freezeWindows) {
    const [begin, end] = [momentMs(from), momentMs(to)];
    const unreadable = begin === undefined || end === undefined;
    if (!unreadable && !(begin <= now && now < end)) continue;
    const message = unreadable ? `${from} to ${to} is no window of time` : `no step forward until ${to}`;
    return { hold: { reason: "Frozen", message, paused: true }, until: end ?? Infinity };
  }
  return undefined;
}

/**
 * Whether a candidate that is late may be taken back: where it decides on something, stable has to have a replica. What is
 * alive is not given to what is dead because it is slow.
 */
export function canGoBack(
  { revisions, stream }: Observed,
  { candidate, stable, index }: Pick<Release, "candidate" | "stable" | "index">,
): boolean {
  const available = (of: string) => revisions.find(({ revision }) => revision === of)?.available ?? 0;
  if (available(stable) > 0) return true;
  if (stream !== undefined) return !ownsAny(candidate, stream.owners) && stream.movingTo !== candidate;
  return index === 0 || available(candidate) === 0;
}

/** Why a release that is late is not taken back. */
export function stuck(holds: Hold | undefined): Hold {
  const why = holds?.message ?? "not known why";
  return {
    reason: holds?.reason ?? "Pods",
    message: `it is late (${why}), and stable has no replica to go back to`,
    paused: false,
  };
}
