import type { EachBatchPayload, KafkaMessage } from "kafkajs";
import { BusError } from "../errors.ts";
import type { InRecord, TopicPartition } from "../port.ts";
import type { Unreadable } from "./batches.ts";

/** A partition while this consumer has it. */
export interface Assigned extends TopicPartition {
  /** Next offset to be put into the queue; what is fetched below it is known already. */
  fetched: bigint;
  /** Fetched and not yet handed out. */
  queue: InRecord[];
  queuedBytes: number;
  highWatermark: bigint;
  /** Next offset to be read by the client, behind everything that it has seen, markers included. */
  seen: bigint | undefined;
  /** Batches in a row that began behind it. */
  gaps: number;
  /** A handler is running. */
  running: boolean;
  /** First offset of what the running handler has. */
  handling: bigint | undefined;
  /** The user has paused the partition. */
  paused: boolean;
  /** The client does not fetch: paused, or the queue is full. */
  held: boolean;
  /** The batch at `seen` cannot be decoded: the end, when everything before it has been handled. */
  unreadable: BusError | undefined;
  /** Resolves when `onAssigned` is done. */
  readonly ready: Promise<void>;
}

/** A partition that has just come, of which nothing has been fetched. */
export function newlyAssigned(
  place: TopicPartition,
  prepare: (assigned: Assigned) => Promise<void>,
): Assigned {
  const assigned: Assigned = {
    ...place,
    fetched: 0n,
    queue: [],
    queuedBytes: 0,
    highWatermark: 0n,
    seen: undefined,
    gaps: 0,
    running: false,
    handling: undefined,
    paused: false,
    held: false,
    unreadable: undefined,
    ready: Promise.resolve().then(() => prepare(assigned)),
  };
  return assigned;
}

/** Whether everything that was fetched has been handled. */
export function isIdle({ running, queue }: Assigned): boolean {
  return !running && queue.length === 0;
}

/** Why a consumer ends. */
export function fatalError(error: unknown): BusError {
  if (error instanceof BusError && error.code === "UNREADABLE_BATCH") return error;
  const cause = error instanceof Error ? error : new Error(String(error));
  return new BusError("HANDLER_FAILED", cause.message, { cause });
}

/** Where and why reading ends, in a sentence. */
export function unreadableBatch(place: TopicPartition, { offset, codec, reason }: Unreadable): BusError {
  return new BusError("UNREADABLE_BATCH", `${keyOf(place)} at offset ${offset}, codec ${codec}: ${reason}`);
}

/** The offset that a batch was asked for with, which kafkajs keeps but does not declare. */
export function fetchedFrom(batch: EachBatchPayload["batch"]): bigint {
  const { fetchedOffset } = batch as unknown as { readonly fetchedOffset?: string | number };
  return BigInt(fetchedOffset ?? batch.firstOffset() ?? 0);
}

export function keyOf(partition: TopicPartition): string {
  return `${partition.topic}/${partition.partition}`;
}

export function toRecord(topic: string, partition: number, offset: bigint, message: KafkaMessage): InRecord {
  const headers: Record<string, string> = {};
  // Not Object.entries: this is called once for every record.
  for (const name in message.headers) {
    const value = message.headers[name];
    const last = Array.isArray(value) ? value.at(-1) : value;
    // A header may be null, which is nothing that a text could say.
    if (last !== undefined && last !== null) headers[name] = last.toString("utf8");
  }
  return {
    topic,
    partition,
    offset,
    key: message.key === null ? undefined : message.key.toString("utf8"),
    value: message.value,
    headers,
    timestamp: Number(message.timestamp),
  };
}
