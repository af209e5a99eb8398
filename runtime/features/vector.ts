import { createHash } from "node:crypto";
import { crc32 } from "node:zlib";
import { FeatureError } from "./errors.ts";

/** A versioned set of features of an entity, in a fixed order. */
export interface FeatureView {
  readonly name: string;
  readonly version: number;
  /** Names of the features; their order is the order of the vector. */
  readonly features: readonly string[];
  /** Milliseconds after the event during which a vector counts as fresh. */
  readonly freshMs: number;
  /** Milliseconds after the event after which a vector is not to be used. */
  readonly ttlMs: number;
}

// Layout, big-endian but for the values:
//   0  magic 0xBF, format 1, 2 bytes zero
//   4  u32 schema hash: name, version and features of the view
//   8  f64 event time, milliseconds since 1970 (the write script reads it here)
//  16  u32 CRC-32 of bytes 0..15 and of everything from 20 on
//  20  u16 number of values, 2 bytes zero
//  24  values, f32 little-endian, NaN where one is not known
const MAGIC = 0xbf;
const FORMAT = 1;
export const EVENT_TIME_OFFSET = 8;
const CRC_OFFSET = 16;
const COUNT_OFFSET = 20;
export const HEADER_BYTES = 24;
export const MAX_FEATURES = 4096;

const LITTLE_ENDIAN = new Uint8Array(new Uint16Array([1]).buffer)[0] === 1;

/** First four bytes of a hash over everything that gives the values their meaning. */
export function schemaHash(view: FeatureView): number {
  const text = JSON.stringify([view.name, view.version, view.features]);
  return createHash("sha256").update(text).digest().readUInt32BE(0);
}

/** A vector as it is stored. Throws FeatureError BAD_VECTOR when the number of values is wrong. */
export function encodeVector(
  view: FeatureView,
  hash: number,
  eventTime: number,
  values: ArrayLike<number>,
): Buffer {
  const count = values.length;
  if (count !== view.features.length || count > MAX_FEATURES) {
    throw new FeatureError(
      "BAD_VECTOR",
      `${count} values for the ${view.features.length} features of ${view.name}`,
    );
  }
  if (!Number.isFinite(eventTime) || eventTime < 0)
    throw new FeatureError("BAD_VECTOR", `event time ${eventTime}`);
  const buffer = Buffer.alloc(HEADER_BYTES + 4 * count);
  buffer[0] = MAGIC;
  buffer[1] = FORMAT;
  buffer.writeUInt32BE(hash, 4);
  buffer.writeDoubleBE(eventTime, EVENT_TIME_OFFSET);
  buffer.writeUInt16BE(count, COUNT_OFFSET);
  for (let i = 0; i < count; i++) buffer.writeFloatLE(values[i] ?? Number.NaN, HEADER_BYTES + 4 * i);
  buffer.writeUInt32BE(checksum(buffer), CRC_OFFSET);
  return buffer;
}

export type Decoded =
  | { readonly ok: true; readonly eventTime: number; readonly values: Float32Array }
  | { readonly ok: false; readonly reason: "corrupt" | "schema" };

/** A stored vector's values, or why they cannot be used. Never throws. */
export function decodeVector(view: FeatureView, hash: number, buffer: Buffer): Decoded {
  if (buffer.length < HEADER_BYTES || buffer[0] !== MAGIC || buffer[1] !== FORMAT)
    return { ok: false, reason: "corrupt" };
  const count = buffer.readUInt16BE(COUNT_OFFSET);
  if (buffer.length !== HEADER_BYTES + 4 * count || buffer.readUInt32BE(CRC_OFFSET) !== checksum(buffer)) {
    return { ok: false, reason: "corrupt" };
  }
  if (buffer.readUInt32BE(4) !== hash || count !== view.features.length)
    return { ok: false, reason: "schema" };
  return { ok: true, eventTime: buffer.readDoubleBE(EVENT_TIME_OFFSET), values: floats(buffer, count) };
}

function checksum(buffer: Buffer): number {
  return crc32(buffer.subarray(COUNT_OFFSET), crc32(buffer.subarray(0, CRC_OFFSET)));
}

function floats(buffer: Buffer, count: number): Float32Array {
  if (LITTLE_ENDIAN) {
    // A copy: the reply's buffer is shared and may not be aligned.
    const start = buffer.byteOffset + HEADER_BYTES;
    return new Float32Array(buffer.buffer.slice(start, start + 4 * count));
  }
  return Float32Array.from({ length: count }, (_, i) => buffer.readFloatLE(HEADER_BYTES + 4 * i));
}

/** How usable a vector is at a moment, by the time of its event; `future` is the time of no event that has happened. */
export type Freshness = "fresh" | "stale" | "expired" | "future";

/** An event may be ahead of a reader's clock by this many milliseconds and count as new: clocks differ. */
export const CLOCK_TOLERANCE_MS = 1_000;

/** `maxFutureMs` is how far ahead of a clock an event may be at all. */
export function freshness(view: FeatureView, ageMs: number, maxFutureMs: number): Freshness {
  if (ageMs > view.ttlMs) return "expired";
  if (ageMs > view.freshMs) return "stale";
  if (ageMs >= -CLOCK_TOLERANCE_MS) return "fresh";
  return ageMs >= -maxFutureMs ? "stale" : "future";
}
