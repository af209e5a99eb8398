import { cut } from "#operators/controller-kit/text.ts";
import {
  type HistoryEntry,
  MAX_INSTRUMENTS,
  MAX_OWNERS,
  type ModelDeploymentStatus,
  NOTES,
} from "../api/status.ts";
import type { Note, Observed } from "./observed.ts";
import { revisionOf } from "./revision.ts";
import { weightOf } from "./steps.ts";

// What status says beside the decisions: pods, ledger, history, and the notes that people are told.

type Status = ModelDeploymentStatus;

export const DEPLOYMENT_LABEL = "baton.dev/deployment";
export const REVISION_LABEL = "baton.dev/revision";

export const time = (ms: number) => new Date(ms).toISOString();

export function revisionStatus(
  { revisions }: Observed,
  revision: string,
  model: { readonly version: string; readonly digest: string },
) {
  const view = revisions.find((entry) => entry.revision === revision);
  const { version, digest } = model;
  const { replicas = 0, available = 0, coherent = false } = view ?? {};
  return { revision, version, digest, replicas, available, coherent };
}

/** The status with what the pods and the ledger show now. */
export function reported(observed: Observed, status: Status): Status {
  const { stream, instruments, object } = observed;
  const refresh = (entry: Status["stable"]) =>
    entry === undefined ? undefined : revisionStatus(observed, entry.revision, entry);
  const stable = refresh(status.stable);
  const candidate = refresh(status.candidate);
  const byOwner = new Map<string, string[]>();
  for (const [key, owner] of stream?.owners ?? []) {
    byOwner.set(owner ?? "", [...(byOwner.get(owner ?? "") ?? []), key]);
  }
  // Where there are more owners than fit, those that count.
  const counts = (revision: string) => revision === stable?.revision || revision === candidate?.revision;
  const assignments = [...byOwner]
    .toSorted(([a], [b]) => Number(counts(b)) - Number(counts(a)))
    .slice(0, MAX_OWNERS)
    .map(([revision, keys]) => ({ revision, epoch: stream?.epoch ?? 0, instruments: shown(keys) }))
    .toSorted((a, b) => (a.revision < b.revision ? -1 : 1));
  const known = stream?.reachable === true;
  // What was undone is forgotten when the spec names another one.
  const over = status.pinned !== undefined && status.pinned.instead !== revisionOf(object.spec);
  return {
    ...without(status, ["weight", ...(known ? ["assignments"] : []), ...(over ? ["pinned"] : [])]),
    ...(stable === undefined ? {} : { stable }),
    ...(candidate === undefined ? {} : { candidate }),
    ...(known ? { assignments } : {}),
    ...(candidate !== undefined && known
      ? { weight: weightOf(candidate.revision, stream.owners, instruments) }
      : {}),
    observedGeneration: object.generation,
    ...scaleOf(observed, status),
  };
}

/**
 * What the scale subresource shows: the replicas that spec.replicas counts, and which pods those are. An autoscaler multiplies
 * by the number of pods that it finds, so they have to be those that share the work once.
 *
 * With a stream each revision computes everything: stable's are the ones, until another one is. Without one a canary's weight
 * is in its share of the replicas: both are. A preview, and what stays warm, do no work.
 */
function scaleOf({ object, revisions, stream }: Observed, { stable, candidate }: Status) {
  const first = stable?.revision ?? revisionOf(object.spec);
  const shares =
    candidate !== undefined && stream === undefined && object.spec.strategy.blueGreen === undefined;
  const counted = shares ? [first, candidate.revision].toSorted() : [first];
  const which = counted.length === 1 ? `=${first}` : ` in (${counted.join(",")})`;
  return {
    replicas: revisions
      .filter(({ revision }) => counted.includes(revision))
      .reduce((sum, view) => sum + view.replicas, 0),
    selector: `${DEPLOYMENT_LABEL}=${object.name},${REVISION_LABEL}${which}`,
  };
}

/** Instruments in order, as many as there is room for. */
function shown(keys: readonly string[]): string[] {
  const sorted = keys.toSorted();
  return sorted.length <= MAX_INSTRUMENTS ? sorted : [...sorted.slice(0, MAX_INSTRUMENTS - 1), "…"];
}

export function historyEntry(
  { now, object }: Observed,
  status: Status,
  revision: string,
  completionStatus: HistoryEntry["completionStatus"],
  reason: string,
  message?: string,
): HistoryEntry {
  const model = modelOf(object.spec.model, status, revision);
  return {
    revision,
    version: model.version,
    digest: model.digest,
    completionStatus,
    reason,
    ...(message === undefined ? {} : { message }),
    startedAt: status.releaseStartedAt ?? time(now),
    endedAt: time(now),
  };
}

/** Version and digest of a revision: the spec's, where nothing else is known of it. */
export function modelOf(
  model: { readonly version: string; readonly digest: string },
  { candidate, stable, history = [] }: Status,
  revision: string,
): { readonly version: string; readonly digest: string } {
  return [candidate, stable, ...history].find((entry) => entry?.revision === revision) ?? model;
}

/** The newest first. */
export function addHistory({ object }: Observed, status: Status, entry: HistoryEntry): HistoryEntry[] {
  return [entry, ...(status.history ?? [])].slice(0, Math.max(1, object.spec.revisionHistoryLimit));
}

export function without(status: Status, names: readonly string[]): Status {
  return Object.fromEntries(Object.entries(status).filter(([name]) => !names.includes(name)));
}

/** The status with what has happened in this pass; whoever comes after a crash can still tell it. */
export function noted({ now }: Observed, status: Status, events: readonly Note[]): Status {
  if (events.length === 0) return status;
  const { notes = [] } = status;
  // Of a status that was reduced the notes are gone, and not what was sent of them.
  const last = Math.max(notes.at(-1)?.id ?? 0, status.published ?? 0);
  const added = events.map((note, i) => ({
    id: last + 1 + i,
    at: time(now),
    ...note,
    message: cut(note.message, 1024),
  }));
  return { ...status, notes: [...notes, ...added].slice(-NOTES) };
}
