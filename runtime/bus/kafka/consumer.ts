import { setTimeout as sleep } from "node:timers/promises";
import type { EachBatchPayload, Kafka, Consumer as KafkaJsConsumer, KafkaMessage } from "kafkajs";
import { BusError } from "../errors.ts";
import type { BusMetrics } from "../metrics.ts";
import {
  type Consumer,
  type ConsumerOptions,
  DEFAULTS,
  type InRecord,
  type Position,
  type TopicPartition,
} from "../port.ts";
import { busError } from "./client.ts";

/** No answer from a broker for this long, and the client is thrown away and made anew. */
const STALL_MS = 20_000;
const RESTART_MS = 500;
const CONCURRENT_PARTITIONS = 64;

/** A partition while this consumer has it. */
interface Assigned extends TopicPartition {
  /** Next offset to hand out; undefined until it is known. */
  next: bigint | undefined;
  /** Resolves when `onAssigned` is done. */
  readonly ready: Promise<void>;
}

/** kafkajs behind our port: handlers never overlap on a partition, and it never stays dead. */
export class KafkaConsumer implements Consumer {
  readonly #kafka: Kafka;
  readonly #group: string;
  readonly #options: ConsumerOptions;
  readonly #metrics: BusMetrics;
  readonly #assigned = new Map<string, Assigned>();
  /** The handler that runs, or ran last, by partition: it may outlive the assignment. */
  readonly #handlers = new Map<string, Promise<void>>();
  #client: KafkaJsConsumer;
  #progress = Date.now();
  #watchdog: NodeJS.Timeout | undefined;
  #restarting: Promise<void> | undefined;
  #closing = false;
  #onJoin: () => void = () => {};

  static async open(
    kafka: Kafka,
    group: string,
    options: ConsumerOptions,
    metrics: BusMetrics,
  ): Promise<KafkaConsumer> {
    const consumer = new KafkaConsumer(kafka, group, options, metrics);
    // Not an event of the first client: that one may crash and be replaced before it joins.
    const joined = new Promise<void>((resolve) => {
      consumer.#onJoin = resolve;
    });
    try {
      await consumer.#run();
    } catch (error) {
      await consumer.close();
      throw busError(error, "CONSUMER_CRASHED");
    }
    await joined;
    consumer.#watchdog = setInterval(() => consumer.#checkProgress(), 1_000);
    return consumer;
  }

  private constructor(kafka: Kafka, group: string, options: ConsumerOptions, metrics: BusMetrics) {
    this.#kafka = kafka;
    this.#group = group;
    this.#options = options;
    this.#metrics = metrics;
    this.#client = this.#create();
  }

  assignment(): readonly TopicPartition[] {
    return [...this.#assigned.values()].map(({ topic, partition }) => ({ topic, partition }));
  }

  lastProgress(): number {
    return this.#progress;
  }

  pause(partitions: readonly TopicPartition[]): void {
    this.#client.pause(partitions.map(({ topic, partition }) => ({ topic, partitions: [partition] })));
  }

  resume(partitions: readonly TopicPartition[]): void {
    this.#client.resume(partitions.map(({ topic, partition }) => ({ topic, partitions: [partition] })));
  }

  seek(position: Position): void {
    const assigned = this.#assigned.get(keyOf(position));
    if (assigned !== undefined) assigned.next = position.offset;
    this.#client.seek({
      topic: position.topic,
      partition: position.partition,
      offset: String(position.offset),
    });
  }

  async commit(positions: readonly Position[]): Promise<void> {
    try {
      await this.#client.commitOffsets(
        positions.map(({ topic, partition, offset }) => ({ topic, partition, offset: String(offset) })),
      );
    } catch (error) {
      throw busError(error, "REBALANCED");
    }
  }

  async close(): Promise<void> {
    if (this.#closing) return;
    this.#closing = true;
    clearInterval(this.#watchdog);
    await this.#restarting;
    await this.#client.disconnect();
    await Promise.allSettled(this.#handlers.values());
  }

  #create(): KafkaJsConsumer {
    const sessionTimeout = this.#options.sessionTimeoutMs ?? DEFAULTS.sessionTimeoutMs;
    const client = this.#kafka.consumer({
      groupId: this.#group,
      sessionTimeout,
      heartbeatInterval: Math.floor(sessionTimeout / 5),
      rebalanceTimeout: sessionTimeout * 2,
      maxWaitTimeInMs: this.#options.maxWaitMs ?? 50,
      maxBytesPerPartition: this.#options.maxBytesPerPartition ?? 1024 * 1024,
      allowAutoTopicCreation: false,
      readUncommitted: false,
      retry: { initialRetryTime: 100, maxRetryTime: 1_000, retries: 10, restartOnFailure: async () => false },
    });
    const progress = () => {
      this.#progress = Date.now();
    };
    client.on("consumer.fetch", progress);
    client.on("consumer.heartbeat", progress);
    client.on("consumer.group_join", ({ payload }) => {
      progress();
      this.#joined(payload.memberAssignment);
      this.#onJoin();
    });
    client.on("consumer.crash", ({ payload }) => {
      if (this.#client === client) this.#restart(busError(payload.error, "CONSUMER_CRASHED"));
    });
    return client;
  }

  async #run(): Promise<void> {
    const client = this.#client;
    await client.connect();
    await client.subscribe({
      topics: [...this.#options.topics],
      fromBeginning: this.#options.from === "earliest",
    });
    await client.run({
      autoCommit: false,
      eachBatchAutoResolve: true,
      partitionsConsumedConcurrently: CONCURRENT_PARTITIONS,
      eachBatch: (payload) => this.#eachBatch(client, payload),
    });
  }

  /** Takes note of a new generation: what came, what stayed, what went. */
  #joined(assignment: Readonly<Record<string, readonly number[]>>): void {
    const now = new Map<string, TopicPartition>();
    for (const [topic, partitions] of Object.entries(assignment)) {
      for (const partition of partitions) now.set(keyOf({ topic, partition }), { topic, partition });
    }
    for (const [key, assigned] of this.#assigned) {
      if (now.has(key)) continue;
      this.#assigned.delete(key);
      this.#options.onRevoked?.({ topic: assigned.topic, partition: assigned.partition });
    }
    for (const [key, partition] of now) {
      if (this.#assigned.has(key)) continue;
      const before = this.#handlers.get(key) ?? Promise.resolve();
      const assigned: Assigned = {
        ...partition,
        next: undefined,
        ready: before.then(() => this.#prepare(assigned)),
      };
      this.#assigned.set(key, assigned);
      assigned.ready.catch((error: unknown) => this.#fail(error));
    }
  }

  async #prepare(assigned: Assigned): Promise<void> {
    const { topic, partition } = assigned;
    const start = await this.#options.onAssigned?.({ topic, partition });
    if (start === undefined || this.#assigned.get(keyOf(assigned)) !== assigned || this.#closing) return;
    this.seek({ topic, partition, offset: start });
  }

  async #eachBatch(client: KafkaJsConsumer, payload: EachBatchPayload): Promise<void> {
    const { batch, heartbeat, isStale } = payload;
    const { topic, partition } = batch;
    const key = keyOf({ topic, partition });
    const assigned = this.#assigned.get(key);
    if (assigned === undefined || this.#client !== client) return;
    // A long handler must not cost the membership. What heartbeat throws is seen by the fetch loop as well.
    const beat = setInterval(() => void heartbeat().catch(() => {}), 1_000);
    const before = this.#handlers.get(key) ?? Promise.resolve();
    const work = before.then(async () => {
      await assigned.ready;
      // Read before a seek, or before a rebalance that took the partition away.
      if (isStale() || this.#assigned.get(key) !== assigned || this.#closing) return;
      await this.#handle(assigned, payload);
    });
    this.#handlers.set(
      key,
      work.catch(() => {}),
    );
    try {
      await work;
    } catch (error) {
      if (!(error instanceof BusError && error.code === "REBALANCED")) this.#fail(error);
    } finally {
      clearInterval(beat);
      this.#progress = Date.now();
    }
  }

  async #handle(assigned: Assigned, { batch }: EachBatchPayload): Promise<void> {
    const { topic, partition } = assigned;
    const { next } = assigned;
    const records: InRecord[] = [];
    for (const message of batch.messages) {
      const offset = BigInt(message.offset);
      // After a rebalance the client starts at the committed offset, behind what was handed out already.
      if (next === undefined || offset >= next) records.push(toRecord(topic, partition, offset, message));
    }
    const last = records.at(-1);
    if (last === undefined) return;
    const end = this.#metrics.handlerSeconds.startTimer({ topic });
    try {
      await this.#options.onBatch({ topic, partition, records, highWatermark: BigInt(batch.highWatermark) });
    } finally {
      end();
    }
    // A handler may have called seek.
    if (assigned.next === next) assigned.next = last.offset + 1n;
    const group = this.#options.group ?? "";
    this.#metrics.received.inc({ topic, group }, records.length);
    this.#metrics.lag.set(
      { topic, partition, group },
      Number(BigInt(batch.highWatermark) - last.offset - 1n),
    );
  }

  #fail(error: unknown): void {
    if (this.#closing) return;
    this.#metrics.errors.inc({ operation: "consume", code: "HANDLER_FAILED" });
    const cause = error instanceof Error ? error : new Error(String(error));
    // Not awaited: close waits for handlers, and this is called from one.
    void this.close().catch(() => {});
    this.#options.onFatal(new BusError("HANDLER_FAILED", cause.message, { cause }));
  }

  #checkProgress(): void {
    if (this.#closing || this.#restarting !== undefined || Date.now() - this.#progress < STALL_MS) return;
    this.#restart(new BusError("STALLED", `group ${this.#group}`));
  }

  #restart(reason: BusError): void {
    if (this.#closing || this.#restarting !== undefined) return;
    this.#metrics.errors.inc({ operation: "consume", code: reason.code });
    this.#restarting = this.#renew().finally(() => {
      this.#restarting = undefined;
    });
  }

  async #renew(): Promise<void> {
    for (let tried = 0; !this.#closing; tried++) {
      this.#joined({});
      const old = this.#client;
      await Promise.race([old.disconnect().catch(() => {}), sleep(5_000)]);
      await sleep(Math.min(5_000, RESTART_MS * 2 ** tried));
      if (this.#closing) return;
      this.#client = this.#create();
      this.#progress = Date.now();
      try {
        await this.#run();
        return;
      } catch {
        // Tried again; the metric counts crashes, readiness looks at lastProgress.
        this.#metrics.errors.inc({ operation: "consume", code: "CONSUMER_CRASHED" });
      }
    }
  }
}

function keyOf(partition: TopicPartition): string {
  return `${partition.topic}/${partition.partition}`;
}

function toRecord(topic: string, partition: number, offset: bigint, message: KafkaMessage): InRecord {
  const headers: Record<string, string> = {};
  for (const [name, value] of Object.entries(message.headers ?? {})) {
    const last = Array.isArray(value) ? value.at(-1) : value;
    if (last !== undefined) headers[name] = last.toString("utf8");
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
