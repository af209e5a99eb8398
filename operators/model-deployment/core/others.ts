import type { ModelDeploymentStatus } from "../api/status.ts";
import type { Effect, Observed } from "./observed.ts";
import { DOWN_MS } from "./watch.ts";

// Revisions besides the stable one and the candidate: which go on, which end, and which are deleted.

/** Those that run have no replicas any more. */
export const end = (revisions: Observed["revisions"]): Effect[] =>
  revisions
    .filter(({ replicas }) => replicas > 0)
    .map(({ revision }) => ({ kind: "Scale", revision, replicas: 0, template: "own" }));

/**
 * Revisions that were taken back and go on all the same, for stable had no replica that could take over: those that own
 * something; without a stream all that run, until stable has a replica. One that is dead itself takes the room of the fix.
 */
export function stillNeeded({ now, revisions, stream }: Observed, stable: string): readonly string[] {
  const isAlive = revisions.some(({ revision, available }) => revision === stable && available > 0);
  const owners = stream === undefined ? undefined : [...stream.owners.values()];
  return revisions
    .filter(({ revision, available, downSince = now }) => {
      if (owners === undefined) return !isAlive && available > 0;
      // Where Kafka is away it is not known who owns what.
      if (stream?.reachable === false) return true;
      // Nor what is on its way: partitions differ.
      const mayOwn = owners.includes(revision) || owners.includes(undefined);
      return mayOwn && (available > 0 || now - downSince <= DOWN_MS);
    })
    .map(({ revision }) => revision);
}

/** Revisions beyond the limit of those that are kept, oldest first. */
export function pruned(
  { object, revisions }: Observed,
  status: ModelDeploymentStatus,
  keep: readonly string[],
): Effect[] {
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
