import { createRequire } from "node:module";
import { crc32 } from "node:zlib";
import { describe, expect, it } from "vitest";
import { type DecodingParts, decodingMessages, type Messages, type ResponseDecoder } from "./batches.ts";
// Registers the codecs with the library, whose encoder makes the batches here.
import "./client.ts";
import { CODEC_NAMES, CODECS } from "./codecs.ts";
import { encodeRecord } from "./record.ts";

const require = createRequire(import.meta.url);
const { RecordBatch } = require("kafkajs/src/protocol/recordBatch/v0/index.js") as {
  RecordBatch: (options: object) => Promise<{ readonly buffer: Buffer }>;
};
const Decoder = require("kafkajs/src/protocol/decoder.js") as DecodingParts["Decoder"];
const crc32C = require("kafkajs/src/protocol/recordBatch/crc32C/index.js") as DecodingParts["crc32C"];
const decodeMessageSet =
  require("kafkajs/src/protocol/messageSet/decoder.js") as DecodingParts["decodeMessageSet"];
const theirs = require("kafkajs/src/protocol/requests/fetch/v4/decodeMessages.js") as typeof decode;
const decode = decodingMessages({ Decoder, crc32C, decodeMessageSet });

const MANY = Array.from({ length: 3_000 }, (_, i) => `${i} ${"some text ".repeat(i % 9)}`);

async function batch(firstOffset: number, values: readonly string[], extra: object = {}): Promise<Buffer> {
  const records = values.map((value, offsetDelta) =>
    encodeRecord({ offsetDelta, value: Buffer.from(value) }),
  );
  const lastOffsetDelta = values.length - 1;
  const { buffer } = await RecordBatch({ firstOffset, lastOffsetDelta, records, ...extra });
  return Buffer.from(buffer);
}

/** Makes the checksum right again. */
function seal(bytes: Buffer): Buffer {
  bytes.writeUInt32BE(crc32C(bytes.subarray(21)), 17);
  return bytes;
}

function fetched(...parts: readonly Buffer[]): Promise<Messages> {
  const size = Buffer.alloc(4);
  size.writeInt32BE(Buffer.concat(parts).length);
  return decode(new Decoder(Buffer.concat([size, ...parts])) as unknown as ResponseDecoder);
}

const values = (messages: Messages) =>
  messages
    .filter(({ isControlRecord }) => !isControlRecord)
    .map((message) => String((message as { value?: Buffer }).value));
const offsets = (messages: Messages) => messages.map(({ offset }) => Number(offset));

describe("what a fetch brings", () => {
  it("is decoded by ours: the library asks nobody else", () => {
    expect(String(theirs)).toBe(String(decode));
  });

  it.each(CODEC_NAMES)("is read where it is compressed by %s", async (name) => {
    const messages = await fetched(
      await batch(10, MANY, { compression: CODEC_NAMES.indexOf(name) }),
      await batch(3_010, ["last"]),
    );
    expect(values(messages)).toEqual([...MANY, "last"]);
    expect(offsets(messages)).toEqual([...MANY.map((_, i) => 10 + i), 3_010]);
    expect(messages.unreadable).toBeUndefined();
  });

  it("leaves a batch that is cut to the next fetch", async () => {
    const [first, second] = [await batch(0, ["a"]), await batch(1, ["b", "c"])];
    const messages = await fetched(first, second.subarray(0, second.length - 1));
    expect(offsets(messages)).toEqual([0]);
    expect(messages.unreadable).toBeUndefined();
    expect(await fetched(first.subarray(0, 40))).toEqual([]);
  });

  const codec = (number: number) => (bytes: Buffer) => bytes.writeInt16BE(number, 21);
  const flip = (at: number) => (bytes: Buffer) =>
    bytes.writeUInt8((bytes.at(at) ?? 0) ^ 0x40, (at + bytes.length) % bytes.length);
  it.each<[string, (bytes: Buffer) => number, string, RegExp]>([
    ["of a codec that is none", codec(5), "5", /codec/],
    ["of another such codec", codec(7), "7", /codec/],
    ["of a later format", (bytes) => bytes.writeInt8(3, 16), "none", /format 3/],
    ["with fewer records than it says", (bytes) => bytes.writeInt32BE(9, 57), "none", /./],
    ["that says it is gzip and is not", codec(1), "gzip", /./],
    ["that says it is Snappy and is not", codec(2), "snappy", /./],
    ["that says it is LZ4 and is not", codec(3), "lz4", /Magic/],
    ["that says it is Zstandard and is not", codec(4), "zstd", /./],
  ])("says of a batch %s where it is and why", async (_, change, name, reason) => {
    const bad = await batch(42, ["x", "y"]);
    change(bad);
    const { unreadable, ...rest } = await fetched(seal(bad), await batch(44, ["z"]));
    expect(rest).toEqual({});
    expect(unreadable).toEqual({ offset: 42n, codec: name, reason: expect.stringMatching(reason) });
  });

  it.each<[string, (bytes: Buffer) => number, RegExp]>([
    ["with a bit turned in a value", flip(-3), /checksum/],
    ["with a bit turned in its header", flip(30), /checksum/],
    ["of no length", (bytes) => bytes.writeInt32BE(0, 8), /12 bytes/],
    ["of a length below nothing", (bytes) => bytes.writeInt32BE(-12, 8), /0 bytes/],
  ])("hands out what is before a batch %s, and then says where it is and why", async (_, change, reason) => {
    const bad = await batch(42, ["x", "y"]);
    change(bad);
    const before = await fetched(await batch(40, ["a", "b"]), bad);
    expect(values(before)).toEqual(["a", "b"]);
    expect(before.unreadable).toBeUndefined();
    expect((await fetched(bad)).unreadable).toMatchObject({
      offset: 42n,
      reason: expect.stringMatching(reason),
    });
  });

  it("goes on behind records that were compacted away, as far as the batch went", async () => {
    const tail = await batch(5, ["a", "b"]);
    tail.writeInt32BE(7, 23);
    expect(offsets(await fetched(seal(tail)))).toEqual([5, 6, 12]);
    const empty = await batch(20, []);
    empty.writeInt32BE(3, 23);
    const [message] = await fetched(seal(empty));
    expect(message).toMatchObject({ offset: "23", isControlRecord: true, key: null });
  });
});

describe("LZ4 as others write it", () => {
  // `lz4 -12 -BD -B4 -BX --content-size`: two blocks of 64 KiB of which the second refers to the first, checksums of each
  // block and of the content, its size.
  const LINKED =
    "BCJNGFxAsDABAAAAAACU0QEAAHFsaW5lIDAKBwASMQcAEjIHABIzBwASNAcAEjUHABI2BwASNwcAEjgHABM5PwAERwATMQgAEzIIABMzCAAT" +
    "NAgAEzUIABM2CAATNwgAEzgIABM5iAATMAgABJgAEzIIABMzCAATNAgAEzUIABM2CAATNwgAEzgIABM50QATMAgAEzEIAATpABMzCAATNAgA" +
    "EzUIABM2CAATNwgAEzgIABM5GgETMAgAEzEIABMyCAAEOgETNAgAEzUIABM2CAATNwgAEzgIAC85CoYB////////////////////////////" +
    "////////////////////////////////////////////////////////////////////////////////////////////////////////////" +
    "////////////////////////////////////////////////////////////////////////////////////////////////////////////" +
    "////////////////////////////////////////////////////////////////////////////////////////////////YVAgMQpsabyQ" +
    "1hk6AAAAD4YB////////////////////////////////////////////////////////////////yFBlIDQ5Chli6yAAAAAAo68opg==";
  const text = Buffer.from(Array.from({ length: 10_000 }, (_, i) => `line ${i % 50}\n`).join(""));
  const lz4 = CODECS[3];

  it("is read with blocks that depend on each other and all checksums, and not where one is wrong", async () => {
    const frame = Buffer.from(LINKED, "base64");
    expect(crc32((await lz4?.decompress(frame)) ?? "")).toBe(crc32(text));
    for (const at of [6, 60, frame.length - 1]) {
      const bad = Buffer.from(frame);
      bad[at] = (bad[at] ?? 0) ^ 1;
      await expect(lz4?.decompress(bad)).rejects.toThrow();
    }
    await expect(lz4?.decompress(frame.subarray(0, -9))).rejects.toThrow();
  });
});
