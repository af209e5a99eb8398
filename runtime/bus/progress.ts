import type { Behind, TopicPartition } from "./port.ts";

/** What a broker said of a partition when it was asked for records. */
export interface Answered {
  /** Next offset that the consumer has not finished with. */
  readonly next: bigint;
  /** Where readers of committed records get to: no further than the first transaction that is still open. */
  readonly lastStable: bigint;
  /** Offset that the next record written will get. */
  readonly end: bigint;
}

/**
 * An open transaction is waited for no longer than this: none of ours lives longer than a quarter of it. A transaction
 * that nobody ends holds back everything behind it.
 */
const OPEN_TRANSACTION_MS = 60_000;

interface Entry extends TopicPartition {
  /** The latest moment at which nothing waited, or a batch was handled. */
  at: number;
  next: bigint;
  end: bigint;
  /** Since when everything up to an open transaction has been read, and more is behind it. */
  openSince: number | undefined;
  paused: boolean;
}

/** How a consumer keeps up with its partitions: by records, not by whether its client is alive. Times are passed in. */
export class ConsumerProgress {
  readonly #entries = new Map<string, Entry>();
  #heardAt: number;

  constructor(now: number) {
    this.#heardAt = now;
  }

  /** A broker has shown a sign of life. */
  heard(now: number): void {
    this.#heardAt = now;
  }

  lastHeard(): number {
    return this.#heardAt;
  }

  /** What is known of a partition that was not given away is kept: a client that is replaced again and again is no progress. */
  assigned({ topic, partition }: TopicPartition, now: number): void {
    const known = this.#entries.get(`${topic}/${partition}`);
    if (known !== undefined) known.paused = false;
    else {
      const entry = { topic, partition, at: now, next: 0n, end: 0n, openSince: undefined, paused: false };
      this.#entries.set(`${topic}/${partition}`, entry);
    }
  }

  /** Forgets every partition that is not among these. */
  keep(partitions: readonly TopicPartition[]): void {
    const kept = new Set(partitions.map(({ topic, partition }) => `${topic}/${partition}`));
    for (const key of this.#entries.keys()) if (!kept.has(key)) this.#entries.delete(key);
  }

  paused(place: TopicPartition, paused: boolean, now: number): void {
    const entry = this.#of(place);
    if (entry === undefined) return;
    if (entry.paused && !paused) entry.at = now;
    entry.paused = paused;
  }

  /** A handler has done everything below `next`. */
  handled(place: TopicPartition, next: bigint, now: number): void {
    const entry = this.#of(place);
    if (entry === undefined) return;
    entry.at = now;
    entry.next = next;
    if (next > entry.end) entry.end = next;
  }

  /** A broker has answered; it is progress where nothing waits. */
  answered(place: TopicPartition, { next, lastStable, end }: Answered, now: number): void {
    const entry = this.#of(place);
    if (entry === undefined) return;
    entry.next = next;
    entry.end = end;
    // A log that ends before what was read is another one, whose records are not read.
    if (next < lastStable || next > end) {
      entry.openSince = undefined;
      return;
    }
    if (next === end) entry.openSince = undefined;
    else entry.openSince ??= now;
    if (entry.openSince === undefined || now - entry.openSince < OPEN_TRANSACTION_MS) entry.at = now;
  }

  /** The moment of the partition that is furthest back; the latest sign of life where there is none. */
  lastProgress(): number {
    let oldest: number | undefined;
    for (const { at, paused } of this.#entries.values()) {
      if (!paused && (oldest === undefined || at < oldest)) oldest = at;
    }
    return oldest ?? this.#heardAt;
  }

  behind(): readonly Behind[] {
    return [...this.#entries.values()]
      .filter(({ next, end, paused }) => !paused && next !== end)
      .map(({ topic, partition, next, end, at }) => ({ topic, partition, offset: next, end, since: at }));
  }

  #of({ topic, partition }: TopicPartition): Entry | undefined {
    return this.#entries.get(`${topic}/${partition}`);
  }
}

/** A consumer as readiness sees it. */
export interface Progressing {
  lastProgress(): number;
  behind(): readonly Behind[];
}

/** How long records may wait, or Kafka be silent, before a service is not ready. */
const QUIET_MS = 15_000;

/** Throws with what stands still, and where, when there has been no progress for too long. For readiness checks. */
export function checkProgress(consumer: Progressing, now: number): void {
  const quietMs = now - consumer.lastProgress();
  if (quietMs <= QUIET_MS) return;
  const late = consumer.behind().filter(({ since }) => now - since > QUIET_MS);
  if (late.length === 0) throw new Error(`Kafka has not answered for ${quietMs} ms`);
  const places = late
    .slice(0, 3)
    .map(({ topic, partition, offset, end }) => `${topic}/${partition} stands at ${offset} of ${end}`);
  throw new Error(`records wait and none has been handled for ${quietMs} ms: ${places.join(", ")}`);
}
