import { BusError, type BusErrorCode } from "../errors.ts";
import { CODEC_NAMES, CODECS, type Codec } from "./codecs.ts";
import { UNCERTAIN } from "./coordinator.ts";
import { kafkajs } from "./library.ts";

const codecs = kafkajs.CompressionCodecs as Record<number, () => Codec>;
for (const [number, codec] of CODECS.entries()) if (codec !== undefined) codecs[number] = () => codec;

type Compression = (typeof CODEC_NAMES)[number];

/**
 * Smallest batch worth compressing. Below, setting up the codec costs producer, broker and consumer more than the
 * bytes do.
 */
const COMPRESS_FROM_BYTES = 8 * 1024;

/** The compression of a request of so many bytes. */
export function compressionFor(wanted: Compression, bytes: number): number {
  return CODEC_NAMES.indexOf(bytes < COMPRESS_FROM_BYTES ? "none" : wanted);
}

export function valueBytes(records: readonly { readonly value: Buffer | null }[]): number {
  return records.reduce((sum, record) => sum + (record.value?.length ?? 0), 0);
}

const CODES: Readonly<Record<string, BusErrorCode>> = {
  INVALID_PRODUCER_EPOCH: "FENCED",
  PRODUCER_FENCED: "FENCED",
  MESSAGE_TOO_LARGE: "TOO_LARGE",
  RECORD_LIST_TOO_LARGE: "TOO_LARGE",
  UNKNOWN_TOPIC_OR_PARTITION: "UNKNOWN_TOPIC",
  INVALID_TOPIC_EXCEPTION: "UNKNOWN_TOPIC",
  ILLEGAL_GENERATION: "REBALANCED",
  UNKNOWN_MEMBER_ID: "REBALANCED",
  REBALANCE_IN_PROGRESS: "REBALANCED",
};

const CONNECTION_ERRORS = new Set([
  "KafkaJSConnectionError",
  "KafkaJSConnectionClosedError",
  "KafkaJSRequestTimeoutError",
]);

/** What a lost connection means for what was asked. */
const WHEN_LOST: Readonly<Partial<Record<BusErrorCode, BusErrorCode>>> = {
  ADMIN_FAILED: "BROKER_UNAVAILABLE",
  TRANSACTION_FAILED: "UNCERTAIN",
};

/** An error of kafkajs in the bus's own terms; `otherwise` is the code of what is not told apart. */
export function busError(error: unknown, otherwise: BusErrorCode): BusError {
  for (let cause: unknown = error; cause instanceof Error; cause = cause.cause ?? originalOf(cause)) {
    if (cause instanceof BusError) return cause;
    if (cause.name === UNCERTAIN) return new BusError("UNCERTAIN", cause.message, { cause: error });
    const type = "type" in cause && typeof cause.type === "string" ? cause.type : undefined;
    const code = type === undefined ? undefined : CODES[type];
    if (code !== undefined) return new BusError(code, cause.message, { cause: error });
    const lost = CONNECTION_ERRORS.has(cause.name) ? WHEN_LOST[otherwise] : undefined;
    if (lost !== undefined) return new BusError(lost, cause.message, { cause: error });
  }
  return new BusError(otherwise, error instanceof Error ? error.message : String(error), { cause: error });
}

function originalOf(error: Error): unknown {
  return "originalError" in error ? error.originalError : undefined;
}
