import type { Outcome } from "./outcome.ts";
import type { Place } from "./rules.ts";

/** Entries are written one behind the other into segments of this size, of which the oldest is written over first. */
const SEGMENT_BYTES = 256 * 1024;
/** Lengths of the description and of the value, and the offset. */
const HEAD_BYTES = 16;
const NO_VALUE = 0xffff_ffff;

interface Segment {
  readonly buffer: Buffer;
  used: number;
  /** Offset of the latest outcome in it. */
  last: bigint;
}

type Description = readonly [Outcome["instrument"], Outcome["kind"], string | null, Outcome["headers"]];

/**
 * Shadow outcomes of one partition that were written last, bounded in bytes: what a take-over makes live. They are kept as
 * bytes: kept as objects, tens of thousands of them would pass through each collection of the garbage.
 */
export class Ring {
  readonly #limit: number;
  readonly #segmentBytes: number;
  readonly #place: Place;
  readonly #segments: Segment[] = [];
  #from: bigint;

  /** `from` is the first offset whose outcome will be put in. */
  constructor(limitBytes: number, place: Place, from: bigint) {
    this.#limit = limitBytes;
    this.#segmentBytes = Math.min(SEGMENT_BYTES, Math.ceil(limitBytes / 8));
    this.#place = place;
    this.#from = from;
  }

  /** Everything from this offset on that was shadow is in the ring. */
  get from(): bigint {
    return this.#from;
  }

  /** Memory that it takes. */
  get bytes(): number {
    return this.#segments.reduce((sum, { buffer }) => sum + buffer.length, 0);
  }

  /** Outcomes come in the order of their offsets. */
  push({ instrument, kind, key, headers, value, input: { offset } }: Outcome): void {
    const description = JSON.stringify([instrument, kind, key ?? null, headers] satisfies Description);
    const descriptionBytes = Buffer.byteLength(description);
    const segment = this.#segmentFor(HEAD_BYTES + descriptionBytes + (value?.length ?? 0));
    if (segment === undefined) {
      this.#from = offset + 1n;
      return;
    }
    const { buffer } = segment;
    let at = buffer.writeUInt32LE(descriptionBytes, segment.used);
    at = buffer.writeUInt32LE(value?.length ?? NO_VALUE, at);
    at = buffer.writeBigUInt64LE(offset, at);
    at += buffer.write(description, at);
    at += value?.copy(buffer, at) ?? 0;
    segment.used = at;
    segment.last = offset;
  }

  /** Outcomes with from ≤ offset < to, in order. */
  between(from: bigint, to: bigint): Outcome[] {
    const found: Outcome[] = [];
    for (const { buffer, used, last } of this.#segments) {
      if (last < from) continue;
      for (let at = 0; at < used; ) {
        const describedTo = at + HEAD_BYTES + buffer.readUInt32LE(at);
        const valueBytes = buffer.readUInt32LE(at + 4);
        const offset = buffer.readBigUInt64LE(at + 8);
        const end = describedTo + (valueBytes === NO_VALUE ? 0 : valueBytes);
        if (offset >= to) return found;
        if (offset >= from) {
          const description = buffer.toString("utf8", at + HEAD_BYTES, describedTo);
          const [instrument, kind, key, headers] = JSON.parse(description) as Description;
          const value = valueBytes === NO_VALUE ? null : Buffer.from(buffer.subarray(describedTo, end));
          const input = { ...this.#place, offset };
          found.push({ input, instrument, kind, key: key ?? undefined, value, headers });
        }
        at = end;
      }
    }
    return found;
  }

  /** One that has room for an entry; undefined where there is no room for it at all. */
  #segmentFor(bytes: number): Segment | undefined {
    const latest = this.#segments.at(-1);
    if (latest !== undefined && latest.used + bytes <= latest.buffer.length) return latest;
    const size = Math.max(bytes, this.#segmentBytes);
    let free: Buffer | undefined;
    while (this.#segments.length > 0 && this.bytes + size > this.#limit) {
      const oldest = this.#segments.shift() as Segment;
      this.#from = oldest.last + 1n;
      if (oldest.buffer.length === size) free = oldest.buffer;
    }
    if (size > this.#limit) return undefined;
    const segment = { buffer: free ?? Buffer.allocUnsafeSlow(size), used: 0, last: -1n };
    this.#segments.push(segment);
    return segment;
  }
}
