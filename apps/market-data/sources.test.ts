import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { parquetWriteFile } from "hyparquet-writer";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import type { MarketData } from "#runtime/contracts/index.ts";
import { live, replayed, type Source, simulated } from "./sources.ts";

let folder: string;
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), "baton-sources-"));
});
afterAll(() => rm(folder, { recursive: true }));

async function all(source: Source): Promise<MarketData[]> {
  const messages: MarketData[] = [];
  for await (const message of source(new AbortController().signal)) messages.push(message);
  return messages;
}

const HEADER =
  "type,instrument,assetClass,eventTime,sequence,price,size,side,bidPrice,bidSize,askPrice,askSize";
const csv = async (name: string, ...rows: string[]) => {
  const file = join(folder, name);
  await writeFile(file, [HEADER, ...rows].join("\n"));
  return file;
};

describe("replay", () => {
  it("reads trades and books of a CSV file", async () => {
    const file = await csv(
      "two.csv",
      "trade,BTCUSDT,crypto,1700000000000,0,64000.5,0.25,buy,,,,",
      "bookTop,BTCUSDT,crypto,1700000000001,1,,,,63999,1,64001,2",
    );
    expect(await all(replayed(file, 0))).toEqual([
      {
        type: "trade",
        instrument: "BTCUSDT",
        assetClass: "crypto",
        eventTime: 1_700_000_000_000,
        sequence: 0,
        price: 64_000.5,
        size: 0.25,
        side: "buy",
      },
      {
        type: "bookTop",
        instrument: "BTCUSDT",
        assetClass: "crypto",
        eventTime: 1_700_000_000_001,
        sequence: 1,
        bidPrice: 63_999,
        bidSize: 1,
        askPrice: 64_001,
        askSize: 2,
      },
    ]);
  });

  it("reads a Parquet file, group by group", async () => {
    const file = join(folder, "trades.parquet");
    const count = 250;
    const each = <T>(make: (i: number) => T) => Array.from({ length: count }, (_, i) => make(i));
    await parquetWriteFile({
      filename: file,
      rowGroupSize: 100,
      columnData: [
        { name: "type", data: each(() => "trade") },
        { name: "instrument", data: each(() => "ETHUSDT") },
        { name: "assetClass", data: each(() => "crypto") },
        { name: "eventTime", data: each((i) => BigInt(1_700_000_000_000 + i)), type: "INT64" },
        { name: "sequence", data: each((i) => i), type: "INT32" },
        { name: "price", data: each((i) => 3_000 + i / 4), type: "DOUBLE" },
        { name: "size", data: each(() => 1.5), type: "DOUBLE" },
        { name: "side", data: each(() => "sell") },
      ],
    });
    const messages = await all(replayed(file, 0));
    expect(messages).toHaveLength(count);
    expect(messages[200]).toMatchObject({ eventTime: 1_700_000_000_200, sequence: 200, price: 3_050 });
  });

  it("keeps the pace of the events, scaled", async () => {
    const file = await csv(
      "pace.csv",
      "trade,BTCUSDT,crypto,1000,0,1,1,buy,,,,",
      "trade,BTCUSDT,crypto,3000,1,1,1,buy,,,,",
    );
    const started = performance.now();
    await all(replayed(file, 10));
    const elapsed = performance.now() - started;
    expect(elapsed).toBeGreaterThan(150);
    expect(elapsed).toBeLessThan(2_000);
  });

  it("names file, row and field of what is wrong", async () => {
    const file = await csv(
      "bad.csv",
      "trade,BTCUSDT,crypto,1,0,1,1,buy,,,,",
      "trade,BTCUSDT,crypto,1,1,-1,1,buy,,,,",
    );
    await expect(all(replayed(file, 0))).rejects.toThrow(/bad\.csv, row 2: .*price/);
  });
});

describe("simulation", () => {
  it("keeps its rate and ends with its signal", async () => {
    const stop = new AbortController();
    let count = 0;
    setTimeout(() => stop.abort(), 500);
    for await (const _ of simulated(1, 2_000)(stop.signal)) count += 1;
    expect(count).toBeGreaterThan(500);
    expect(count).toBeLessThan(1_500);
  });
});

describe("live trades", () => {
  it("say which package they need", async () => {
    await expect(all(live("binance", ["BTC/USDT"]))).rejects.toThrow(/npm install --no-save ccxt/);
  });
});
