import type { Kafka, Producer as KafkaJsProducer, Message } from "kafkajs";
import { BusError } from "../errors.ts";
import type { BusMetrics } from "../metrics.ts";
import { partitionOf } from "../partitioner.ts";
import { DEFAULTS, type OutRecord, type Position, type Producer, type ProducerOptions } from "../port.ts";
import { PartitionBatcher } from "./batcher.ts";
import { busError, compressionFor, RETRY_FOR_EVER, valueBytes } from "./client.ts";

/** Tells how many partitions a topic has. */
export type PartitionCount = (topic: string) => Promise<number> | number;

/** Chooses the partition of a record; records without a key go to one partition at a time, in turn. */
export class Partitions {
  readonly #count: PartitionCount;
  #turn = 0;

  constructor(count: PartitionCount) {
    this.#count = count;
  }

  choose(record: OutRecord): Promise<number> | number {
    if (record.partition !== undefined) return record.partition;
    const count = this.#count(record.topic);
    return typeof count === "number"
      ? this.#pick(record, count)
      : count.then((known) => this.#pick(record, known));
  }

  #pick(record: OutRecord, count: number): number {
    if (record.key !== undefined) return partitionOf(record.key, count);
    this.#turn = (this.#turn + 1) % 1_000_000;
    return Math.floor(this.#turn / 64) % count;
  }
}

export function toMessage(record: OutRecord, partition: number): Message {
  return {
    partition,
    value: record.value,
    ...(record.key === undefined ? {} : { key: record.key }),
    ...(record.headers === undefined ? {} : { headers: record.headers as Record<string, string> }),
    ...(record.timestamp === undefined ? {} : { timestamp: String(record.timestamp) }),
  };
}

export function checkSize(record: OutRecord): void {
  const bytes = record.value?.length ?? 0;
  if (bytes > DEFAULTS.maxRecordBytes) {
    throw new BusError(
      "TOO_LARGE",
      `a value of ${bytes} bytes for ${record.topic}, the limit is ${DEFAULTS.maxRecordBytes}`,
    );
  }
}

/** Idempotent producer, acks=all, through the batcher. */
export class KafkaProducer implements Producer {
  readonly #client: KafkaJsProducer;
  readonly #batcher: PartitionBatcher;
  readonly #partitions: Partitions;
  readonly #metrics: BusMetrics;
  #closed = false;

  static async open(
    kafka: Kafka,
    count: PartitionCount,
    metrics: BusMetrics,
    options: ProducerOptions,
  ): Promise<KafkaProducer> {
    const client = kafka.producer({ idempotent: true, allowAutoTopicCreation: false, retry: RETRY_FOR_EVER });
    await client.connect();
    return new KafkaProducer(client, count, metrics, options);
  }

  private constructor(
    client: KafkaJsProducer,
    count: PartitionCount,
    metrics: BusMetrics,
    options: ProducerOptions,
  ) {
    this.#client = client;
    this.#metrics = metrics;
    this.#partitions = new Partitions(count);
    const wanted = options.compression ?? "none";
    let buffered = 0;
    this.#batcher = new PartitionBatcher({
      lingerMs: options.lingerMs ?? DEFAULTS.lingerMs,
      batchBytes: options.batchBytes ?? DEFAULTS.batchBytes,
      bufferBytes: options.bufferBytes ?? DEFAULTS.bufferBytes,
      maxBlockMs: options.maxBlockMs ?? DEFAULTS.maxBlockMs,
      onBuffered: (bytes) => {
        metrics.bufferedBytes.inc(bytes - buffered);
        buffered = bytes;
      },
      write: async (topic, partition, records) => {
        const end = metrics.sendSeconds.startTimer({ topic });
        const messages = records.map((record) => toMessage(record, partition));
        const bytes = valueBytes(records);
        const compression = compressionFor(wanted, bytes);
        try {
          const [result] = await this.#client.send({ topic, acks: -1, compression, messages });
          metrics.sent.inc({ topic }, records.length);
          metrics.sentBytes.inc({ topic }, bytes);
          return BigInt(result?.baseOffset ?? -1);
        } catch (error) {
          throw this.#counted(busError(error, "DELIVERY_FAILED"));
        } finally {
          end();
        }
      },
    });
  }

  async send(record: OutRecord): Promise<Position> {
    if (this.#closed) throw this.#counted(new BusError("CLOSED", "producer"));
    try {
      checkSize(record);
      const partition = this.#partitions.choose(record);
      return await this.#batcher.send(record, typeof partition === "number" ? partition : await partition);
    } catch (error) {
      if (error instanceof BusError && error.code === "DELIVERY_FAILED") throw error;
      throw this.#counted(busError(error, "DELIVERY_FAILED"));
    }
  }

  flush(): Promise<void> {
    return this.#batcher.flush();
  }

  async close(): Promise<void> {
    if (this.#closed) return;
    this.#closed = true;
    await this.#batcher.flush();
    await this.#client.disconnect();
  }

  #counted(error: BusError): BusError {
    this.#metrics.errors.inc({ operation: "send", code: error.code });
    return error;
  }
}
