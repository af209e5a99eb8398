import type { ReadOutcome } from "./outcome.ts";
import { type Duty, forcedRelease, moves, type PartitionState, workerDuty } from "./rules.ts";

// A broker that dies in the middle of a commit may come back with half of it (ADR 13): outcomes without the position that
// they were committed with, or the position without the outcomes. Whoever takes over compares the two and does what is
// missing, once.

/** What a worker says with each position that it commits. */
export interface Mark {
  /** Input offset of the transaction's first outcome. */
  readonly from: bigint;
  /** Outcomes in it. */
  readonly count: number;
  /** live: a take-over, which makes outcomes live that are there as shadow. */
  readonly kind: "batch" | "live";
  /** By the worker's clock, before any of it was written; milliseconds since 1970. */
  readonly at: number;
}

export function encodeMark({ from, count, kind, at }: Mark): string {
  return `1 ${from} ${count} ${kind} ${at}`;
}

/** undefined for what is no mark, such as of a worker that wrote none. */
export function parseMark(text: string | undefined): Mark | undefined {
  const match = /^1 (\d{1,19}) (\d{1,9}) (batch|live) (\d{1,15})$/.exec(text ?? "");
  if (match === null) return undefined;
  const [, from = "", count = "", kind, at = ""] = match;
  return { from: BigInt(from), count: Number(count), kind: kind as Mark["kind"], at: Number(at) };
}

/** Which outcomes of an input offset there are. */
export interface Done {
  readonly instrument: string;
  readonly live: boolean;
  readonly shadow: boolean;
}

type DoneOffsets = ReadonlyMap<bigint, Done>;

/** Takes note of an outcome, by its input offset. Withheld ones count as live: they are final. */
export function noteDone(
  done: Map<bigint, Done>,
  { offset, action, instrument }: Pick<ReadOutcome, "offset" | "action" | "instrument">,
): void {
  const { live, shadow } = done.get(offset) ?? { live: false, shadow: false };
  const isShadow = action === "shadow";
  done.set(offset, { instrument, live: live || !isShadow, shadow: shadow || isShadow });
}

/** Whether an outcome need not be written again. What is live need not be shadow; what is shadow may become live. */
export function isDone(done: DoneOffsets, offset: bigint, action: "live" | "shadow" | "withheld"): boolean {
  const known = done.get(offset);
  if (known === undefined) return false;
  return known.live || (action === "shadow" && known.shadow);
}

/** How much of the transaction that committed a position is there. */
function countOf({ from, kind }: Mark, position: bigint, done: DoneOffsets): number {
  let count = 0;
  for (const [offset, { live }] of done) {
    if (offset >= from && offset < position && (kind === "batch" || live)) count += 1;
  }
  return count;
}

/** Where a worker goes on that has committed a position: where something is missing, that is done again. */
export function resumeAt(mark: Mark | undefined, position: bigint, done: DoneOffsets): bigint {
  if (mark === undefined || mark.from >= position) return position;
  return countOf(mark, position, done) < mark.count ? mark.from : position;
}

/** Behind the last of some instruments' records that are decided for good, and not before `from`. */
function endOfLive(done: DoneOffsets, isMoved: (instrument: string) => boolean, from = 0n): bigint {
  let end = from;
  for (const [offset, { live, instrument }] of done) {
    if (live && offset >= end && isMoved(instrument)) end = offset + 1n;
  }
  return end;
}

/**
 * What a worker has to write for the ledger where some of what it has before it is decided already. It lets go behind
 * that: until it is there, nothing is to be written. Where it is asked to give back what it has made live, as by the ledger
 * it has not, the ledger hears of that first: a duty to take without `keep`.
 */
export function repairedDuty(
  state: PartitionState,
  revision: string,
  position: bigint,
  done: DoneOffsets,
): Duty | undefined {
  const duty = workerDuty(state, revision, position);
  const [move] = state.moves;
  if (done.size === 0 || duty?.kind !== "release" || move === undefined) return duty;
  const end = endOfLive(done, (instrument) => moves(state, move.keys, instrument));
  if (end <= duty.cut) return duty;
  if (end > position) return undefined;
  const { epoch, keys, cut = position } = move;
  return { kind: "take", epoch, keys, cut, fill: duty.cut, keep: false };
}

export interface ForcedRelease {
  readonly epoch: number;
  readonly cut: bigint;
  /** How far a take-over that is given back had come, where the ledger does not say so yet. */
  readonly filled: { readonly epoch: number; readonly next: bigint } | undefined;
}

/**
 * What is written in the name of a dead worker that has to let go, so that somebody else goes on: behind what it made live
 * of the instruments that move, and before what it committed without making it. Where it decided on a later record than
 * on one that is missing, the missing one is nobody's, and the history checker tells.
 */
export function forcedEnd(
  state: PartitionState,
  revision: string,
  standing:
    | { readonly position: bigint; readonly mark: Mark | undefined; readonly done: DoneOffsets }
    | undefined,
): ForcedRelease | undefined {
  const [move, second] = state.moves;
  if (move === undefined) return undefined;
  const { position = 0n, mark, done = new Map<bigint, Done>() } = standing ?? {};
  const isMoved = (instrument: string) => moves(state, move.keys, instrument);
  const begun = mark?.kind === "batch" ? resumeAt(mark, position, done) : position;
  const release = forcedRelease(state, revision, endOfLive(done, isMoved, begun));
  if (release === undefined) return undefined;
  const next = endOfLive(done, isMoved);
  const givesBack = release.epoch === second?.epoch;
  if (!givesBack || next <= release.cut) return { ...release, filled: undefined };
  return { epoch: release.epoch, cut: next, filled: { epoch: move.epoch, next } };
}
