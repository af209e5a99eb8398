import { describe, expect, it } from "vitest";
import type { Halt } from "#runtime/contracts/ledger.ts";
import { inForce, nextSequence, supersedes } from "./halt-order.ts";

const NOW = Date.UTC(2026, 10, 28);
const halt = (halted: boolean, sequence: number): Halt => ({ halted, sequence, reason: "r", at: NOW });
const FAR = [Number.MAX_SAFE_INTEGER, NOW * 1_000, NOW + 3_600_000];

/** What is in force when records are written one after another. */
function written(...records: readonly Halt[]): Halt | undefined {
  let current: Halt | undefined;
  for (const next of records) if (supersedes(next, current, NOW)) current = next;
  return current;
}

describe("the order of halts", () => {
  it("is that of their numbers, whatever order they are read in", () => {
    const [first, second] = [halt(true, NOW - 10), halt(false, NOW - 5)];
    expect(written(first, second)).toBe(second);
    expect(written(second, first)).toBe(second);
    expect(inForce(NOW, second, first)).toBe(second);
    expect(inForce(NOW, undefined, first)).toBe(first);
    expect(inForce(NOW)).toBeUndefined();
  });

  it.each(FAR)("lets a release numbered %d release nothing, and nobody's halt be less for it", (sequence) => {
    const far = halt(false, sequence);
    const [halted, released] = [halt(true, NOW), halt(false, NOW + 1)];
    expect(written(far)).toBeUndefined();
    expect(written(halted, far)).toBe(halted);
    expect(written(far, halted)).toBe(halted);
    expect(inForce(NOW, far, halted)).toBe(halted);
    expect(written(far, halted, released)).toBe(released);
  });

  it.each(FAR)("lets a halt numbered %d halt, until the next release of a right clock", (sequence) => {
    const far = halt(true, sequence);
    const released = halt(false, NOW);
    expect(written(far)).toBe(far);
    expect(written(halt(false, NOW - 1), far)).toBe(far);
    expect(inForce(NOW, far, released)).toBe(far);
    expect(written(far, released)).toBe(released);
    expect(written(far, released, halt(true, NOW + 1))).toMatchObject({ halted: true, sequence: NOW + 1 });
  });

  it("numbers by the clock, above what is known, and never beyond what can be counted", () => {
    expect(nextSequence(NOW)).toBe(NOW);
    expect(nextSequence(NOW, halt(true, NOW + 7), undefined)).toBe(NOW + 8);
    for (const sequence of FAR) expect(nextSequence(NOW, halt(true, sequence))).toBe(NOW);
  });
});
