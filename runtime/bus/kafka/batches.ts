import { CODEC_MASK, CODEC_NAMES, CODECS } from "./codecs.ts";
import { type BatchContext, decodeRecord, type Decoder as RecordDecoder } from "./record.ts";

// What a fetch brings for a partition, batch by batch (https://kafka.apache.org/documentation/#recordbatch). kafkajs by
// itself rejects the whole answer of a broker when one batch in it cannot be decoded, for all partitions and at every try,
// does not look at checksums, and takes a batch whose records were all compacted away for the end of the log, which it
// then asks for again and again.

/** A batch that cannot be decoded. */
export interface Unreadable {
  /** Offset of its first record. */
  readonly offset: bigint;
  /** The codec by name, or by number where it has none. */
  readonly codec: string;
  readonly reason: string;
}

export interface Message {
  readonly offset: string;
  readonly key: Buffer | null;
  readonly isControlRecord: boolean;
  readonly batchContext: Origin;
}

/** Of what producer, and whether in a transaction of its. */
interface Origin {
  readonly producerId: string;
  readonly inTransaction: boolean;
}

/** The messages of a partition; with the batch behind them where that cannot be decoded and is the first of a fetch. */
export type Messages = Message[] & { unreadable?: Unreadable };

/** The library's decoder of a response, at the beginning of a partition's records. */
export interface ResponseDecoder {
  readInt32(): number;
  canReadBytes(length: number): boolean;
  readBytes(length: number): Buffer;
}

export interface DecodingParts {
  readonly Decoder: new (buffer: Buffer) => RecordDecoder & { readVarIntBytes(): Buffer | null };
  readonly crc32C: (bytes: Buffer) => number;
  /** Of batches from before Kafka 0.11. */
  readonly decodeMessageSet: (decoder: object, size: number) => Promise<Message[]>;
}

const AT = {
  length: 8,
  magic: 16,
  crc: 17,
  attributes: 21,
  lastOffsetDelta: 23,
  firstTimestamp: 27,
} as const;
const MORE_AT = {
  maxTimestamp: 35,
  producerId: 43,
  producerEpoch: 51,
  firstSequence: 53,
  count: 57,
} as const;
const HEADER_BYTES = 61;
/** Base offset and length, which the length does not count. */
const FRAME_BYTES = 12;
const MAGIC = 2;
const NOTHING = Buffer.alloc(0);
const FLAG = { appendTime: 0x08, transactional: 0x10, control: 0x20 } as const;

/** Makes the function that decodes what a fetch brings for a partition. It never rejects because of what the bytes are. */
export function decodingMessages(parts: DecodingParts) {
  return async (decoder: ResponseDecoder): Promise<Messages> => {
    const size = decoder.readInt32();
    if (size <= 0 || !decoder.canReadBytes(size)) return [];
    const bytes = decoder.readBytes(size);
    const messages: Messages = [];
    for (let at = 0; bytes.length - at >= HEADER_BYTES; ) {
      const end = at + FRAME_BYTES + bytes.readInt32BE(at + AT.length);
      // The last batch of a fetch may be cut: it is asked for again.
      if (end > bytes.length) break;
      try {
        if (bytes.readInt8(at + AT.magic) < MAGIC) {
          const older = await parts.decodeMessageSet(
            new parts.Decoder(bytes.subarray(at)),
            bytes.length - at,
          );
          append(messages, older);
          break;
        }
        append(messages, await decodeBatch(bytes.subarray(at, end), parts));
      } catch (error) {
        // What is before it comes first; the next fetch begins here.
        if (messages.length === 0) messages.unreadable = unreadable(bytes.subarray(at), error);
        break;
      }
      at = end;
    }
    return messages;
  };
}

function append(to: Message[], messages: readonly Message[]): void {
  for (const message of messages) to.push(message);
}

function unreadable(bytes: Buffer, error: unknown): Unreadable {
  const codec = bytes.readInt16BE(AT.attributes) & CODEC_MASK;
  return {
    offset: bytes.readBigInt64BE(0),
    codec: CODEC_NAMES[codec] ?? String(codec),
    reason: error instanceof Error ? error.message : String(error),
  };
}

async function decodeBatch(bytes: Buffer, { Decoder, crc32C }: DecodingParts): Promise<Message[]> {
  if (bytes.length < HEADER_BYTES) throw new Error(`a batch of ${bytes.length} bytes`);
  const magic = bytes.readInt8(AT.magic);
  if (magic !== MAGIC) throw new Error(`format ${magic} is not known`);
  if (bytes.readUInt32BE(AT.crc) !== crc32C(bytes.subarray(AT.attributes))) {
    throw new Error("the checksum is wrong: the batch is not what was written");
  }
  const attributes = bytes.readInt16BE(AT.attributes);
  const codec = attributes & CODEC_MASK;
  if (CODEC_NAMES[codec] === undefined) throw new Error("the codec is not known");
  const firstOffset = bytes.readBigInt64BE(0);
  const context: BatchContext & Origin = {
    firstOffset: String(firstOffset),
    firstTimestamp: String(bytes.readBigInt64BE(AT.firstTimestamp)),
    maxTimestamp: String(bytes.readBigInt64BE(MORE_AT.maxTimestamp)),
    timestampType: attributes & FLAG.appendTime ? 1 : 0,
    producerId: String(bytes.readBigInt64BE(MORE_AT.producerId)),
    inTransaction: (attributes & FLAG.transactional) > 0,
    isControlBatch: (attributes & FLAG.control) > 0,
    magicByte: magic,
  };
  const packed = bytes.subarray(HEADER_BYTES);
  const decoder = new Decoder((await CODECS[codec]?.decompress(packed)) ?? packed);
  const messages: Message[] = [];
  for (let left = bytes.readInt32BE(MORE_AT.count); left > 0; left--) {
    messages.push(decodeRecord(new Decoder(decoder.readVarIntBytes() ?? NOTHING), context));
  }
  const last = firstOffset + BigInt(bytes.readInt32BE(AT.lastOffsetDelta));
  if (messages.length === 0 || BigInt(messages.at(-1)?.offset ?? 0) < last) messages.push(gone(last));
  return messages;
}

/** Stands for records up to an offset that were compacted away, so that reading goes on behind them. Nobody gets it. */
function gone(offset: bigint): Message {
  const batchContext = { producerId: "-1", inTransaction: false };
  return { offset: String(offset), key: null, isControlRecord: true, batchContext };
}
