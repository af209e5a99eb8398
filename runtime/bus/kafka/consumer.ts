import { setTimeout as sleep } from "node:timers/promises";
import type { EachBatchPayload, Consumer as KafkaJsConsumer } from "kafkajs";
import { BusError } from "../errors.ts";
import type { BusMetrics } from "../metrics.ts";
import {
  type Behind,
  type Consumer,
  type ConsumerOptions,
  DEFAULTS,
  type Position,
  type TopicPartition,
} from "../port.ts";
import { ConsumerProgress } from "../progress.ts";
import {
  type Assigned,
  fatalError,
  fetchedFrom,
  isIdle,
  keyOf,
  newlyAssigned,
  toRecord,
  unreadableBatch,
} from "./assigned.ts";
import { busError } from "./client.ts";
import type { Answer } from "./library.ts";
import type { Link } from "./link.ts";

/** No answer from a broker for this long, and the client is thrown away and made anew. */
const STALL_MS = 20_000;
const RESTART_MS = 500;
const METADATA_MS = 30_000;
/** What is missing for so many fetches in a row is gone: its retention is over. */
const MAX_GAPS = 20;
const CONCURRENT_PARTITIONS = 64;
/** Most bytes of a partition that are fetched ahead of its handler. */
const QUEUE_BYTES = 4 * 1024 * 1024;
/** Most records that a handler gets at once. */
const BATCH_RECORDS = 2_000;

/** kafkajs behind our port: handlers never overlap on a partition, and it never stays dead. */
export class KafkaConsumer implements Consumer {
  readonly #connect: () => Link;
  readonly #group: string;
  readonly #options: ConsumerOptions;
  readonly #metrics: BusMetrics;
  readonly #assigned = new Map<string, Assigned>();
  /** Without a group nobody else keeps them: the next offsets to be handed out, by partition. */
  readonly #resumeAt = new Map<string, bigint>();
  /** The handler that runs, or ran last, by partition: it may outlive the assignment. */
  readonly #handlers = new Map<string, Promise<void>>();
  #link: Link;
  #client: KafkaJsConsumer;
  readonly #progress = new ConsumerProgress(Date.now());
  /** When the client was made, for the watchdog. */
  #renewedAt = Date.now();
  #watchdog: NodeJS.Timeout | undefined;
  #restarting: Promise<void> | undefined;
  /** The client that crashed last. */
  #crashed: KafkaJsConsumer | undefined;
  #closing = false;
  #onJoin: () => void = () => {};

  static async open(
    connect: () => Link,
    group: string,
    options: ConsumerOptions,
    metrics: BusMetrics,
    signal?: AbortSignal,
  ): Promise<KafkaConsumer> {
    const consumer = new KafkaConsumer(connect, group, options, metrics);
    // Not an event of the first client: that one may crash and be replaced before it joins.
    const joined = new Promise<void>((resolve, reject) => {
      consumer.#onJoin = resolve;
      signal?.addEventListener("abort", () => {
        consumer.#link.cut();
        void consumer.close();
        reject(new BusError("CLOSED", "before it was opened"));
      });
    });
    joined.catch(() => {});
    try {
      await consumer.#run();
    } catch (error) {
      await consumer.close();
      throw busError(error, "CONSUMER_CRASHED");
    }
    // Also while it begins: a broker may go and come back.
    consumer.#watchdog = setInterval(() => consumer.#checkProgress(), 1_000);
    await joined;
    return consumer;
  }

  private constructor(connect: () => Link, group: string, options: ConsumerOptions, metrics: BusMetrics) {
    this.#connect = connect;
    this.#group = group;
    this.#options = options;
    this.#metrics = metrics;
    this.#link = connect();
    this.#client = this.#create();
  }

  assignment(): readonly TopicPartition[] {
    return [...this.#assigned.values()].map(({ topic, partition }) => ({ topic, partition }));
  }

  lastProgress(): number {
    return this.#progress.lastProgress();
  }

  behind(): readonly Behind[] {
    return this.#progress.behind();
  }

  /** Milliseconds since 1970 of the latest sign of life of a broker, whatever it was about. */
  lastHeard(): number {
    return this.#progress.lastHeard();
  }

  pause(partitions: readonly TopicPartition[]): void {
    this.#setPaused(partitions, true);
  }

  resume(partitions: readonly TopicPartition[]): void {
    this.#setPaused(partitions, false);
  }

  #setPaused(partitions: readonly TopicPartition[], paused: boolean): void {
    for (const partition of partitions) {
      const assigned = this.#assigned.get(keyOf(partition));
      if (assigned === undefined) continue;
      assigned.paused = paused;
      this.#progress.paused(partition, paused, Date.now());
      this.#balance(assigned);
      if (!paused) this.#pump(assigned);
    }
  }

  position(partition: TopicPartition): bigint | undefined {
    const assigned = this.#assigned.get(keyOf(partition));
    if (assigned === undefined || assigned.running) return assigned?.handling;
    return assigned.queue[0]?.offset ?? assigned.seen;
  }

  seek(position: Position): void {
    this.#handledUpTo(position, position.offset);
    const assigned = this.#assigned.get(keyOf(position));
    if (assigned !== undefined) {
      assigned.fetched = position.offset;
      assigned.queue = [];
      assigned.queuedBytes = 0;
      assigned.seen = position.offset;
      assigned.unreadable = undefined;
      this.#balance(assigned);
    }
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
    const restarted = this.#restarting ?? Promise.resolve();
    await this.#link.end(restarted.then(() => this.#client.disconnect()));
    await Promise.allSettled(this.#handlers.values());
  }

  #create(): KafkaJsConsumer {
    const sessionTimeout = this.#options.sessionTimeoutMs ?? DEFAULTS.sessionTimeoutMs;
    const client = this.#link.kafka.consumer({
      groupId: this.#group,
      sessionTimeout,
      heartbeatInterval: Math.floor(sessionTimeout / 5),
      rebalanceTimeout: sessionTimeout * 2,
      // Answers of a few milliseconds' worth of records: a fetch for each record would be the broker's main work.
      minBytes: this.#options.minBytes ?? DEFAULTS.minBytes,
      maxWaitTimeInMs: this.#options.maxWaitMs ?? DEFAULTS.maxWaitMs,
      maxBytesPerPartition: this.#options.maxBytesPerPartition ?? 1024 * 1024,
      allowAutoTopicCreation: false,
      // A topic may get more partitions.
      metadataMaxAge: METADATA_MS,
      readUncommitted: false,
      retry: { initialRetryTime: 100, maxRetryTime: 1_000, retries: 10, restartOnFailure: async () => false },
    });
    const progress = () => this.#progress.heard(Date.now());
    client.on("consumer.fetch", ({ payload }) => {
      progress();
      const { answers = [] } = payload as { readonly answers?: readonly Answer[] };
      if (this.#client === client) for (const answer of answers) this.#answered(answer);
    });
    client.on("consumer.end_batch_process", ({ payload }) => {
      const assigned = this.#assigned.get(keyOf(payload));
      if (assigned === undefined || this.#client !== client || payload.lastOffset === null) return;
      // Only of batches of nothing but markers, which no handler gets to see. What was fetched before a seek and is
      // dropped for that comes by here as well.
      if (payload.batchSize > 0) return;
      const first = BigInt(payload.firstOffset ?? payload.lastOffset);
      if (assigned.seen === undefined || first <= assigned.seen) {
        const next = BigInt(payload.lastOffset) + 1n;
        assigned.seen = assigned.seen === undefined || next > assigned.seen ? next : assigned.seen;
      }
    });
    client.on("consumer.heartbeat", progress);
    client.on("consumer.group_join", ({ payload }) => {
      progress();
      this.#joined(payload.memberAssignment);
      this.#progress.keep(this.assignment());
      this.#onJoin();
    });
    client.on("consumer.crash", ({ payload }) => {
      this.#crashed = client;
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
      const assigned = newlyAssigned(partition, (fresh) => before.then(() => this.#prepare(fresh)));
      this.#assigned.set(key, assigned);
      this.#progress.assigned(partition, Date.now());
      assigned.ready.catch((error: unknown) => this.#fail(error));
    }
  }

  async #prepare(assigned: Assigned): Promise<void> {
    const { topic, partition } = assigned;
    const chosen = await this.#options.onAssigned?.({ topic, partition });
    const start = chosen ?? this.#resumeAt.get(keyOf(assigned));
    if (start === undefined || this.#assigned.get(keyOf(assigned)) !== assigned || this.#closing) return;
    this.seek({ topic, partition, offset: start });
  }

  /**
   * Takes what was fetched into the partition's queue and returns, so that a slow handler of one partition does
   * not keep the client from fetching for the others.
   */
  async #eachBatch(client: KafkaJsConsumer, { batch, isStale }: EachBatchPayload): Promise<void> {
    const { topic, partition } = batch;
    const assigned = this.#assigned.get(keyOf({ topic, partition }));
    if (assigned === undefined || this.#client !== client || isStale()) return;
    const { seen } = assigned;
    if (seen !== undefined && fetchedFrom(batch) > seen && assigned.gaps < MAX_GAPS) {
      // Fetched ahead before a seek, and handed out after it: between here and there is what was asked for.
      assigned.gaps += 1;
      client.seek({ topic, partition, offset: String(seen) });
      return;
    }
    assigned.gaps = 0;
    for (const message of batch.messages) {
      const offset = BigInt(message.offset);
      // After a rebalance the client starts at the committed offset, behind what is queued or handed out already.
      if (offset < assigned.fetched) continue;
      assigned.fetched = offset + 1n;
      assigned.queuedBytes += message.value?.length ?? 0;
      assigned.queue.push(toRecord(topic, partition, offset, message));
    }
    const next = BigInt(batch.lastOffset()) + 1n;
    if (seen === undefined || next > seen) assigned.seen = next;
    assigned.highWatermark = BigInt(batch.highWatermark);
    this.#balance(assigned);
    this.#pump(assigned);
  }

  /** What a broker has said of a partition: how far its log goes, and what of it cannot be decoded. */
  #answered(answer: Answer): void {
    const { topic, partition, highWatermark, lastStableOffset = highWatermark, unreadable } = answer;
    const place = { topic, partition };
    const assigned = this.#assigned.get(keyOf(place));
    if (assigned === undefined) return;
    const from = BigInt(answer.fetchedOffset);
    const lastStable = BigInt(lastStableOffset);
    const end = BigInt(highWatermark);
    // Sent on by a broker that has nothing of before any more, and nothing behind it. Never back: a log that is shorter
    // than what was read is another one, which whoever reads it has to see.
    const ahead = assigned.seen !== undefined && from > assigned.seen;
    if (ahead && answer.rawMessages.length === 0 && from >= lastStable && isIdle(assigned))
      assigned.seen = from;
    // What is queued or with a handler is not done.
    const next = this.position(place) ?? from;
    this.#progress.answered(place, { next, lastStable, end }, Date.now());
    this.#metrics.lag.set({ topic, partition, group: this.#options.group ?? "" }, Number(end - next));
    if (unreadable === undefined) return;
    assigned.unreadable = unreadableBatch(place, unreadable);
    this.#balance(assigned);
    this.#pump(assigned);
  }

  /** Stops and starts fetching a partition by what the user wants and by how much is queued. */
  #balance(assigned: Assigned): void {
    const full = assigned.queuedBytes > (assigned.held ? QUEUE_BYTES / 2 : QUEUE_BYTES);
    const hold = assigned.paused || full || assigned.unreadable !== undefined;
    if (hold === assigned.held) return;
    assigned.held = hold;
    const place = [{ topic: assigned.topic, partitions: [assigned.partition] }];
    if (hold) this.#client.pause(place);
    else this.#client.resume(place);
  }

  /** Runs the partition's handler, if it is not running, until its queue is empty. */
  #pump(assigned: Assigned): void {
    if (assigned.running) return;
    assigned.running = true;
    const key = keyOf(assigned);
    const before = this.#handlers.get(key) ?? Promise.resolve();
    const work = before
      .then(async () => {
        await assigned.ready;
        while (this.#mayHandle(assigned) && assigned.queue.length > 0) await this.#handle(assigned);
        if (assigned.unreadable !== undefined && this.#mayHandle(assigned)) throw assigned.unreadable;
      })
      .catch((error: unknown) => {
        if (!(error instanceof BusError && error.code === "REBALANCED")) this.#fail(error);
      })
      .finally(() => {
        assigned.running = false;
        // What came between the last look and this line started nothing.
        if (assigned.queue.length > 0 && this.#mayHandle(assigned)) this.#pump(assigned);
      });
    this.#handlers.set(key, work);
  }

  #mayHandle(assigned: Assigned): boolean {
    return this.#assigned.get(keyOf(assigned)) === assigned && !assigned.paused && !this.#closing;
  }

  async #handle(assigned: Assigned): Promise<void> {
    const { topic, partition } = assigned;
    const records = assigned.queue.splice(0, BATCH_RECORDS);
    assigned.queuedBytes -= records.reduce((sum, record) => sum + (record.value?.length ?? 0), 0);
    this.#balance(assigned);
    const { highWatermark } = assigned;
    assigned.handling = records[0]?.offset;
    const end = this.#metrics.handlerSeconds.startTimer({ topic });
    try {
      await this.#options.onBatch({ topic, partition, records, highWatermark });
    } finally {
      end();
    }
    const group = this.#options.group ?? "";
    const next = (records.at(-1)?.offset ?? 0n) + 1n;
    this.#handledUpTo({ topic, partition }, next);
    this.#progress.handled({ topic, partition }, next, Date.now());
    this.#metrics.received.inc({ topic, group }, records.length);
    this.#metrics.lag.set({ topic, partition, group }, Number(assigned.highWatermark - next));
  }

  #handledUpTo(partition: TopicPartition, next: bigint): void {
    if (this.#options.group === undefined) this.#resumeAt.set(keyOf(partition), next);
  }

  #fail(error: unknown): void {
    if (this.#closing) return;
    const fatal = fatalError(error);
    this.#metrics.errors.inc({ operation: "consume", code: fatal.code });
    // Not awaited: close waits for handlers, and this is called from one.
    void this.close().catch(() => {});
    this.#options.onFatal(fatal);
  }

  #checkProgress(): void {
    if (this.#closing || this.#restarting !== undefined) return;
    if (Date.now() - Math.max(this.#progress.lastHeard(), this.#renewedAt) < STALL_MS) return;
    this.#restart(new BusError("STALLED", `group ${this.#group}`));
  }

  #restart(reason: BusError): void {
    if (this.#closing || this.#restarting !== undefined) return;
    this.#metrics.errors.inc({ operation: "consume", code: reason.code });
    this.#restarting = this.#renew().finally(() => {
      this.#restarting = undefined;
      // One that crashes while it begins says so in the middle of this, and its `run` resolves all the same.
      if (this.#crashed === this.#client) this.#restart(new BusError("CONSUMER_CRASHED", this.#group));
    });
  }

  async #renew(): Promise<void> {
    for (let tried = 0; !this.#closing; tried++) {
      this.#joined({});
      await this.#link.end(this.#client.disconnect());
      await sleep(Math.min(5_000, RESTART_MS * 2 ** tried));
      if (this.#closing) return;
      this.#link = this.#connect();
      this.#client = this.#create();
      this.#renewedAt = Date.now();
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
