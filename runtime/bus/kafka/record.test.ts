import { createRequire } from "node:module";
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { decodeRecord, encodeRecord, type RecordToWrite } from "./record.ts";

// Against the library's own, as it is.
const require = createRequire(import.meta.url);
const theirEncoder = require("kafkajs/src/protocol/recordBatch/record/v0/index.js") as (
  record: RecordToWrite,
) => { readonly buffer: Buffer };
const theirDecoder = require("kafkajs/src/protocol/recordBatch/record/v0/decoder.js") as typeof decodeRecord;
const Decoder = require("kafkajs/src/protocol/decoder.js") as new (
  buffer: Buffer,
) => Parameters<typeof decodeRecord>[0];

const bytes = fc.uint8Array({ maxLength: 300 }).map((array) => Buffer.from(array));
const text = fc.string({ unit: "grapheme", maxLength: 200 });
const headerValue = fc.oneof(bytes, text);
const record: fc.Arbitrary<RecordToWrite> = fc.record(
  {
    offsetDelta: fc.integer({ min: 0, max: 100_000 }),
    timestampDelta: fc.oneof(
      fc.integer({ min: -1_000, max: 100_000 }),
      fc.integer({ min: -(2 ** 45), max: 2 ** 45 }),
    ),
    key: fc.oneof(bytes, text, fc.constant(null)),
    value: fc.oneof(bytes, text, fc.constant(null)),
    headers: fc.dictionary(
      // Theirs trips over names that every object has.
      text.filter((name) => !(name in {})),
      fc.oneof(headerValue, fc.array(headerValue, { maxLength: 3 })),
      { maxKeys: 8, noNullPrototype: true },
    ),
  },
  { requiredKeys: [] },
);

const context = {
  firstOffset: "9007199254740993",
  firstTimestamp: "1790000000000",
  magicByte: 2,
  timestampType: 0,
  maxTimestamp: "1790000000500",
};

/** A record behind its length, where its decoder begins. */
function body(encoded: Buffer): Buffer {
  const decoder = new Decoder(encoded);
  const length = decoder.readVarInt();
  return encoded.subarray(encoded.length - length);
}

describe("records", () => {
  it("are written as the library writes them, byte for byte", () => {
    fc.assert(
      fc.property(record, (given) => {
        expect(encodeRecord(given).buffer.toString("hex")).toBe(theirEncoder(given).buffer.toString("hex"));
      }),
      { numRuns: 500 },
    );
  });

  it("are read as the library reads them", () => {
    fc.assert(
      fc.property(record, fc.boolean(), (given, appendTime) => {
        const encoded = body(theirEncoder(given).buffer);
        const ofBatch = { ...context, timestampType: appendTime ? 1 : 0 };
        expect(decodeRecord(new Decoder(encoded), ofBatch)).toEqual(
          theirDecoder(new Decoder(encoded), ofBatch),
        );
      }),
      { numRuns: 500 },
    );
  });
});
