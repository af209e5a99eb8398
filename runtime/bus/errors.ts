/** Everything that the bus can fail with; the code is also a metric label. */
export const BUS_ERROR_CODES = {
  BROKER_UNAVAILABLE: "no broker answers",
  BUFFER_FULL: "the producer's buffer stayed full for longer than maxBlockMs",
  TOO_LARGE: "the record is larger than the topic takes",
  UNKNOWN_TOPIC: "the topic does not exist",
  DELIVERY_FAILED: "the record was not acknowledged; whether it was written is not known",
  FENCED: "another producer took over this transactional id",
  TRANSACTION_FAILED: "the transaction did not commit, or its end is not known",
  UNCERTAIN:
    "the broker was lost in the middle of a transaction, or right after it: what is committed has to be read back",
  REBALANCED: "the partition has gone to another consumer",
  HANDLER_FAILED: "the batch handler rejected",
  UNREADABLE_BATCH: "a batch of records cannot be decoded, and no retry will change that; it is not skipped",
  CONSUMER_CRASHED: "the client library's consumer ended; it is started anew",
  STALLED: "the consumer heard nothing from a broker for too long; it is started anew",
  CLOSED: "used after close",
  ADMIN_FAILED: "an administrative request was refused",
} as const;

export type BusErrorCode = keyof typeof BUS_ERROR_CODES;

export class BusError extends Error {
  readonly code: BusErrorCode;

  constructor(code: BusErrorCode, detail: string, options?: ErrorOptions) {
    super(`${BUS_ERROR_CODES[code]}: ${detail}`, options);
    this.name = "BusError";
    this.code = code;
  }
}
