import type { Kafka, Producer as KafkaJsProducer } from "kafkajs";
import { BusError } from "../errors.ts";
import type { BusMetrics } from "../metrics.ts";
import type {
  OutRecord,
  ProducerOptions,
  Transaction,
  TransactionalOptions,
  TransactionalProducer,
} from "../port.ts";
import { busError, compressionFor, RETRY_FOR_EVER, valueBytes } from "./client.ts";
import { checkSize, chosenPartition, type PartitionCount, Partitions, toMessages } from "./producer.ts";
import { chunks } from "./size.ts";

/** An open transaction of a dead process blocks readers for this long. */
const TRANSACTION_TIMEOUT_MS = 15_000;
/** A compacted topic takes no record without a key. This one is never read. */
const LEFTOVERS_KEY = "leftovers";
/** Most bytes of one request; brokers take 1 MiB by default. */
const REQUEST_BYTES = 512 * 1024;

/** One transaction at a time under one id; any error ends the producer. */
export class KafkaTransactionalProducer implements TransactionalProducer {
  readonly id: string;
  readonly #client: KafkaJsProducer;
  readonly #partitions: Partitions;
  readonly #metrics: BusMetrics;
  readonly #compression: NonNullable<ProducerOptions["compression"]>;
  #last: Promise<void> = Promise.resolve();
  #failed: BusError | undefined;

  /** Fences every earlier producer with this id and settles its open transaction. */
  static async open(
    kafka: Kafka,
    id: string,
    count: PartitionCount,
    metrics: BusMetrics,
    options: TransactionalOptions,
  ): Promise<KafkaTransactionalProducer> {
    const client = kafka.producer({
      transactionalId: id,
      idempotent: true,
      maxInFlightRequests: 1,
      transactionTimeout: TRANSACTION_TIMEOUT_MS,
      allowAutoTopicCreation: false,
      createPartitioner: chosenPartition,
      retry: RETRY_FOR_EVER,
    });
    try {
      await client.connect();
      // kafkajs asks for its producer id at the first transaction only; that request is what fences.
      const transaction = await client.transaction();
      for (const { topic, partition } of options.leftovers?.partitions ?? []) {
        // Its abort marker ends whatever is open there.
        const nothing = toMessages([{ topic, key: LEFTOVERS_KEY, value: null }], partition);
        await transaction.send({ topic, acks: -1, messages: nothing });
      }
      const position = options.leftovers?.position;
      if (position !== undefined) {
        const { topic, partition } = position.place;
        const topics = [{ topic, partitions: [{ partition, offset: "0" }] }];
        await transaction.sendOffsets({ consumerGroupId: position.group, topics });
      }
      await transaction.abort();
    } catch (error) {
      await client.disconnect().catch(() => {});
      throw busError(error, "TRANSACTION_FAILED");
    }
    return new KafkaTransactionalProducer(id, client, count, metrics, options);
  }

  private constructor(
    id: string,
    client: KafkaJsProducer,
    count: PartitionCount,
    metrics: BusMetrics,
    options: ProducerOptions,
  ) {
    this.id = id;
    this.#client = client;
    this.#metrics = metrics;
    this.#partitions = new Partitions(count);
    this.#compression = options.compression ?? "none";
  }

  commit(transaction: Transaction): Promise<void> {
    const result = this.#last.then(() => this.#commit(transaction));
    this.#last = result.catch(() => {});
    return result;
  }

  async #commit(transaction: Transaction): Promise<void> {
    if (this.#failed !== undefined) throw this.#failed;
    // Before anything is written: a record that cannot be sent must not end the producer.
    for (const record of transaction.records) checkSize(record);
    const groups = await this.#byPartition(transaction.records);
    const end = this.#metrics.commitSeconds.startTimer();
    try {
      const open = await this.#client.transaction();
      // After a failed send there must be no commit: kafkajs resolves it although nothing was written.
      await Promise.all(
        groups.map(async ({ topic, partition, records }) => {
          // One request in flight a partition, and none larger than a broker takes.
          for (const chunk of chunks(records, REQUEST_BYTES)) {
            const compression = compressionFor(this.#compression, valueBytes(chunk));
            const messages = toMessages(chunk, partition);
            const [result] = await open.send({ topic, acks: -1, compression, messages });
            if (result === undefined) throw new Error(`no acknowledgement from ${topic}/${partition}`);
          }
        }),
      );
      if (transaction.offsets !== undefined) {
        const topics = new Map<string, { partition: number; offset: string }[]>();
        for (const { topic, partition, offset } of transaction.offsets.positions) {
          const list = topics.get(topic) ?? [];
          list.push({ partition, offset: String(offset) });
          topics.set(topic, list);
        }
        await open.sendOffsets({
          consumerGroupId: transaction.offsets.group,
          topics: [...topics].map(([topic, partitions]) => ({ topic, partitions })),
        });
      }
      await open.commit();
    } catch (error) {
      this.#failed = busError(error, "TRANSACTION_FAILED");
      this.#metrics.errors.inc({ operation: "commit", code: this.#failed.code });
      throw this.#failed;
    } finally {
      end();
    }
    for (const { topic, records } of groups) {
      this.#metrics.sent.inc({ topic }, records.length);
      this.#metrics.sentBytes.inc({ topic }, valueBytes(records));
    }
  }

  async #byPartition(records: readonly OutRecord[]) {
    const groups = new Map<string, { topic: string; partition: number; records: OutRecord[] }>();
    for (const record of records) {
      const chosen = this.#partitions.choose(record);
      const partition = typeof chosen === "number" ? chosen : await chosen;
      const key = `${record.topic}/${partition}`;
      const group = groups.get(key);
      if (group === undefined) groups.set(key, { topic: record.topic, partition, records: [record] });
      else group.records.push(record);
    }
    return [...groups.values()];
  }

  async close(): Promise<void> {
    this.#failed ??= new BusError("CLOSED", `transactional producer ${this.id}`);
    await this.#last;
    await this.#client.disconnect();
  }
}
