import { describe, expect, it } from "vitest";
import type { Ledger } from "#runtime/contracts/ledger.ts";
import {
  type Done,
  encodeMark,
  forcedEnd,
  isDone,
  type Mark,
  noteDone,
  parseMark,
  repairedDuty,
  resumeAt,
} from "./repair.ts";
import { applyLedger, EMPTY_LEDGER, partitionState } from "./rules.ts";

/** Even offsets are BTCUSDT's, odd ones ETHUSDT's. */
const done = (live: readonly number[], shadow: readonly number[] = []) => {
  const map = new Map<bigint, Done>();
  const note = (action: "live" | "shadow") => (offset: number) =>
    noteDone(map, { offset: BigInt(offset), action, instrument: offset % 2 === 0 ? "BTCUSDT" : "ETHUSDT" });
  shadow.forEach(note("shadow"));
  live.forEach(note("live"));
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

const place = { topic: "md", partition: 0 };
const request = (epoch: number, from: string | null, to: string, instruments: string[]): Ledger => {
  return { type: "request", at: 1, epoch, instruments, from, to, partitions: [place] };
};
const taken = (epoch: number, revision: string, cut: number): Ledger => {
  return { type: "taken", at: 1, epoch, revision, ...place, cut: String(cut), next: String(cut) };
};
const released = (epoch: number, cut: number): Ledger => {
  return { type: "released", at: 1, epoch, revision: "a", ...place, cut: String(cut), forced: false };
};
const ledger = (...records: Ledger[]) => partitionState(records.reduce(applyLedger, EMPTY_LEDGER), place);
const owned = [request(1, null, "a", ["*"]), taken(1, "a", 0)];
/** a is to let go of everything, or of BTCUSDT. */
const asked = ledger(...owned, request(2, "a", "b", ["*"]));
const askedForOne = ledger(...owned, request(2, "a", "b", ["BTCUSDT"]));
/** b was to have BTCUSDT from offset 5 on, and is asked back. */
const askedBack = ledger(
  ...owned,
  request(2, "a", "b", ["BTCUSDT"]),
  { type: "released", at: 1, epoch: 2, revision: "a", ...place, cut: "5", forced: false },
  request(3, "b", "a", ["BTCUSDT"]),
);

describe("a worker lets go", () => {
  it("behind what it has decided, when it is there", () => {
    expect(repairedDuty(asked, "a", 10n, done([10, 13]))).toBeUndefined();
    expect(repairedDuty(asked, "a", 13n, done([10, 13]))).toBeUndefined();
    expect(repairedDuty(asked, "a", 14n, done([10, 13]))).toEqual({ kind: "release", epoch: 2, cut: 14n });
    expect(repairedDuty(asked, "a", 10n, done([], [10, 13]))).toMatchObject({ cut: 10n });
  });

  it("at once of what it has not decided on", () => {
    expect(repairedDuty(askedForOne, "a", 10n, done([11, 13]))).toMatchObject({ kind: "release", cut: 10n });
    expect(repairedDuty(askedForOne, "a", 10n, done([11, 12]))).toBeUndefined();
  });

  it("of instruments that begin at different cuts when it has come to the last of them", () => {
    const two = [request(2, "a", "b", ["ETHUSDT"]), released(2, 20), taken(2, "b", 20)];
    const both = ledger(
      ...[...owned, request(3, "a", "b", ["BTCUSDT"]), released(3, 5), taken(3, "b", 5)],
      ...two.map((record) => ("epoch" in record ? { ...record, epoch: record.epoch + 2 } : record)),
      request(5, "b", "a", ["BTCUSDT", "ETHUSDT"]),
    );
    expect(repairedDuty(both, "b", 10n, done([]))).toBeUndefined();
    expect(forcedEnd(both, "b", { position: 10n, mark: undefined, done: done([]) })).toBeUndefined();
    expect(repairedDuty(both, "b", 20n, done([]))).toEqual({ kind: "release", epoch: 5, cut: 20n });
    const later = ledger(...owned, ...two, request(3, "b", "a", ["ETHUSDT"]));
    expect(repairedDuty(later, "b", 10n, done([]))).toEqual({ kind: "release", epoch: 3, cut: 20n });
  });

  it("of what it has made live without the ledger, once the ledger says so", () => {
    expect(repairedDuty(askedBack, "b", 20n, done([]))).toEqual({ kind: "release", epoch: 3, cut: 5n });
    expect(repairedDuty(askedBack, "b", 20n, done([7]))).toEqual({ kind: "release", epoch: 3, cut: 5n });
    expect(repairedDuty(askedBack, "b", 20n, done([6, 8]))).toEqual({
      kind: "take",
      epoch: 2,
      keys: ["BTCUSDT"],
      cut: 5n,
      fill: 5n,
      keep: false,
    });
    expect(repairedDuty(askedBack, "b", 8n, done([6, 8]))).toBeUndefined();
  });
});

describe("a dead worker's decisions end", () => {
  it.each([
    ["at its position", asked, batch, done([10, 11, 12]), 13n],
    ["behind what it made live without committing that", asked, batch, done([10, 11, 12, 13, 15]), 16n],
    ["at its position where that is of others", askedForOne, batch, done([10, 11, 12, 13, 15]), 13n],
    ["before what it committed and did not make", asked, batch, done([]), 10n],
    ["behind the last that is there of a part", asked, batch, done([11]), 12n],
    ["before a part that is of others", askedForOne, batch, done([11]), 10n],
    ["at its position whatever is shadow behind it", asked, batch, done([10, 11, 12], [13, 14]), 13n],
    ["at its position where there is no mark", asked, undefined, done([]), 13n],
    ["at its position after a take-over", asked, { ...batch, kind: "live" as const }, done([]), 13n],
  ])("%s", (_, state, mark, found, cut) => {
    expect(forcedEnd(state, "a", { position: 13n, mark, done: found })).toEqual({
      epoch: 2,
      cut,
      filled: undefined,
    });
  });

  it("where it had come in taking over, when it is asked back", () => {
    const standing = { position: 20n, mark: undefined, done: done([6, 8, 11]) };
    expect(forcedEnd(askedBack, "b", { ...standing, done: done([7]) })).toEqual({
      epoch: 3,
      cut: 5n,
      filled: undefined,
    });
    const end = forcedEnd(askedBack, "b", standing);
    expect(end).toEqual({ epoch: 3, cut: 9n, filled: { epoch: 2, next: 9n } });
  });

  it("nowhere where it is not to let go", () => {
    expect(forcedEnd(asked, "b", undefined)).toBeUndefined();
    expect(forcedEnd(ledger(...owned), "a", undefined)).toBeUndefined();
  });
});
