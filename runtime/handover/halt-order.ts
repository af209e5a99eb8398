import type { Halt } from "#runtime/contracts/ledger.ts";

// Which of several records of the kill switch is in force. The highest sequence number is, and those come from the clocks of
// the people who halt and release: one that is far ahead would be the highest for ever, and nobody could halt any more.

/** A sequence number may be ahead of our clock by this many milliseconds. */
const MAX_AHEAD = 5 * 60_000;

/** Whether the number can come of a clock that is right. */
export function isPlausible(halt: Halt, now: number): boolean {
  return halt.sequence <= now + MAX_AHEAD;
}

/**
 * Whether a record that was written after another takes its place. One that is too far ahead halts, since somebody wanted
 * that, until the next one of a right clock; it releases nothing.
 */
export function supersedes(next: Halt, current: Halt | undefined, now: number): boolean {
  const before = current !== undefined && isPlausible(current, now) ? current : undefined;
  if (!isPlausible(next, now)) return next.halted && (current === undefined || before !== undefined);
  return next.sequence > (before?.sequence ?? 0);
}

/** What is in force of copies of which nobody knows which was written last. */
export function inForce(now: number, ...copies: readonly (Halt | undefined)[]): Halt | undefined {
  let latest: Halt | undefined;
  for (const copy of copies) {
    if (copy === undefined) continue;
    if (!isPlausible(copy, now)) {
      if (copy.halted) return copy;
    } else if (copy.sequence > (latest?.sequence ?? 0)) latest = copy;
  }
  return latest;
}

/** The number of a new record: by the clock, so that it is above what could not be read; never below what could. */
export function nextSequence(now: number, ...known: readonly (Halt | undefined)[]): number {
  const read = known
    .filter((halt) => halt !== undefined && isPlausible(halt, now))
    .map((halt) => halt?.sequence ?? 0);
  return Math.max(now, ...read.map((sequence) => sequence + 1));
}
