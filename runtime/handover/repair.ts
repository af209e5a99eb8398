import type { ReadOutcome } from "./outcome.ts";

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
  readonly live: boolean;
  readonly shadow: boolean;
}

type DoneOffsets = ReadonlyMap<bigint, Done>;

/** Takes note of an outcome, by its input offset. Withheld ones count as live: they are final. */
export function noteDone(
  done: Map<bigint, Done>,
  { offset, action }: Pick<ReadOutcome, "offset" | "action">,
): void {
  const { live, shadow } = done.get(offset) ?? { live: false, shadow: false };
  const isShadow = action === "shadow";
  done.set(offset, { live: live || !isShadow, shadow: shadow || isShadow });
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

/**
 * Where a dead worker's decisions end, for somebody else to go on: behind what it made live without committing that, or
 * before what it committed without making any of it. Where only a part is there nobody can do the rest in its name: the
 * position stays, and the history checker tells.
 */
export function endsAt(mark: Mark | undefined, position: bigint, done: DoneOffsets): bigint {
  let end = position;
  for (const [offset, { live }] of done) if (live && offset >= end) end = offset + 1n;
  if (end > position || mark === undefined || mark.count === 0 || mark.kind === "live") return end;
  return mark.from < position && countOf(mark, position, done) === 0 ? mark.from : position;
}
