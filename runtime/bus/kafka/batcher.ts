import { BusError } from "../errors.ts";
import type { OutRecord, Position } from "../port.ts";
import { recordBytes } from "./size.ts";

export interface BatcherOptions {
  readonly lingerMs: number;
  readonly batchBytes: number;
  readonly bufferBytes: number;
  readonly maxBlockMs: number;
  /** Writes records of ONE partition and resolves with the offset of the first. */
  readonly write: (topic: string, partition: number, records: readonly OutRecord[]) => Promise<bigint>;
}

interface Pending {
  readonly record: OutRecord;
  readonly bytes: number;
  readonly resolve: (position: Position) => void;
  readonly reject: (error: unknown) => void;
}

interface Queue {
  readonly topic: string;
  readonly partition: number;
  pending: Pending[];
  bytes: number;
  inFlight: boolean;
  timer: NodeJS.Timeout | undefined;
}

/** Most records of one request. */
const BATCH_RECORDS = 1_000;

/**
 * One queue a partition, one request in flight a queue, one partition a request. That is what keeps order, and
 * what keeps kafkajs from losing records when a leader moves in the middle of a request that spans partitions
 * (ADR 3). What waits is bounded in bytes over all partitions.
 */
export class PartitionBatcher {
  readonly #options: BatcherOptions;
  /** By topic and partition. */
  readonly #queues = new Map<string, Map<number, Queue>>();
  #buffered = 0;
  #unsettled = 0;
  #waiters: { readonly bytes: number; readonly wake: () => void }[] = [];
  #idle: (() => void)[] = [];

  constructor(options: BatcherOptions) {
    this.#options = options;
  }

  // Not async: this is called once for every record.
  send(record: OutRecord, partition: number): Promise<Position> {
    const bytes = recordBytes(record);
    if (this.#waiters.length > 0 || this.#buffered + bytes > this.#options.bufferBytes) {
      return this.#room(bytes).then(() => this.#enqueue(record, partition, bytes));
    }
    return this.#enqueue(record, partition, bytes);
  }

  #enqueue(record: OutRecord, partition: number, bytes: number): Promise<Position> {
    this.#buffered += bytes;
    this.#unsettled += 1;
    return new Promise((resolve, reject) => {
      const queue = this.#queue(record.topic, partition);
      queue.pending.push({ record, bytes, resolve, reject });
      queue.bytes += bytes;
      this.#schedule(queue);
    });
  }

  /** Bytes that wait for acknowledgement. */
  get buffered(): number {
    return this.#buffered;
  }

  /** Resolves when nothing is waiting or in flight. */
  async flush(): Promise<void> {
    for (const partitions of this.#queues.values()) {
      for (const queue of partitions.values()) this.#drain(queue);
    }
    if (this.#unsettled > 0) await new Promise<void>((resolve) => this.#idle.push(resolve));
  }

  #queue(topic: string, partition: number): Queue {
    let partitions = this.#queues.get(topic);
    if (partitions === undefined) {
      partitions = new Map();
      this.#queues.set(topic, partitions);
    }
    let queue = partitions.get(partition);
    if (queue === undefined) {
      queue = { topic, partition, pending: [], bytes: 0, inFlight: false, timer: undefined };
      partitions.set(partition, queue);
    }
    return queue;
  }

  #schedule(queue: Queue): void {
    if (queue.inFlight) return;
    const full = queue.bytes >= this.#options.batchBytes || queue.pending.length >= BATCH_RECORDS;
    if (full || this.#options.lingerMs === 0) this.#drain(queue);
    else queue.timer ??= setTimeout(() => this.#drain(queue), this.#options.lingerMs);
  }

  #drain(queue: Queue): void {
    if (queue.inFlight || queue.pending.length === 0) return;
    clearTimeout(queue.timer);
    queue.timer = undefined;
    const batch = takeBatch(queue, this.#options.batchBytes);
    queue.inFlight = true;
    const records = batch.map((pending) => pending.record);
    const next = (settle: () => void) => {
      queue.inFlight = false;
      // What came in meanwhile has waited long enough, and its request goes out before those who waited for this
      // one take the processor: with both at once the broker would stand idle, a tenth of all throughput.
      this.#drain(queue);
      setImmediate(() => {
        settle();
        this.#settled(batch);
      });
    };
    this.#options.write(queue.topic, queue.partition, records).then(
      (base) =>
        next(() => {
          const { topic, partition } = queue;
          for (const [index, { resolve }] of batch.entries()) {
            resolve({ topic, partition, offset: base + BigInt(index) });
          }
        }),
      (error: unknown) =>
        next(() => {
          for (const pending of batch) pending.reject(error);
        }),
    );
  }

  #settled(batch: readonly Pending[]): void {
    this.#unsettled -= batch.length;
    this.#buffered -= batch.reduce((sum, pending) => sum + pending.bytes, 0);
    this.#wakeWaiters();
    if (this.#unsettled > 0) return;
    for (const wake of this.#idle.splice(0)) wake();
  }

  /** Waits, in order of arrival, until there is room. */
  #room(bytes: number): Promise<void> {
    return new Promise((resolve, reject) => {
      const waiter = {
        bytes,
        wake: () => {
          clearTimeout(timer);
          resolve();
        },
      };
      const timer = setTimeout(() => {
        this.#waiters = this.#waiters.filter((other) => other !== waiter);
        reject(new BusError("BUFFER_FULL", `${this.#buffered} bytes wait for acknowledgement`));
      }, this.#options.maxBlockMs);
      this.#waiters.push(waiter);
    });
  }

  #wakeWaiters(): void {
    let free = this.#options.bufferBytes - this.#buffered;
    while (this.#waiters[0] !== undefined && (this.#waiters[0].bytes <= free || this.#buffered === 0)) {
      const waiter = this.#waiters.shift();
      free -= waiter?.bytes ?? 0;
      waiter?.wake();
      if (free <= 0) break;
    }
  }
}

/** Takes records from the head of a queue: at least one, then as many as fit. */
function takeBatch(queue: Queue, limit: number): Pending[] {
  let bytes = 0;
  let count = 0;
  for (const pending of queue.pending) {
    if (count === BATCH_RECORDS || (count > 0 && bytes + pending.bytes > limit)) break;
    bytes += pending.bytes;
    count += 1;
  }
  const batch = queue.pending.slice(0, count);
  queue.pending = queue.pending.slice(count);
  queue.bytes -= bytes;
  return batch;
}
