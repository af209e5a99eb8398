import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, afterEach, beforeAll, describe, expect, it, vi } from "vitest";
import type { MarketData } from "#runtime/contracts/index.ts";
import { standStill } from "#tests/support/virtual-time.ts";
import type { Rejection } from "./errors.ts";
import { type ReplayOptions, replayed } from "./replay.ts";

const AT = 1_735_689_600_000;
const HEADER =
  "type,instrument,assetClass,eventTime,sequence,price,size,side,bidPrice,bidSize,askPrice,askSize";
const row = (sequence: number, change: { time?: unknown; price?: string; side?: string } = {}) =>
  `trade,BTCUSDT,crypto,${change.time ?? AT + sequence},${sequence},${change.price ?? "64000.5"},0.25,${change.side ?? "buy"},,,,`;

let folder: string;
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), "baton-replay-"));
});
afterAll(() => rm(folder, { recursive: true }));

let files = 0;
const written = async (text: string) => {
  const file = join(folder, `${++files}.csv`);
  await writeFile(file, text);
  return file;
};
const csv = (...rows: string[]) => written([HEADER, ...rows].join("\n"));

async function read(file: string, options: ReplayOptions = {}): Promise<MarketData[]> {
  const messages: MarketData[] = [];
  for await (const message of replayed(file, 0, options)(new AbortController().signal))
    messages.push(message);
  return messages;
}

/** Sequences of what is published, and codes with details of what is rejected. */
async function sorted(file: string) {
  const rejections: Rejection[] = [];
  const messages = await read(file, { onRejected: (rejection) => rejections.push(rejection) });
  return {
    published: messages.map(({ sequence }) => sequence),
    rejected: rejections.map(({ code, detail }) => `${code} ${detail.replace(file, "file")}`),
  };
}

describe("replay of CSV", () => {
  it("reads trades and books", async () => {
    const book = `bookTop,BTCUSDT,crypto,${AT + 1},1,,,,63999,1,64001,2`;
    const common = { instrument: "BTCUSDT", assetClass: "crypto" };
    expect(await read(await csv(row(0), book, row(2, { side: "" })))).toEqual([
      { type: "trade", ...common, eventTime: AT, sequence: 0, price: 64_000.5, size: 0.25, side: "buy" },
      {
        ...{ type: "bookTop", ...common, eventTime: AT + 1, sequence: 1 },
        ...{ bidPrice: 63_999, bidSize: 1, askPrice: 64_001, askSize: 2 },
      },
      { type: "trade", ...common, eventTime: AT + 2, sequence: 2, price: 64_000.5, size: 0.25 },
    ]);
  });

  it("understands a byte order mark, CRLF, quotes, blank lines and columns of others", async () => {
    const rows = [
      `"type"${HEADER.slice("type".length)},venue`,
      `${row(0)},x`,
      "",
      `${row(1).replace("BTCUSDT", '"BTCUSDT"')},"a, ""b"""`,
      "",
    ];
    expect(await read(await written(`\uFEFF${rows.join("\r\n")}`))).toHaveLength(2);
  });

  it("reads candles, whose times have units too", async () => {
    const header =
      "type,instrument,assetClass,eventTime,sequence,openTime,closeTime,open,high,low,close,volume,trades";
    const us = AT * 1000;
    const [candle] = await read(
      await written(`${header}\ncandle,BTCUSDT,crypto,${us},0,${us},${us + 6e7},1,2,1,2,5,3`),
    );
    expect(candle).toMatchObject({ eventTime: AT, openTime: AT, closeTime: AT + 60_000 });
  });

  const wholeFiles: [string, string, RegExp][] = [
    ["an empty file", "", /\.csv: the file is empty/],
    ["a header alone", `${HEADER}\n`, /\.csv: there is no row/],
    [
      "missing columns",
      "type,instrument,eventTime,price\ntrade,BTCUSDT,1,1\n",
      /no column assetClass, sequence, size/,
    ],
    ["a column that is there twice", `${HEADER},price\n${row(0)},1\n`, /the column price is there twice/],
    ["another separator", [HEADER, row(0)].join("\n").replaceAll(",", ";"), /no column type, instrument/],
    [
      "rows none of which is a message",
      `${HEADER}\n${row(0, { price: "-1" })}\n`,
      /no row is a message; the first: .*row 1: price/,
    ],
    [
      "a time that may be anything",
      `${HEADER}\n${row(0, { time: 1000 })}\n`,
      /row 1: eventTime: 1000 is no time.*REPLAY_TIME_UNIT/,
    ],
    [
      "times in two units",
      [HEADER, row(0), row(1, { time: (AT + 1) * 1000 })].join("\n"),
      /row 2: eventTime: \d+, which is in microseconds/,
    ],
    [
      "a quote that is never closed",
      [HEADER, row(0), `"${"x".repeat(2 ** 20)}`, row(1)].join("\n"),
      /after row 1: /,
    ],
  ];
  it.each(wholeFiles)("ends with %s, naming the file", async (_, text, message) => {
    const file = await written(text);
    await expect(read(file, { onRejected: () => {} })).rejects.toThrow(message);
    await expect(read(file, { onRejected: () => {} })).rejects.toThrow(file);
  });

  it("says which file is not there", async () => {
    await expect(read("/nowhere/trades.csv")).rejects.toThrow(/REPLAY_FILE: .*\/nowhere\/trades\.csv/);
    await expect(read(folder)).rejects.toThrow(/is a folder/);
  });

  const badRows: [string, string, RegExp][] = [
    ["a price of 0", row(1, { price: "0" }), /^INVALID file, row 2: price/],
    ["a negative price", row(1, { price: "-1" }), /^INVALID file, row 2: price/],
    ["a price that is no number", row(1, { price: "n/a" }), /^INVALID file, row 2: price/],
    ["no price", row(1, { price: " " }), /^INVALID file, row 2: price/],
    ["no time", row(1, { time: "" }), /^INVALID file, row 2: eventTime/],
    ["a time that is none", row(1, { time: "soon" }), /^IMPLAUSIBLE_TIMESTAMP file, row 2: eventTime: soon/],
    ["1970", row(1, { time: "0" }), /^IMPLAUSIBLE_TIMESTAMP file, row 2: eventTime: 0/],
    ["a side that is none", row(1, { side: "both" }), /^INVALID file, row 2: side/],
    ["too few fields", "trade,BTCUSDT,crypto", /^MALFORMED file, row 2: 3 fields, not 12/],
    ["too many fields", `${row(1)},1`, /^MALFORMED file, row 2: 13 fields, not 12/],
    ["a stray quote", row(1).replace("64000.5", '64"000'), /^INVALID file, row 2: price/],
    ["a row that is there twice", row(0), /^DUPLICATE file, row 2: sequence: 0 of BTCUSDT/],
  ];
  it.each(badRows)("rejects one row with %s, and goes on", async (_, bad, rejection) => {
    const result = await sorted(await csv(row(0), bad, row(2)));
    expect(result.published).toEqual([0, 2]);
    expect(result.rejected).toEqual([expect.stringMatching(rejection)]);
  });

  it("rejects what goes back, and not what follows a single time that is too late", async () => {
    const late = row(2, { time: AT + 86_400_000 });
    const result = await sorted(await csv(row(0), row(1), late, row(3), row(1), row(4)));
    expect(result.published).toEqual([0, 1, 2, 3, 4]);
    expect(result.rejected).toEqual([expect.stringMatching(/^OUT_OF_ORDER file, row 5: sequence: 1/)]);
  });

  it("ends with the first bad row where nobody is told of it", async () => {
    await expect(read(await csv(row(0), row(1, { price: "-1" })))).rejects.toThrow(/row 2: price/);
  });

  it("takes the unit that it is told, and tells the one that it derives", async () => {
    const told: string[] = [];
    const onTimeUnit = (column: string, unit: string) => told.push(`${column} ${unit}`);
    const file = await csv(row(0, { time: AT / 1000 }));
    expect((await read(file, { onTimeUnit }))[0]?.eventTime).toBe(AT);
    expect((await read(file, { onTimeUnit, timeUnit: "s" }))[0]?.eventTime).toBe(AT);
    await expect(read(file, { timeUnit: "ns" })).rejects.toThrow(/as REPLAY_TIME_UNIT says/);
    expect(told).toEqual(["eventTime seconds"]);
  });
});

describe("the pace of a replay", () => {
  let end = () => {};
  afterEach(() => end());

  /** Replays in virtual time; `arrived` has the milliseconds after which each message came. */
  async function paced(speed: number, times: readonly number[], stop = new AbortController()) {
    const file = await csv(...times.map((time, i) => row(i, { time: AT + time })));
    end = standStill("2026-01-01T00:00:00Z");
    const arrived: number[] = [];
    const gaps: number[] = [];
    const begun = performance.now();
    const onGap = (_: number, ms: number) => gaps.push(Math.round(ms));
    const work = (async () => {
      for await (const _ of replayed(file, speed, { onGap })(stop.signal))
        arrived.push(Math.round(performance.now() - begun));
    })();
    // Reading the file takes turns of the loop, not time.
    while (arrived.length === 0)
      await new Promise((resolve) => process.nextTick(() => resolveLater(resolve)));
    return { arrived, gaps, work };
  }
  const resolveLater = (resolve: (value: unknown) => void) => vi.advanceTimersByTimeAsync(0).then(resolve);

  const DAY_MS = 86_400_000;
  it("is that of the events, scaled", async () => {
    const { arrived, work } = await paced(10, [0, 2_000, 2_000, 5_000]);
    await vi.advanceTimersByTimeAsync(10_000);
    await work;
    expect(arrived).toEqual([0, 200, 200, 500]);
  });

  it("holds over gaps that are longer than Node's timers", async () => {
    const { arrived, gaps, work } = await paced(1, [0, 26 * DAY_MS, 80 * DAY_MS]);
    await vi.advanceTimersByTimeAsync(80 * DAY_MS);
    await work;
    expect(arrived).toEqual([0, 26 * DAY_MS, 80 * DAY_MS]);
    expect(gaps).toEqual([26 * DAY_MS, 54 * DAY_MS]);
  });

  it("ends with its signal in the middle of a gap", async () => {
    const stop = new AbortController();
    const { arrived, work } = await paced(1, [0, 26 * DAY_MS], stop);
    await vi.advanceTimersByTimeAsync(DAY_MS);
    stop.abort();
    await work;
    expect(arrived).toEqual([0]);
  });
});
