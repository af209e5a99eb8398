/** A partition of a topic. */
export interface TopicPartition {
  readonly topic: string;
  readonly partition: number;
}

/** A place in the log: for a read position, the next offset to read. */
export interface Position extends TopicPartition {
  readonly offset: bigint;
}

export type Headers = Readonly<Record<string, string>>;

/** A record to be written. Without `partition` it goes where Kafka's own clients would put the key. */
export interface OutRecord {
  readonly topic: string;
  readonly partition?: number;
  readonly key?: string;
  /** null is a tombstone. */
  readonly value: Buffer | null;
  readonly headers?: Headers;
  /** Milliseconds since 1970; the time of sending when absent. */
  readonly timestamp?: number;
}

/** A record that was read. */
export interface InRecord extends Position {
  readonly key: string | undefined;
  readonly value: Buffer | null;
  readonly headers: Headers;
  /** Milliseconds since 1970. */
  readonly timestamp: number;
}

/** A partition that is not read to its end: from `offset` on nothing has been handled. */
export interface Behind extends Position {
  /** Offset that the next record written will get, as a broker last said. */
  readonly end: bigint;
  /** Milliseconds since 1970 of the latest moment at which nothing waited, or a batch was handled. */
  readonly since: number;
}

/** Records of one partition, in order. */
export interface Batch extends TopicPartition {
  readonly records: readonly InRecord[];
  /** Offset that the next record written to the partition will get. */
  readonly highWatermark: bigint;
}

/** Writes records outside transactions; every record is acknowledged by all in-sync replicas. */
export interface Producer {
  /**
   * Resolves with the record's place once it is durable. Order is kept per partition. Waits while the buffer is
   * full (back-pressure). Rejects with BusError BUFFER_FULL, TOO_LARGE, UNKNOWN_TOPIC, DELIVERY_FAILED or CLOSED.
   */
  send(record: OutRecord): Promise<Position>;
  /** Resolves when everything sent so far is acknowledged or rejected. */
  flush(): Promise<void>;
  /** Flushes and disconnects. Where no broker answers, what is not acknowledged after 5 s rejects. */
  close(): Promise<void>;
}

/** Milliseconds since 1970, by the clocks of those who wrote. */
export interface TimeRange {
  readonly sinceMs: number;
  readonly untilMs: number;
}

/** What one transaction writes, all or nothing. */
export interface Transaction {
  readonly records: readonly OutRecord[];
  /** Read positions that are committed for a consumer group together with the records. */
  readonly offsets?: {
    readonly group: string;
    readonly positions: readonly Position[];
    /** Kept with the positions; at most 4,096 bytes. */
    readonly metadata?: string;
  };
}

/** A read position as it was committed. */
export interface Committed {
  readonly offset: bigint;
  readonly metadata: string;
}

/**
 * Writes in transactions under one id. Opening a second producer with the same id fences the first: its next
 * commit fails and nothing that it had not committed is ever read.
 */
export interface TransactionalProducer {
  readonly id: string;
  /**
   * Commits one transaction; calls are made one after another. After any rejection the producer is of no more
   * use and what was committed has to be read back: BusError FENCED, UNCERTAIN or TRANSACTION_FAILED.
   */
  commit(transaction: Transaction): Promise<void>;
  /**
   * Calls back with the records that had been committed to the leftovers' partitions of some topics when this producer
   * was opened: from the first one of a time on, up to the first one of another, each partition's in the order of the
   * commits. Of earlier producers of the same id these are all; others' open transactions are not waited for, and are
   * left out.
   */
  settled(topics: readonly string[], time: TimeRange, onRecord: (record: InRecord) => void): Promise<void>;
  /** Waits for the commit that is on its way, 5 s at most: then it rejects, and whether it has happened is not known. */
  close(): Promise<void>;
}

export interface ConsumerOptions {
  /** Consumer group; without one the consumer reads every partition, each record once, and commits nothing. */
  readonly group?: string;
  readonly topics: readonly string[];
  /** Where to start where the group has no committed offset. */
  readonly from: "earliest" | "latest";
  /**
   * Called with records of one partition, in order; never twice at once for a partition, at once for several.
   * A rejection ends the consumer (see `onFatal`), but for BusError REBALANCED, which means that the partition
   * is somebody else's by now.
   */
  readonly onBatch: (batch: Batch) => Promise<void>;
  /**
   * Called when a partition comes to this consumer, before its first batch, which waits for it. A returned
   * offset is where reading starts.
   */
  readonly onAssigned?: (partition: TopicPartition) => Promise<bigint | undefined>;
  /** Called when a partition has gone to another consumer. */
  readonly onRevoked?: (partition: TopicPartition) => void;
  /**
   * Called once when the consumer has ended: with HANDLER_FAILED because a handler rejected, or with UNREADABLE_BATCH
   * because the next batch cannot be decoded, when everything before it has been handled. Nothing is skipped. Trouble
   * with brokers never ends it.
   */
  readonly onFatal: (error: Error) => void;
  /** Milliseconds after which a silent member loses its partitions. Default 10,000. */
  readonly sessionTimeoutMs?: number;
  /** The broker answers when it has so many bytes, or after `maxWaitMs`. Default 32 KiB. */
  readonly minBytes?: number;
  /** Most milliseconds that the broker waits for `minBytes`. Default 10. */
  readonly maxWaitMs?: number;
  /** Most bytes fetched from one partition at once. Default 1 MiB. */
  readonly maxBytesPerPartition?: number;
}

export interface Consumer {
  /** The partitions that this consumer has now. */
  assignment(): readonly TopicPartition[];
  pause(partitions: readonly TopicPartition[]): void;
  resume(partitions: readonly TopicPartition[]): void;
  /**
   * Next offset that this consumer has not finished with, behind markers of transactions, which are never handed
   * out. undefined while it does not have the partition or has read nothing of it.
   */
  position(partition: TopicPartition): bigint | undefined;
  /** Reads on from an offset of an assigned partition. */
  seek(position: Position): void;
  /**
   * Milliseconds since 1970 of the latest moment at which no record waited in vain: each partition that is not paused
   * had been read to its end, as a broker said, or had a batch handled. It stands still when no broker answers, and when
   * records wait and none is handled, however often the client behind it is alive or made anew. Without partitions it
   * is the latest sign of life of a broker. For readiness checks (`checkProgress`).
   */
  lastProgress(): number;
  /** The partitions in which records wait, or whose log ends before what was read, as far as is known. */
  behind(): readonly Behind[];
  /** Commits read positions for the group. Rejects with REBALANCED when the partition has moved on. */
  commit(positions: readonly Position[]): Promise<void>;
  /** Leaves the group, where a broker answers within 5 s, and waits for running handlers. */
  close(): Promise<void>;
}

export interface TopicSpec {
  readonly name: string;
  readonly partitions: number;
  /** Default 1. */
  readonly replicas?: number;
  /** Milliseconds that records are kept; default 7 days. */
  readonly retentionMs?: number;
  readonly config?: Readonly<Record<string, string>>;
}

export interface Admin {
  /** Creates topics that do not exist and leaves those that do. */
  ensureTopics(topics: readonly TopicSpec[]): Promise<void>;
  topics(): Promise<readonly string[]>;
  partitions(topic: string): Promise<number>;
  /** First offset of each partition, and the next one for readers of committed records. */
  offsets(
    topic: string,
  ): Promise<ReadonlyMap<number, { readonly earliest: bigint; readonly latest: bigint }>>;
  /**
   * The next offset of each partition's log, behind all that is written, committed or not: where `latest` gets there,
   * whatever was written now has been decided on.
   */
  ends(topic: string): Promise<ReadonlyMap<number, bigint>>;
  /** By partition the first offset whose record is of that time or later; the next offset where there is none. */
  offsetsAt(topic: string, timestampMs: number): Promise<ReadonlyMap<number, bigint>>;
  /** Committed offsets of a group by partition; partitions without one are absent. */
  committed(group: string, topic: string): Promise<ReadonlyMap<number, bigint>>;
  /** The same with what was kept with the positions. */
  positions(group: string, topic: string): Promise<ReadonlyMap<number, Committed>>;
  deleteTopics(topics: readonly string[]): Promise<void>;
  close(): Promise<void>;
}

/** The event bus: the only way in which runtime code talks to Kafka. */
export interface Bus {
  producer(options?: ProducerOptions): Promise<Producer>;
  transactionalProducer(id: string, options?: TransactionalOptions): Promise<TransactionalProducer>;
  /** Resolves when the consumer has joined. */
  consumer(options: ConsumerOptions): Promise<Consumer>;
  admin(): Promise<Admin>;
  /** Resolves when a broker answers; rejects with BROKER_UNAVAILABLE. For readiness checks. */
  ping(): Promise<void>;
  /** Closes everything that was opened, or is being opened. Ends whether a broker answers or not. */
  close(): Promise<void>;
}

export interface ProducerOptions {
  readonly compression?: "none" | "gzip" | "snappy" | "lz4" | "zstd";
  /** Milliseconds that a record waits for company. Default 5. */
  readonly lingerMs?: number;
  /** Most bytes of one request to a partition. Default 128 KiB. */
  readonly batchBytes?: number;
  /** Most bytes waiting for acknowledgement; `send` waits beyond. Default 32 MiB. */
  readonly bufferBytes?: number;
  /** Most milliseconds that `send` waits for room in the buffer. Default 60,000. */
  readonly maxBlockMs?: number;
}

/** Where an earlier producer of the same id may have left something undecided. */
export interface Leftovers {
  readonly partitions: readonly TopicPartition[];
  /** A group whose read positions it may have committed. */
  readonly group?: string;
}

export interface TransactionalOptions extends ProducerOptions {
  /**
   * What is aborted when the producer is opened. Fencing a producer settles its open transaction, but a broker that was
   * killed may have forgotten to (ADR 9), and what was left would become visible with the next commit.
   */
  readonly leftovers?: Leftovers;
  /** Ends the opening, which waits for a broker for as long as there is none; it rejects with CLOSED then. */
  readonly signal?: AbortSignal | undefined;
}

export const DEFAULTS = {
  lingerMs: 5,
  batchBytes: 128 * 1024,
  bufferBytes: 32 * 1024 * 1024,
  maxBlockMs: 60_000,
  /** Largest value that may be sent: Kafka's default for a batch, 1 MiB, less 16 KiB for key, headers and framing. */
  maxRecordBytes: (1024 - 16) * 1024,
  retentionMs: 7 * 24 * 3600 * 1000,
  sessionTimeoutMs: 10_000,
  minBytes: 32 * 1024,
  maxWaitMs: 10,
} as const;
