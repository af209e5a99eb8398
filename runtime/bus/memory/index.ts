import { BusError } from "../errors.ts";
import { partitionOf } from "../partitioner.ts";
import {
  type Admin,
  type Behind,
  type Bus,
  type Committed,
  type Consumer,
  type ConsumerOptions,
  DEFAULTS,
  type InRecord,
  type Leftovers,
  type OutRecord,
  type Position,
  type Producer,
  type TimeRange,
  type TopicPartition,
  type TopicSpec,
  type Transaction,
  type TransactionalOptions,
  type TransactionalProducer,
} from "../port.ts";
import { ConsumerProgress } from "../progress.ts";
import { type GroupMember, MemoryBroker } from "./broker.ts";

const BATCH_RECORDS = 500;

/** The bus in one process, for tests; held to the same conformance suite as Kafka's. */
export class MemoryBus implements Bus {
  readonly #broker: MemoryBroker;
  readonly #open = new Set<{ close(): Promise<void> }>();

  constructor(broker: MemoryBroker = new MemoryBroker()) {
    this.#broker = broker;
  }

  async producer(): Promise<Producer> {
    return this.#track(new MemoryProducer(this.#broker));
  }

  async transactionalProducer(
    id: string,
    { leftovers, signal }: TransactionalOptions = {},
  ): Promise<TransactionalProducer> {
    if (signal?.aborted === true) throw new BusError("CLOSED", "before it was opened");
    return this.#track(new MemoryTransactionalProducer(this.#broker, id, leftovers));
  }

  async consumer(options: ConsumerOptions): Promise<Consumer> {
    return this.#track(new MemoryConsumer(this.#broker, options));
  }

  async admin(): Promise<Admin> {
    return new MemoryAdmin(this.#broker);
  }

  async ping(): Promise<void> {}

  async close(): Promise<void> {
    await Promise.all([...this.#open].map((part) => part.close()));
  }

  #track<T extends { close(): Promise<void> }>(part: T): T {
    this.#open.add(part);
    return part;
  }
}

function choose(broker: MemoryBroker, record: OutRecord): number {
  const count = broker.partitions(record.topic).length;
  if (record.partition !== undefined) return record.partition;
  return record.key === undefined ? 0 : partitionOf(record.key, count);
}

function checkSize(record: OutRecord): void {
  const bytes = record.value?.length ?? 0;
  if (bytes > DEFAULTS.maxRecordBytes) throw new BusError("TOO_LARGE", `${bytes} bytes for ${record.topic}`);
}

class MemoryProducer implements Producer {
  readonly #broker: MemoryBroker;
  #closed = false;

  constructor(broker: MemoryBroker) {
    this.#broker = broker;
  }

  async send(record: OutRecord): Promise<Position> {
    if (this.#closed) throw new BusError("CLOSED", "producer");
    checkSize(record);
    return this.#broker.append(record, choose(this.#broker, record));
  }

  async flush(): Promise<void> {}

  async close(): Promise<void> {
    this.#closed = true;
  }
}

class MemoryTransactionalProducer implements TransactionalProducer {
  readonly id: string;
  readonly #broker: MemoryBroker;
  readonly #epoch: number;
  readonly #ends: readonly { readonly place: TopicPartition; readonly end: number }[];
  #failed: BusError | undefined;

  constructor(broker: MemoryBroker, id: string, leftovers: Leftovers | undefined) {
    this.id = id;
    this.#broker = broker;
    this.#epoch = broker.fence(id);
    this.#ends = (leftovers?.partitions ?? []).map((place) => ({ place, end: broker.log(place).length }));
  }

  async settled(
    topics: readonly string[],
    { sinceMs, untilMs }: TimeRange,
    onRecord: (record: InRecord) => void,
  ): Promise<void> {
    for (const { place, end } of this.#ends) {
      if (!topics.includes(place.topic)) continue;
      for (const record of this.#broker.log(place).slice(0, end)) {
        if (record.timestamp >= sinceMs && record.timestamp < untilMs) onRecord(record);
      }
    }
  }

  async commit(transaction: Transaction): Promise<void> {
    if (this.#failed !== undefined) throw this.#failed;
    for (const record of transaction.records) checkSize(record);
    try {
      this.#broker.checkEpoch(this.id, this.#epoch);
      // Everything that can fail comes before the first write.
      const places = transaction.records.map((record) => choose(this.#broker, record));
      for (const [index, record] of transaction.records.entries()) {
        this.#broker.log({ topic: record.topic, partition: places[index] ?? 0 });
      }
      for (const [index, record] of transaction.records.entries())
        this.#broker.append(record, places[index] ?? 0);
      if (transaction.offsets !== undefined) {
        const { group, positions, metadata } = transaction.offsets;
        this.#broker.commit(group, positions, undefined, metadata);
      }
    } catch (error) {
      this.#failed = error instanceof BusError ? error : new BusError("TRANSACTION_FAILED", String(error));
      throw this.#failed;
    }
  }

  async close(): Promise<void> {
    this.#failed ??= new BusError("CLOSED", `transactional producer ${this.id}`);
  }
}

interface Reading extends TopicPartition {
  next: bigint;
  paused: boolean;
  busy: Promise<void> | undefined;
  readonly ready: Promise<void>;
}

class MemoryConsumer implements Consumer {
  readonly #broker: MemoryBroker;
  readonly #options: ConsumerOptions;
  readonly #assigned = new Map<string, Reading>();
  readonly #busy = new Map<string, Promise<void>>();
  readonly #progress = new ConsumerProgress(Date.now());
  readonly #forget: () => void;
  readonly #member: GroupMember;
  #generation: number | undefined;
  #closed = false;

  constructor(broker: MemoryBroker, options: ConsumerOptions) {
    this.#broker = broker;
    this.#options = options;
    this.#member = {
      topics: options.topics,
      assign: (partitions, generation) => {
        this.#generation = generation;
        this.#assign(partitions);
      },
    };
    this.#forget = broker.onAppend(() => this.#pump());
    if (options.group !== undefined) broker.join(options.group, this.#member);
    else {
      const all = options.topics.flatMap((topic) =>
        broker.partitions(topic).map((_, partition) => ({ topic, partition })),
      );
      this.#assign(all);
    }
  }

  assignment(): readonly TopicPartition[] {
    return [...this.#assigned.values()].map(({ topic, partition }) => ({ topic, partition }));
  }

  lastProgress(): number {
    this.#look();
    return this.#progress.lastProgress();
  }

  behind(): readonly Behind[] {
    this.#look();
    return this.#progress.behind();
  }

  /** What a broker would say now. */
  #look(): void {
    const now = Date.now();
    this.#progress.heard(now);
    for (const reading of this.#assigned.values()) {
      const end = BigInt(this.#broker.log(reading).length);
      this.#progress.answered(reading, { next: reading.next, lastStable: end, end }, now);
    }
  }

  pause(partitions: readonly TopicPartition[]): void {
    for (const partition of partitions) this.#setPaused(partition, true);
  }

  resume(partitions: readonly TopicPartition[]): void {
    for (const partition of partitions) this.#setPaused(partition, false);
    this.#pump();
  }

  #setPaused(partition: TopicPartition, paused: boolean): void {
    this.#reading(partition).paused = paused;
    this.#progress.paused(partition, paused, Date.now());
  }

  position(partition: TopicPartition): bigint | undefined {
    return this.#assigned.get(`${partition.topic}/${partition.partition}`)?.next;
  }

  seek(position: Position): void {
    this.#reading(position).next = position.offset;
    this.#pump();
  }

  async commit(positions: readonly Position[]): Promise<void> {
    if (this.#options.group === undefined) return;
    this.#broker.commit(this.#options.group, positions, this.#generation);
  }

  async close(): Promise<void> {
    if (this.#closed) return;
    this.#closed = true;
    this.#forget();
    if (this.#options.group !== undefined) this.#broker.leave(this.#options.group, this.#member);
    await Promise.allSettled(this.#busy.values());
  }

  #reading({ topic, partition }: TopicPartition): Reading {
    const reading = this.#assigned.get(`${topic}/${partition}`);
    if (reading === undefined) throw new BusError("REBALANCED", `${topic}/${partition}`);
    return reading;
  }

  #assign(partitions: readonly TopicPartition[]): void {
    const now = new Set(partitions.map(({ topic, partition }) => `${topic}/${partition}`));
    this.#progress.keep(partitions);
    for (const [key, reading] of this.#assigned) {
      if (now.has(key)) continue;
      this.#assigned.delete(key);
      this.#options.onRevoked?.({ topic: reading.topic, partition: reading.partition });
    }
    for (const partition of partitions) {
      const key = `${partition.topic}/${partition.partition}`;
      if (this.#assigned.has(key)) continue;
      const before = this.#busy.get(key) ?? Promise.resolve();
      const reading: Reading = {
        ...partition,
        next: this.#start(partition),
        paused: false,
        busy: undefined,
        ready: before.then(async () => {
          const start = await this.#options.onAssigned?.(partition);
          if (start !== undefined) reading.next = start;
        }),
      };
      this.#assigned.set(key, reading);
      this.#progress.assigned(partition, Date.now());
      reading.ready.then(
        () => this.#pump(),
        (error: unknown) => this.#fail(error),
      );
    }
  }

  #start({ topic, partition }: TopicPartition): bigint {
    const { group, from } = this.#options;
    const committed = group === undefined ? undefined : this.#broker.committed(group, topic, partition);
    return (
      committed?.offset ?? (from === "earliest" ? 0n : BigInt(this.#broker.log({ topic, partition }).length))
    );
  }

  #pump(): void {
    if (this.#closed) return;
    for (const [key, reading] of this.#assigned) {
      if (reading.busy !== undefined || reading.paused) continue;
      const work = this.#read(key, reading)
        .catch((error: unknown) => {
          if (!(error instanceof BusError && error.code === "REBALANCED")) this.#fail(error);
        })
        .finally(() => {
          reading.busy = undefined;
          // What was written after the last look and before this line woke nobody.
          if (this.#assigned.get(key) === reading && this.#hasMore(reading)) this.#pump();
        });
      reading.busy = work;
      this.#busy.set(key, work);
    }
  }

  #hasMore(reading: Reading): boolean {
    return !reading.paused && BigInt(this.#broker.log(reading).length) > reading.next;
  }

  async #read(key: string, reading: Reading): Promise<void> {
    await reading.ready;
    for (;;) {
      if (this.#closed || reading.paused || this.#assigned.get(key) !== reading) return;
      const log = this.#broker.log(reading);
      const start = Number(reading.next);
      const records = log.slice(start, start + BATCH_RECORDS);
      const last = records.at(-1);
      if (last === undefined) return;
      const before = reading.next;
      const { topic, partition } = reading;
      await this.#options.onBatch({ topic, partition, records, highWatermark: BigInt(log.length) });
      if (reading.next === before) reading.next = last.offset + 1n;
      this.#progress.handled(reading, reading.next, Date.now());
    }
  }

  #fail(error: unknown): void {
    if (this.#closed) return;
    const cause = error instanceof Error ? error : new Error(String(error));
    void this.close();
    this.#options.onFatal(new BusError("HANDLER_FAILED", cause.message, { cause }));
  }
}

class MemoryAdmin implements Admin {
  readonly #broker: MemoryBroker;

  constructor(broker: MemoryBroker) {
    this.#broker = broker;
  }

  async ensureTopics(topics: readonly TopicSpec[]): Promise<void> {
    for (const topic of topics) this.#broker.createTopic(topic);
  }

  async topics(): Promise<readonly string[]> {
    return this.#broker.topicNames();
  }

  async partitions(topic: string): Promise<number> {
    return this.#broker.partitions(topic).length;
  }

  async offsets(topic: string): Promise<ReadonlyMap<number, { earliest: bigint; latest: bigint }>> {
    const logs = this.#broker.partitions(topic);
    return new Map(logs.map((log, partition) => [partition, { earliest: 0n, latest: BigInt(log.length) }]));
  }

  async ends(topic: string): Promise<ReadonlyMap<number, bigint>> {
    return new Map(this.#broker.partitions(topic).map((log, partition) => [partition, BigInt(log.length)]));
  }

  async offsetsAt(topic: string, timestampMs: number): Promise<ReadonlyMap<number, bigint>> {
    return new Map(
      this.#broker.partitions(topic).map((log, partition) => {
        const index = log.findIndex(({ timestamp }) => timestamp >= timestampMs);
        return [partition, BigInt(index === -1 ? log.length : index)];
      }),
    );
  }

  async committed(group: string, topic: string): Promise<ReadonlyMap<number, bigint>> {
    const found = await this.positions(group, topic);
    return new Map([...found].map(([partition, { offset }]) => [partition, offset]));
  }

  async positions(group: string, topic: string): Promise<ReadonlyMap<number, Committed>> {
    const positions = new Map<number, Committed>();
    for (const partition of this.#broker.partitions(topic).keys()) {
      const found = this.#broker.committed(group, topic, partition);
      if (found !== undefined) positions.set(partition, found);
    }
    return positions;
  }

  async deleteTopics(topics: readonly string[]): Promise<void> {
    for (const topic of topics) this.#broker.deleteTopic(topic);
  }

  async close(): Promise<void> {}
}
