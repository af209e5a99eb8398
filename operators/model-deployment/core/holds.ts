import { momentMs } from "../api/kit.ts";
import type { ModelDeploymentSpec } from "../api/model-deployment.ts";
import type { Observed, RevisionView, StreamView } from "./observed.ts";
import type { Release } from "./release.ts";
import { ownsAny } from "./steps.ts";

// What holds a release or a promotion, and a release that is late.

export interface Hold {
  readonly reason:
    | "Pods"
    | "Coherence"
    | "Moving"
    | "Pause"
    | "PausedByUser"
    | "Gate"
    | "Analysis"
    | "Inconclusive"
    | "SharedCause"
    | "Frozen"
    | "KafkaUnavailable"
    | "Halted"
    | "ScaledToZero"
    | "StepsEdited"
    | "InvalidSpec";
  readonly message: string;
  /** A pause, which no deadline counts. */
  readonly paused: boolean;
}

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

/**
 * A replica that is ready for a moment and ends proves nothing: one that has just come, and one that had to be started
 * again; that has half a minute to prove itself, or a third of the deadline where that is less.
 */
const STEADY_MS = 3_000;
const STEADY_AFTER_CRASH_MS = 30_000;

/** From when on a revision's replicas count, as milliseconds since 1970. */
export function steadySince(
  { readySince = 0, crashedAt }: Partial<RevisionView> = {},
  { progressDeadlineSeconds }: ModelDeploymentSpec,
): number {
  const wait = Math.min(STEADY_AFTER_CRASH_MS, (progressDeadlineSeconds * 1000) / 3);
  const crashed = crashedAt === undefined ? 0 : crashedAt + wait;
  return Math.max(readySince + STEADY_MS, crashed);
}

/** Why nothing is moved forward, which no deadline counts. */
export function streamHold(stream: StreamView | undefined): Hold | undefined {
  if (stream?.reachable === false)
    return { reason: "KafkaUnavailable", message: "Kafka does not answer: nothing is moved", paused: true };
  if (stream?.halted === true)
    return { reason: "Halted", message: "the kill switch is on: nothing is moved", paused: true };
  return undefined;
}

/** What a revision lacks of its replicas; undefined where it has them, and all are what was released. */
export function podsHold(view: RevisionView | undefined, replicas: number): Hold | undefined {
  const available = view?.available ?? 0;
  if (view === undefined || view.replicas !== replicas || available < replicas) {
    const message = `${available} of ${replicas} replicas are available${because(view)}`;
    return { reason: "Pods", message, paused: false };
  }
  return coherenceHold(view);
}

/** What is known of why a revision's pods do not come. */
export function because(view: RevisionView | undefined): string {
  return view?.problem === undefined ? "" : `: ${view.problem}`;
}

/** One server of eight with another model is what ended Knight Capital: nobody decides before all say the same. */
export function coherenceHold({ coherent, deviation }: RevisionView): Hold | undefined {
  if (coherent) return undefined;
  const message = "not every replica reports the model and configuration that it should";
  return {
    reason: "Coherence",
    message: deviation === undefined ? message : `${message}: ${deviation}`,
    paused: false,
  };
}
