// kafkajs makes a buffer of 512 bytes for each record and for each of its headers, copies them into each other, and
// rebuilds the object of headers for each header that it reads. Outcomes have seven headers: with 10,000 of them a
// second that was most of a worker's time. These write the same bytes and read the same records.

export interface RecordToWrite {
  readonly offsetDelta?: number;
  /** Milliseconds. */
  readonly timestampDelta?: number;
  readonly key?: Buffer | string | null;
  readonly value?: Buffer | string | null;
  readonly headers?: Readonly<Record<string, HeaderValue | readonly HeaderValue[]>>;
}

type HeaderValue = Buffer | string;

/** What kafkajs takes for one of its encoders. */
interface Encoded {
  readonly buf: Buffer;
  readonly buffer: Buffer;
}

/** Names of headers are few and come again and again. */
const NAMES = new Map<string, Buffer>();
const MAX_NAMES = 1_000;

function nameBytes(name: string): Buffer {
  let bytes = NAMES.get(name);
  if (bytes === undefined) {
    bytes = Buffer.from(name);
    if (NAMES.size < MAX_NAMES) NAMES.set(name, bytes);
  }
  return bytes;
}

/** Bytes of a signed number as a variable-length integer (zigzag), of at most 53 bits. */
function varIntSize(value: number): number {
  let rest = value < 0 ? -2 * value - 1 : 2 * value;
  let bytes = 1;
  for (; rest >= 128; rest = Math.floor(rest / 128)) bytes += 1;
  return bytes;
}

function writeVarInt(buffer: Buffer, at: number, value: number): number {
  let rest = value < 0 ? -2 * value - 1 : 2 * value;
  let offset = at;
  for (; rest >= 128; rest = Math.floor(rest / 128)) buffer[offset++] = (rest % 128) | 128;
  buffer[offset++] = rest;
  return offset;
}

const byteLength = (value: HeaderValue) =>
  typeof value === "string" ? Buffer.byteLength(value) : value.length;

function bytesSize(value: HeaderValue | null | undefined): number {
  if (value === null || value === undefined) return 1;
  const length = byteLength(value);
  return varIntSize(length) + length;
}

function writeBytes(buffer: Buffer, at: number, value: HeaderValue | null | undefined): number {
  if (value === null || value === undefined) return writeVarInt(buffer, at, -1);
  if (typeof value === "string") {
    const offset = writeVarInt(buffer, at, Buffer.byteLength(value));
    return offset + buffer.write(value, offset);
  }
  const offset = writeVarInt(buffer, at, value.length);
  return offset + value.copy(buffer, offset);
}

/** A record as it stands in a batch (https://kafka.apache.org/documentation/#record). */
export function encodeRecord(record: RecordToWrite): Encoded {
  const { offsetDelta = 0, timestampDelta = 0, key, value, headers = {} } = record;
  const list: [Buffer, HeaderValue][] = [];
  for (const name in headers) {
    const given = headers[name] as HeaderValue | readonly HeaderValue[];
    if (Array.isArray(given)) for (const one of given) list.push([nameBytes(name), one]);
    else list.push([nameBytes(name), given as HeaderValue]);
  }
  let size = 1 + varIntSize(timestampDelta) + varIntSize(offsetDelta) + bytesSize(key) + bytesSize(value);
  size += varIntSize(list.length);
  for (const [name, header] of list) size += bytesSize(name) + bytesSize(header);
  const buffer = Buffer.allocUnsafe(varIntSize(size) + size);
  let at = writeVarInt(buffer, 0, size);
  buffer[at++] = 0;
  at = writeVarInt(buffer, at, timestampDelta);
  at = writeVarInt(buffer, at, offsetDelta);
  at = writeBytes(buffer, at, key);
  at = writeBytes(buffer, at, value);
  at = writeVarInt(buffer, at, list.length);
  for (const [name, header] of list) at = writeBytes(buffer, writeBytes(buffer, at, name), header);
  return { buf: buffer, buffer };
}

/** The decoder of kafkajs, at the beginning of a record's attributes. */
export interface Decoder {
  readInt8(): number;
  readVarInt(): number;
  readVarLong(): { toString(): string };
  readVarIntBytes(): Buffer | null;
  readVarIntString(): string;
}

export interface BatchContext {
  readonly firstOffset: { toString(): string };
  readonly firstTimestamp: { toString(): string };
  readonly magicByte: number;
  readonly isControlBatch?: boolean;
  readonly timestampType?: number;
  readonly maxTimestamp?: string;
}

const LOG_APPEND_TIME = 1;

export function decodeRecord<T extends BatchContext>(decoder: Decoder, batchContext: T) {
  const { firstOffset, firstTimestamp, magicByte, isControlBatch = false } = batchContext;
  const attributes = decoder.readInt8();
  const timestampDelta = Number(decoder.readVarLong().toString());
  const appended = batchContext.timestampType === LOG_APPEND_TIME && batchContext.maxTimestamp;
  const timestamp = appended || String(Number(firstTimestamp.toString()) + timestampDelta);
  const offset = String(BigInt(firstOffset.toString()) + BigInt(decoder.readVarInt()));
  const key = decoder.readVarIntBytes();
  const value = decoder.readVarIntBytes();
  const headers: Record<string, Buffer | null | (Buffer | null)[]> = {};
  for (let left = decoder.readVarInt(); left > 0; left--) {
    const name = decoder.readVarIntString();
    const one = decoder.readVarIntBytes();
    const before = Object.hasOwn(headers, name) ? headers[name] : undefined;
    if (before === undefined) headers[name] = one;
    else if (Array.isArray(before)) before.push(one);
    else headers[name] = [before, one];
  }
  return {
    magicByte,
    attributes,
    timestamp,
    offset,
    key,
    value,
    headers,
    isControlRecord: isControlBatch,
    batchContext,
  };
}
