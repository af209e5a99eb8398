import type { Producer as KafkaJsProducer, Transaction as KafkaJsTransaction } from "kafkajs";
import { BusError } from "../errors.ts";
import type { BusMetrics } from "../metrics.ts";
import type {
  Admin,
  InRecord,
  OutRecord,
  Position,
  ProducerOptions,
  TimeRange,
  Transaction,
  TransactionalOptions,
  TransactionalProducer,
} from "../port.ts";
import { busError, compressionFor, valueBytes } from "./client.ts";
import type { Link } from "./link.ts";
import {
  checkSize,
  chosenPartition,
  type PartitionCount,
  type PartitionRecords,
  Partitions,
  toMessages,
} from "./producer.ts";
import { readSettled } from "./settled.ts";
import { chunks } from "./size.ts";

/** An open transaction of a dead process blocks readers for this long. */
const TRANSACTION_TIMEOUT_MS = 15_000;
/** A compacted topic takes no record without a key. This one is never read. */
const LEFTOVERS_KEY = "leftovers";
/** Number of the codec (codecs.ts). */
const UNCOMPRESSED = 0;
/** Most bytes of one request; brokers take 1 MiB by default. */
const REQUEST_BYTES = 512 * 1024;

interface Group extends PartitionRecords {
  readonly topic: string;
}

/** One request for several partitions: one round trip to the coordinator, one to each leader. */
async function send(
  open: KafkaJsTransaction,
  groups: readonly Group[],
  compression: number,
): Promise<readonly Position[]> {
  const topicMessages = [...Map.groupBy(groups, ({ topic }) => topic)].map(([topic, parts]) => ({
    topic,
    messages: toMessages(parts),
  }));
  const results = await open.sendBatch({ acks: -1, compression, topicMessages });
  // Where leaders move while it is repeated, kafkajs leaves a partition out or writes one twice, and says nothing.
  const acknowledged = results.map(({ topicName, partition }) => `${topicName}/${partition}`).toSorted();
  const asked = groups.map(({ topic, partition }) => `${topic}/${partition}`).toSorted();
  if (acknowledged.join() !== asked.join()) {
    throw new Error(`acknowledged were ${acknowledged.join()} of ${asked.join()}`);
  }
  return results.map(({ topicName, partition, baseOffset }) => ({
    topic: topicName,
    partition,
    offset: BigInt(baseOffset ?? -1),
  }));
}

/** What is committed before the records that the leftovers were ended with. */
async function readUpTo(
  link: Link,
  admin: () => Promise<Admin>,
  ends: readonly Position[],
  topics: readonly string[],
  { sinceMs, untilMs }: TimeRange,
  onRecord: (record: InRecord) => void,
): Promise<void> {
  const at = async (ms: number) => {
    const offsets = new Map<string, ReadonlyMap<number, bigint>>();
    for (const topic of topics) offsets.set(topic, await (await admin()).offsetsAt(topic, ms));
    return (topic: string, partition: number) => offsets.get(topic)?.get(partition);
  };
  const first = await at(sinceMs);
  // Of what is to come there is nothing yet; and where it is not known, all is read.
  const last = untilMs > Date.now() ? undefined : await at(untilMs);
  const stretches = ends.flatMap(({ topic, partition, offset: end }) => {
    const from = first(topic, partition);
    const bound = last?.(topic, partition);
    const to = bound !== undefined && bound < end ? bound : end;
    return from === undefined ? [] : [{ topic, partition, from, to }];
  });
  await readSettled(link.kafka, stretches, onRecord);
}

async function sendOffsets(
  open: KafkaJsTransaction,
  { group, positions, metadata = "" }: NonNullable<Transaction["offsets"]>,
): Promise<void> {
  const topics = [...Map.groupBy(positions, ({ topic }) => topic)].map(([topic, parts]) => ({
    topic,
    // kafkajs passes it on, and does not declare it.
    partitions: parts.map(({ partition, offset }) => ({ partition, offset: String(offset), metadata })),
  }));
  await open.sendOffsets({ consumerGroupId: group, topics });
}

/** One transaction at a time under one id; any error ends the producer. */
export class KafkaTransactionalProducer implements TransactionalProducer {
  readonly id: string;
  readonly #link: Link;
  readonly #client: KafkaJsProducer;
  readonly #partitions: Partitions;
  readonly #metrics: BusMetrics;
  readonly #compression: NonNullable<ProducerOptions["compression"]>;
  #last: Promise<void> = Promise.resolve();
  #failed: BusError | undefined;

  /** Fences every earlier producer with this id and settles its open transaction. */
  static async open(
    link: Link,
    id: string,
    count: PartitionCount,
    metrics: BusMetrics,
    options: TransactionalOptions,
    admin: () => Promise<Admin>,
  ): Promise<KafkaTransactionalProducer> {
    const client = link.kafka.producer({
      transactionalId: id,
      idempotent: true,
      maxInFlightRequests: 1,
      transactionTimeout: TRANSACTION_TIMEOUT_MS,
      allowAutoTopicCreation: false,
      createPartitioner: chosenPartition,
    });
    try {
      await client.connect();
      // kafkajs asks for its producer id at the first transaction only; that request is what fences.
      const transaction = await client.transaction();
      // The abort markers end whatever is open there.
      const nothing = (options.leftovers?.partitions ?? []).map(({ topic, partition }) => ({
        topic,
        partition,
        records: [{ topic, key: LEFTOVERS_KEY, value: null }],
      }));
      const beginnings = nothing.length > 0 ? await send(transaction, nothing, UNCOMPRESSED) : [];
      // None of its positions is written: a marker is all that is needed there, and what is not there cannot be committed.
      const group = options.leftovers?.group;
      if (group !== undefined) await sendOffsets(transaction, { group, positions: [] });
      await transaction.abort();
      return new KafkaTransactionalProducer(
        id,
        link,
        client,
        count,
        metrics,
        options,
        (topics, time, onRecord) => readUpTo(link, admin, beginnings, topics, time, onRecord),
      );
    } catch (error) {
      throw busError(error, "TRANSACTION_FAILED");
    }
  }

  readonly settled: TransactionalProducer["settled"];

  private constructor(
    id: string,
    link: Link,
    client: KafkaJsProducer,
    count: PartitionCount,
    metrics: BusMetrics,
    options: ProducerOptions,
    settled: TransactionalProducer["settled"],
  ) {
    this.settled = settled;
    this.id = id;
    this.#link = link;
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
      // Positions first: while the last transaction's markers are written the group's coordinator says so at once, and a
      // partition's leader after a wait. Not both at once: of two additions to a transaction brokers let one fail.
      if (transaction.offsets !== undefined) await sendOffsets(open, transaction.offsets);
      await this.#sendAll(open, groups);
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

  /** A request for all partitions, and as many more as the size of the largest asks for. */
  async #sendAll(open: KafkaJsTransaction, groups: readonly Group[]): Promise<void> {
    const cut = groups.map((group) => ({ ...group, chunks: chunks(group.records, REQUEST_BYTES) }));
    for (let round = 0; ; round++) {
      const next = cut.flatMap(({ topic, partition, chunks }) => {
        const records = chunks[round];
        return records === undefined ? [] : [{ topic, partition, records }];
      });
      if (next.length === 0) return;
      const largest = Math.max(...next.map(({ records }) => valueBytes(records)));
      await send(open, next, compressionFor(this.#compression, largest));
    }
  }

  async #byPartition(records: readonly OutRecord[]): Promise<Group[]> {
    const groups = new Map<string, Group & { records: OutRecord[] }>();
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
    await this.#link.end(this.#last.then(() => this.#client.disconnect()));
  }
}
