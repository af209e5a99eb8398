import { describe, expect, it } from "vitest";
import { type Done, encodeMark, endsAt, isDone, type Mark, parseMark, resumeAt } from "./repair.ts";

const done = (live: readonly number[], shadow: readonly number[] = []) => {
  const map = new Map<bigint, Done>();
  for (const offset of shadow) map.set(BigInt(offset), { live: false, shadow: true });
  for (const offset of live) map.set(BigInt(offset), { live: true, shadow: map.has(BigInt(offset)) });
  return map;
};
const batch: Mark = { from: 10n, count: 3, kind: "batch", at: 1 };

describe("marks", () => {
  it("come back as they were", () => {
    for (const mark of [batch, { ...batch, kind: "live" as const, from: 2n ** 62n, at: 1_800_000_000_000 }]) {
      expect(parseMark(encodeMark(mark))).toEqual(mark);
    }
  });

  it("are nothing where another has written something else", () => {
    for (const text of [
      undefined,
      "",
      "1 x 3 batch 1",
      "2 10 3 batch 1",
      "1 10 3 other 1",
      "1 10 3 batch 1 ",
    ]) {
      expect(parseMark(text)).toBeUndefined();
    }
  });
});

describe("a worker goes on", () => {
  it.each([
    ["at its position when all of the last transaction is there", batch, done([10, 11, 12]), 13n],
    ["at its position when it is there live and shadow", batch, done([10], [11, 12]), 13n],
    ["at the last transaction's beginning when a part of it is missing", batch, done([10, 12]), 10n],
    ["at its beginning when all of it is missing", batch, done([]), 10n],
    [
      "there where shadows were to become live and have not",
      { ...batch, kind: "live" as const },
      done([], [10, 11, 12]),
      10n,
    ],
    ["at its position where there is no mark", undefined, done([]), 13n],
    ["at its position where it has only begun", { ...batch, from: 13n, count: 0 }, done([]), 13n],
  ])("%s", (_, mark, found, expected) => {
    expect(resumeAt(mark, 13n, found)).toBe(expected);
  });

  it("and writes what is not there: live stays live, shadow may become live", () => {
    const found = done([10], [11]);
    expect([10n, 11n, 12n].map((offset) => isDone(found, offset, "live"))).toEqual([true, false, false]);
    expect([10n, 11n, 12n].map((offset) => isDone(found, offset, "shadow"))).toEqual([true, true, false]);
    expect(isDone(done([10]), 10n, "withheld")).toBe(true);
  });
});

describe("a dead worker's decisions end", () => {
  it.each([
    ["at its position", batch, done([10, 11, 12]), 13n],
    ["behind what it made live without committing that", batch, done([10, 11, 12, 13, 15]), 16n],
    ["before what it committed and did not make", batch, done([]), 10n],
    ["at its position where only a part is there", batch, done([11]), 13n],
    ["at its position whatever is shadow behind it", batch, done([10, 11, 12], [13, 14]), 13n],
    ["at its position where there is no mark", undefined, done([]), 13n],
  ])("%s", (_, mark, found, expected) => {
    expect(endsAt(mark, 13n, found)).toBe(expected);
  });
});
