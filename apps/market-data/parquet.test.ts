import { mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { parquetWriteBuffer } from "hyparquet-writer";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import type { MarketData } from "#runtime/contracts/index.ts";
import { replayed } from "./replay.ts";

// Written by Apache Arrow (fixtures/make.py): 60 trades in row groups of 25, the first at 2025-01-01.
const fixture = (name: string) => join(import.meta.dirname, "fixtures", `${name}.parquet`);
const AT = 1_735_689_600_000;

let folder: string;
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), "baton-parquet-"));
});
afterAll(() => rm(folder, { recursive: true }));

let files = 0;
async function written(bytes: Uint8Array, name = `${++files}.parquet`): Promise<string> {
  const file = join(folder, name);
  await writeFile(file, bytes);
  return file;
}

async function read(file: string): Promise<MarketData[]> {
  const messages: MarketData[] = [];
  for await (const message of replayed(file, 0)(new AbortController().signal)) messages.push(message);
  return messages;
}

const COUNT = 250;
const each = <T>(make: (i: number) => T) => Array.from({ length: COUNT }, (_, i) => make(i));
const columns = () => [
  { name: "type", data: each(() => "trade") },
  { name: "instrument", data: each(() => "ETHUSDT") },
  { name: "assetClass", data: each(() => "crypto") },
  { name: "eventTime", data: each((i) => BigInt(AT + i)), type: "INT64" as const },
  { name: "sequence", data: each((i) => i), type: "INT32" as const },
  { name: "price", data: each((i) => 3_000 + i / 4), type: "DOUBLE" as const },
  { name: "size", data: each(() => 1.5), type: "DOUBLE" as const },
  { name: "note", data: each((i) => `${i} of another`) },
];
type Options = Omit<Parameters<typeof parquetWriteBuffer>[0], "columnData">;
const made = (options: Options = {}) =>
  new Uint8Array(parquetWriteBuffer({ columnData: columns(), rowGroupSize: 100, ...options }));

/** A block of LZ4 that says its bytes literally, framed as Hadoop does: what "LZ4" meant before LZ4_RAW. */
function hadoopLz4(bytes: Uint8Array): Uint8Array {
  const extra = bytes.length - 15;
  const length =
    extra < 0 ? [bytes.length << 4] : [0xf0, ...Array(Math.floor(extra / 255)).fill(255), extra % 255];
  const block = Buffer.concat([Buffer.from(length), bytes]);
  const frame = Buffer.alloc(8);
  frame.writeUInt32BE(bytes.length, 0);
  frame.writeUInt32BE(block.length, 4);
  return Buffer.concat([frame, block]);
}

describe("replay of Parquet", () => {
  it.each(["snappy", "gzip", "brotli", "zstd", "lz4"])("reads %s", async (codec) => {
    const messages = await read(fixture(codec));
    expect(messages).toHaveLength(60);
    expect(messages.map(({ eventTime }) => eventTime - AT)).toEqual(Array.from({ length: 60 }, (_, i) => i));
    expect(messages[26]).toMatchObject({ sequence: 26, price: 3_006.5, size: 1.5 });
    expect(messages[26]).not.toHaveProperty("side");
    expect(messages[27]).toHaveProperty("side", "buy");
  });

  it("reads what is not compressed, and LZ4 as Hadoop frames it", async () => {
    for (const options of [
      { codec: "UNCOMPRESSED" },
      { codec: "LZ4", compressors: { LZ4: hadoopLz4 } },
    ] as const) {
      const messages = await read(await written(made(options)));
      expect(messages).toHaveLength(COUNT);
      expect(messages[200]).toMatchObject({ eventTime: AT + 200, sequence: 200, price: 3_050 });
    }
  });

  it.each(["timestamp-ns", "timestamp-us", "int96", "uint64-ns"])("reads times of %s", async (name) => {
    expect((await read(fixture(name))).map(({ eventTime }) => eventTime - AT)).toEqual(
      Array.from({ length: 60 }, (_, i) => i),
    );
  });

  it("reads dates", async () => {
    const messages = await read(fixture("date"));
    expect([messages[0]?.eventTime, messages[59]?.eventTime]).toEqual([AT, AT + 86_400_000]);
  });

  it("knows a Parquet file by its beginning, whatever its name", async () => {
    expect(await read(await written(made(), "trades.data"))).toHaveLength(COUNT);
  });

  const swapped = (bytes: Uint8Array, at: number, by: string) => {
    const copy = Uint8Array.from(bytes);
    copy.set(Buffer.from(by, "latin1"), at);
    return copy;
  };
  const wrong: [string, () => Uint8Array, RegExp][] = [
    ["nothing", () => new Uint8Array(), /: the file is empty$/],
    [
      "text",
      () => Buffer.from("type,instrument\ntrade,BTCUSDT\n"),
      /: no Parquet file, it does not begin with PAR1$/,
    ],
    ["another magic", () => swapped(made(), 0, "NOPE"), /: no Parquet file, it does not begin with PAR1$/],
    ["encryption", () => swapped(made(), 0, "PARE"), /: the Parquet file is encrypted$/],
    ["its beginning alone", () => Buffer.from("PAR1"), /: the Parquet file is cut off/],
    [
      "half of it",
      () => made().subarray(0, 3_000),
      /: the Parquet file is cut off, it does not end with PAR1$/,
    ],
    [
      "a piece missing in the middle",
      () => Buffer.concat([made().subarray(0, 800), made().subarray(2_800)]),
      /row group \d, column \w+: /,
    ],
    [
      "a footer that is longer than the file",
      () => swapped(made(), made().length - 8, "\xff\xff\xff\x0f"),
      /: the footer cannot be read: /,
    ],
    [
      "a codec that nobody reads",
      () => made({ codec: "LZO", compressors: { LZO: (bytes) => bytes } }),
      /row group 1, column type: the codec LZO cannot be read$/,
    ],
    [
      "no rows",
      () =>
        new Uint8Array(
          parquetWriteBuffer({ columnData: columns().map((column) => ({ ...column, data: [] })) }),
        ),
      /: there is no row$/,
    ],
    [
      "no price and no size",
      () =>
        new Uint8Array(
          parquetWriteBuffer({
            columnData: columns().filter(({ name }) => !["price", "size"].includes(name)),
          }),
        ),
      /: no column price, size$/,
    ],
  ];
  it.each(wrong)("ends with %s before anything is published", async (_, bytes, message) => {
    const file = await written(bytes());
    const published: MarketData[] = [];
    const work = async () => {
      for await (const one of replayed(file, 0)(new AbortController().signal)) published.push(one);
    };
    await expect(work()).rejects.toThrow(message);
    await expect(work()).rejects.toThrow(file);
    expect(published).toEqual([]);
  });

  it("publishes nothing of a row group that is damaged, and names it with its column", async () => {
    const bytes = await readFile(fixture("zstd"));
    // Somewhere in the last column of the second row group.
    const at = bytes.lastIndexOf(Buffer.from([0x28, 0xb5, 0x2f, 0xfd]), Math.floor(bytes.length * 0.5));
    const file = await written(bytes.fill(0x55, at, at + 12));
    const published: MarketData[] = [];
    const work = async () => {
      for await (const one of replayed(file, 0)(new AbortController().signal)) published.push(one);
    };
    await expect(work()).rejects.toThrow(/row group (\d), column \w+: /);
    expect(published.length % 25).toBe(0);
  });
});
