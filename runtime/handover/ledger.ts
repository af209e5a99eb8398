import { BusError } from "#runtime/bus/errors.ts";
import type { Batch, Behind, Bus, Consumer, InRecord, OutRecord } from "#runtime/bus/port.ts";
import { DecodeError, decode, encode, SCHEMA_HEADER } from "#runtime/contracts/contract.ts";
import { Halt, Ledger } from "#runtime/contracts/ledger.ts";
import { topics } from "#runtime/contracts/topics.ts";
import { HandoverError } from "./errors.ts";
import { supersedes } from "./halt-order.ts";
import { applyLedger, EMPTY_LEDGER, type LedgerState, placeKey } from "./rules.ts";

/** A ledger record as it is written. Records that only the latest of counts share a key and are compacted. */
export function ledgerRecord(deployment: string, record: Ledger): OutRecord {
  return {
    topic: topics.ledger(deployment),
    partition: 0,
    key: keyOf(record),
    value: encode(Ledger, record),
    headers: { [SCHEMA_HEADER]: Ledger.id },
  };
}

function keyOf(record: Ledger): string {
  switch (record.type) {
    case "request":
    case "completed":
      return `${record.type}/${record.epoch}`;
    case "conducting":
      return "conducting";
    case "joined":
    case "started":
    case "reached":
      return `${record.type}/${record.revision}/${placeKey(record)}`;
    case "released":
    case "filled":
    case "taken":
      return `${record.type}/${record.epoch}/${record.revision}/${placeKey(record)}`;
  }
}

/** A halt record as it is written. */
export function haltRecord(deployment: string, halt: Halt): OutRecord {
  return {
    topic: topics.control(deployment),
    partition: 0,
    key: "halt",
    value: encode(Halt, halt),
    headers: { [SCHEMA_HEADER]: Halt.id },
  };
}

/** Makes the topics of a deployment that do not exist. Output topics get as many partitions as are asked for. */
export async function ensureDeploymentTopics(
  bus: Bus,
  deployment: string,
  shape: { readonly partitions: number; readonly replicas: number },
): Promise<void> {
  const { partitions, replicas } = shape;
  // Every reader reads all of it: the segment that is written, which is not compacted, stays small.
  const log = {
    replicas,
    config: { "cleanup.policy": "compact", "segment.bytes": String(16 * 1024 * 1024) },
  };
  // Outcomes are looked for by their writer's clock.
  const outcomes = { replicas, config: { "message.timestamp.type": "CreateTime" } };
  await (await bus.admin()).ensureTopics([
    { name: topics.signals(deployment), partitions, ...outcomes },
    { name: topics.shadow(deployment), partitions, ...outcomes },
    { name: topics.deadLetters(deployment), partitions: 1, ...outcomes },
    { name: topics.ledger(deployment), partitions: 1, ...log },
    { name: topics.control(deployment), partitions: 1, ...log },
  ]);
}

/** Reads a ledger record. Throws HandoverError BAD_LEDGER: going on without it would be guessing who decides. */
export function parseLedger(record: InRecord): Ledger {
  try {
    return decode(Ledger, record.value, record.headers[SCHEMA_HEADER]);
  } catch (error) {
    if (!(error instanceof DecodeError)) throw error;
    throw new HandoverError("BAD_LEDGER", `offset ${record.offset}: ${error.message}`, { cause: error });
  }
}

/** How often a follower looks whether its ledger is still the one that it has read. */
const WATCH_MS = 2_000;

export interface FollowerOptions {
  readonly bus: Bus;
  readonly deployment: string;
  readonly onFatal: (error: Error) => void;
  /** Called with each ledger record when it has been applied. */
  readonly onRecord?: (record: Ledger, at: { readonly offset: bigint; readonly timestamp: number }) => void;
}

/** Follows a deployment's ledger and its kill switch from the beginning, without a group. */
export class LedgerFollower {
  readonly #options: FollowerOptions;
  readonly #listeners = new Set<() => void>();
  #consumer: Consumer | undefined;
  #state: LedgerState = EMPTY_LEDGER;
  #halt: Halt | undefined;
  #closed = false;
  #watch: NodeJS.Timeout | undefined;

  constructor(options: FollowerOptions) {
    this.#options = options;
  }

  async start(): Promise<void> {
    const { bus, deployment } = this.#options;
    const consumer = await bus.consumer({
      topics: [topics.ledger(deployment), topics.control(deployment)],
      from: "earliest",
      // A record of the ledger is waited for: it is handed out as soon as it is there.
      minBytes: 1,
      maxWaitMs: 250,
      onFatal: this.#options.onFatal,
      onBatch: async (batch) => this.#apply(batch),
    });
    this.#consumer = consumer;
    if (!this.#closed) return this.#lookAgain();
    await consumer.close();
    throw new HandoverError("CLOSED", "ledger follower");
  }

  get state(): LedgerState {
    return this.#state;
  }

  /** The kill switch as Kafka has it; undefined when it was never used. */
  get halt(): Halt | undefined {
    return this.#halt;
  }

  /** As of its consumer; 0 before it reads. */
  lastProgress(): number {
    return this.#consumer?.lastProgress() ?? 0;
  }

  behind(): readonly Behind[] {
    return this.#consumer?.behind() ?? [];
  }

  /** Calls back after every change; returns what ends that. */
  onChange(listener: () => void): () => void {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  /**
   * Resolves when the state is as described. Rejects with BusError REBALANCED when the signal is given or the
   * follower is closed.
   */
  until(check: (state: LedgerState) => boolean, signal?: AbortSignal): Promise<void> {
    return new Promise((resolve, reject) => {
      const look = () => {
        const over = this.#closed || signal?.aborted === true;
        if (!over && !check(this.#state)) return;
        stop();
        signal?.removeEventListener("abort", look);
        if (over) reject(new BusError("REBALANCED", "stopped waiting for the ledger"));
        else resolve();
      };
      const stop = this.onChange(look);
      signal?.addEventListener("abort", look);
      look();
    });
  }

  /** Reads to the present end of what is committed. For those who only look. */
  async untilEnd(): Promise<void> {
    const { bus, deployment } = this.#options;
    const admin = await bus.admin();
    for (const topic of [topics.ledger(deployment), topics.control(deployment)]) {
      const end = (await admin.offsets(topic)).get(0)?.latest ?? 0n;
      while (end > 0n && (this.#consumer?.position({ topic, partition: 0 }) ?? -1n) < end) {
        if (this.#closed) throw new HandoverError("CLOSED", "ledger follower");
        await new Promise((resolve) => setTimeout(resolve, 10));
      }
    }
  }

  /** One look at a time: an answer may take as long as Kafka is away. */
  #lookAgain(): void {
    const look = async () => {
      const lost = await this.#lost().catch(() => undefined);
      if (this.#closed) return;
      if (lost === undefined) this.#lookAgain();
      else this.#options.onFatal(lost);
    };
    this.#watch = setTimeout(() => void look(), WATCH_MS);
    this.#watch.unref();
  }

  /**
   * A ledger that ends before what was read is another one: somebody has deleted it. What is known of the old one stays true
   * as long as nobody writes to the new one, whose first records this reader would pass over.
   */
  async #lost(): Promise<HandoverError | undefined> {
    const { bus, deployment } = this.#options;
    const topic = topics.ledger(deployment);
    // In this order: an end only grows.
    const read = this.#consumer?.position({ topic, partition: 0 }) ?? 0n;
    const end = (await (await bus.admin()).offsets(topic)).get(0)?.latest;
    if (end === undefined || end >= read) return undefined;
    return new HandoverError("LEDGER_LOST", `it ends at ${end}, and was read to ${read}`);
  }

  async close(): Promise<void> {
    this.#closed = true;
    clearTimeout(this.#watch);
    this.#notify();
    await this.#consumer?.close();
  }

  #apply(batch: Batch): void {
    for (const record of batch.records) {
      if (batch.topic === topics.control(this.#options.deployment)) this.#applyHalt(record);
      else {
        const entry = parseLedger(record);
        this.#state = applyLedger(this.#state, entry);
        this.#options.onRecord?.(entry, record);
      }
      // After each: what somebody waits for may be over with the next record of the same batch.
      this.#notify();
    }
  }

  #applyHalt(record: InRecord): void {
    let halt: Halt;
    try {
      halt = decode(Halt, record.value, record.headers[SCHEMA_HEADER]);
    } catch (error) {
      if (!(error instanceof DecodeError)) throw error;
      throw new HandoverError("BAD_LEDGER", `halt at offset ${record.offset}: ${error.message}`);
    }
    if (supersedes(halt, this.#halt, Date.now())) this.#halt = halt;
  }

  #notify(): void {
    for (const listener of this.#listeners) listener();
  }
}
