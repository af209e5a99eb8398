import type { ICustomPartitioner, Producer as KafkaJsProducer, Message } from "kafkajs";
import { BusError } from "../errors.ts";
import type { BusMetrics } from "../metrics.ts";
import { partitionOf } from "../partitioner.ts";
import { DEFAULTS, type OutRecord, type Position, type Producer, type ProducerOptions } from "../port.ts";
import { PartitionBatcher } from "./batcher.ts";
import { busError, compressionFor, valueBytes } from "./client.ts";
import type { Link } from "./link.ts";

/** Tells how many partitions a topic has; looks it up anew where it remembers no more than `above`. */
export type PartitionCount = (topic: string, above?: number) => Promise<number> | number;

/** Chooses the partition of a record; records without a key go to one partition at a time, in turn. */
export class Partitions {
  readonly #count: PartitionCount;
  #turn = 0;

  constructor(count: PartitionCount) {
    this.#count = count;
  }

  choose(record: OutRecord): Promise<number> | number {
    const count = this.#count(record.topic, record.partition);
    return typeof count === "number"
      ? this.#pick(record, count)
      : count.then((known) => this.#pick(record, known));
  }

  #pick(record: OutRecord, count: number): number {
    if (record.partition !== undefined) {
      if (record.partition < count) return record.partition;
      throw new BusError(
        "UNKNOWN_TOPIC",
        `${record.topic} has no partition ${record.partition}, only ${count}`,
      );
    }
    if (record.key !== undefined) return partitionOf(record.key, count);
    this.#turn = (this.#turn + 1) % 1_000_000;
    return Math.floor(this.#turn / 64) % count;
  }
}

function toMessage(record: OutRecord, partition: number): Message {
  const message: Message = { partition, value: record.value };
  if (record.key !== undefined) message.key = record.key;
  if (record.headers !== undefined) message.headers = record.headers as Record<string, string>;
  if (record.timestamp !== undefined) message.timestamp = String(record.timestamp);
  return message;
}

/** Records of one partition. */
export interface PartitionRecords {
  readonly partition: number;
  readonly records: readonly OutRecord[];
}

/**
 * The messages of one request to a topic. kafkajs groups them by partition with a `reduce` that copies its list for
 * every message: a fifth of all time with 1,000 of them. Ours are grouped, so theirs answers at once, after one call of
 * the partitioner for each partition.
 */
export function toMessages(parts: readonly PartitionRecords[]): Message[] {
  const groups = Object.fromEntries(
    parts.map(({ partition, records }) => [partition, records.map((record) => toMessage(record, partition))]),
  );
  const value = (group: (groups: object, message: Message | undefined) => unknown) => {
    for (const [first] of Object.values(groups)) group({}, first);
    return groups;
  };
  return Object.defineProperty(Object.values(groups).flat(), "reduce", { value });
}

/**
 * The partition that we have chosen. kafkajs drops what goes to a partition that it does not know yet, and calls it
 * sent; an error of this name makes it look the topic up and try again.
 */
export const chosenPartition: ICustomPartitioner = () => (args) => {
  const { topic, message, partitionMetadata } = args;
  const { partition = 0 } = message;
  if (partitionMetadata.some(({ partitionId }) => partitionId === partition)) return partition;
  const error = new Error(`${topic}/${partition} is not known yet`);
  error.name = "KafkaJSMetadataNotLoaded";
  throw error;
};

export function checkSize(record: OutRecord): void {
  const bytes = record.value?.length ?? 0;
  if (bytes > DEFAULTS.maxRecordBytes) {
    throw new BusError(
      "TOO_LARGE",
      `a value of ${bytes} bytes for ${record.topic}, the limit is ${DEFAULTS.maxRecordBytes}`,
    );
  }
}

async function connect(link: Link): Promise<KafkaJsProducer> {
  const client = link.kafka.producer({
    idempotent: true,
    allowAutoTopicCreation: false,
    createPartitioner: chosenPartition,
  });
  await client.connect();
  return client;
}

/**
 * Idempotent producer, acks=all, through the batcher.
 *
 * Where a request fails, the broker may have written it all the same, and knows its sequence numbers; the client gives
 * them to what comes next. The broker then refuses that, or, if it has as many records, takes it for a repetition and
 * acknowledges what it has not written. So a client that has failed once is not used again: the next has another producer
 * id, and sequences of its own.
 */
export class KafkaProducer implements Producer {
  readonly #link: Link;
  #client: Promise<KafkaJsProducer>;
  /** Requests in flight. */
  readonly #sends = new Set<Promise<unknown>>();
  readonly #batcher: PartitionBatcher;
  readonly #partitions: Partitions;
  readonly #metrics: BusMetrics;
  #closed = false;

  static async open(
    link: Link,
    count: PartitionCount,
    metrics: BusMetrics,
    options: ProducerOptions,
  ): Promise<KafkaProducer> {
    return new KafkaProducer(link, await connect(link), count, metrics, options);
  }

  private constructor(
    link: Link,
    client: KafkaJsProducer,
    count: PartitionCount,
    metrics: BusMetrics,
    options: ProducerOptions,
  ) {
    this.#link = link;
    this.#client = Promise.resolve(client);
    this.#metrics = metrics;
    this.#partitions = new Partitions(count);
    const wanted = options.compression ?? "none";
    this.#batcher = new PartitionBatcher({
      lingerMs: options.lingerMs ?? DEFAULTS.lingerMs,
      batchBytes: options.batchBytes ?? DEFAULTS.batchBytes,
      bufferBytes: options.bufferBytes ?? DEFAULTS.bufferBytes,
      maxBlockMs: options.maxBlockMs ?? DEFAULTS.maxBlockMs,
      write: async (topic, partition, records) => {
        const end = metrics.sendSeconds.startTimer({ topic });
        const messages = toMessages([{ partition, records }]);
        const bytes = valueBytes(records);
        const compression = compressionFor(wanted, bytes);
        const client = this.#client;
        try {
          const send = client.then((open) => open.send({ topic, acks: -1, compression, messages }));
          this.#sends.add(send);
          const [result] = await send.finally(() => this.#sends.delete(send));
          metrics.sent.inc({ topic }, records.length);
          metrics.sentBytes.inc({ topic }, bytes);
          if (result?.baseOffset === undefined)
            throw new Error(`no acknowledgement from ${topic}/${partition}`);
          return BigInt(result.baseOffset);
        } catch (error) {
          this.#replace(client);
          throw this.#counted(busError(error, "DELIVERY_FAILED"));
        } finally {
          end();
        }
      },
    });
    metrics.countBuffered(() => this.#batcher.buffered);
  }

  /** Once for all whose requests failed; the old one ends when what others have on their way with it is done. */
  #replace(old: Promise<KafkaJsProducer>): void {
    if (this.#client !== old) return;
    this.#client = connect(this.#link);
    this.#client.catch(() => {
      // Whoever sends next is told, and it is tried again.
    });
    void Promise.allSettled(this.#sends)
      .then(() => old)
      .then((client) => client.disconnect())
      .catch(() => {
        // It goes with the link.
      });
  }

  // Not async, and no promise but the batcher's: this is called once for every record.
  send(record: OutRecord): Promise<Position> {
    if (this.#closed) return Promise.reject(this.#counted(new BusError("CLOSED", "producer")));
    try {
      checkSize(record);
    } catch (error) {
      return Promise.reject(this.#counted(busError(error, "DELIVERY_FAILED")));
    }
    const partition = this.#partitions.choose(record);
    if (typeof partition === "number") return this.#batcher.send(record, partition);
    return partition.then(
      (chosen) => this.#batcher.send(record, chosen),
      (error: unknown) => {
        throw this.#counted(busError(error, "DELIVERY_FAILED"));
      },
    );
  }

  flush(): Promise<void> {
    return this.#batcher.flush();
  }

  async close(): Promise<void> {
    if (this.#closed) return;
    this.#closed = true;
    const flushed = this.#batcher.flush().then(async () => (await this.#client).disconnect());
    await this.#link.end(flushed, () => this.#batcher.buffered);
  }

  #counted(error: BusError): BusError {
    this.#metrics.errors.inc({ operation: "send", code: error.code });
    return error;
  }
}
