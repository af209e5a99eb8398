import { setTimeout as sleep } from "node:timers/promises";
import type { Consumer, KafkaMessage, Producer } from "kafkajs";
import { kafkajs } from "#runtime/bus/kafka/library.ts";
import { chosenPartition } from "#runtime/bus/kafka/producer.ts";
import { partitionOf } from "#runtime/bus/partitioner.ts";
import { topics } from "#runtime/contracts/topics.ts";
import { OUTCOME_HEADER } from "#runtime/handover/outcome.ts";

// The world outside a deployment: where its messages come from and who waits for its decisions. On the machine that is
// measured, so it takes as little of it as can be: one request a tick, and of a decision only what is asked for is read.

const TICK_MS = 5;
/** One of so many decisions has its latency taken. */
const SAMPLE = 10;
/** About five minutes' worth. */
const MOST_SENT = 60_000;

export interface MarketOptions {
  readonly brokers: readonly string[];
  readonly topic: string;
  readonly partitions: number;
  readonly deployment: string;
  readonly instruments: readonly string[];
  readonly value: Buffer;
  readonly perSecond: number;
}

/** What was sent to a partition in one request. */
interface Sent {
  readonly base: number;
  readonly at: number;
}

const now = () => performance.timeOrigin + performance.now();

/** Sends messages at a rate, and notes how long decisions take and how long instruments are without any. */
export class Market {
  /** Milliseconds from the last decision of one revision, or the first message that waits, to the first of the next. */
  readonly pauses: number[] = [];
  /** Milliseconds from message to decision. */
  readonly latencies: number[] = [];
  readonly #options: MarketOptions;
  readonly #producer: Producer;
  readonly #consumer: Consumer;
  readonly #sent = new Map<number, Sent[]>();
  /** The last decision of each instrument. */
  readonly #last = new Map<string, { readonly revision: string; readonly at: number }>();
  #feed: Promise<void> | undefined;
  #running = true;
  #seen = 0;

  constructor(options: MarketOptions) {
    this.#options = options;
    const kafka = new kafkajs.Kafka({
      brokers: [...options.brokers],
      clientId: "market",
      logLevel: kafkajs.logLevel.NOTHING,
    });
    this.#producer = kafka.producer({ idempotent: true, createPartitioner: chosenPartition });
    this.#consumer = kafka.consumer({ groupId: "market", minBytes: 1, maxWaitTimeInMs: 10 });
  }

  /** Instruments that had a decision. */
  get decided(): number {
    return this.#last.size;
  }

  async start(): Promise<void> {
    await this.#producer.connect();
    await this.#consumer.connect();
    await this.#consumer.subscribe({ topics: [topics.signals(this.#options.deployment)] });
    await this.#consumer.run({
      autoCommit: false,
      partitionsConsumedConcurrently: this.#options.partitions,
      eachBatch: async ({ batch }) => {
        const at = now();
        for (const message of batch.messages) this.#look(message, at);
      },
    });
    this.#feed = this.#send();
  }

  async stop(): Promise<void> {
    this.#running = false;
    await this.#feed;
    await this.#producer.disconnect();
    await this.#consumer.disconnect();
  }

  async #send(): Promise<void> {
    const { topic, instruments, partitions, value, perSecond } = this.#options;
    const messages = instruments.map((key) => ({ key, value, partition: partitionOf(key, partitions) }));
    const started = performance.now();
    for (let sent = 0; this.#running; ) {
      const due = Math.floor(((performance.now() - started) / 1_000) * perSecond);
      const tick = Array.from({ length: due - sent }, (_, i) => messages[(sent + i) % messages.length]);
      sent = due;
      const at = now();
      if (tick.length > 0) {
        void this.#producer
          .send({ topic, messages: tick.filter((message) => message !== undefined) })
          .then((results) => {
            for (const { partition, baseOffset } of results) this.#note(partition, Number(baseOffset), at);
          });
      }
      await sleep(TICK_MS);
    }
  }

  #note(partition: number, base: number, at: number): void {
    const list = this.#sent.get(partition) ?? [];
    this.#sent.set(partition, list);
    list.push({ base, at });
    if (list.length > 2 * MOST_SENT) list.splice(0, MOST_SENT);
  }

  #look({ key, headers = {} }: KafkaMessage, at: number): void {
    const instrument = String(key);
    const revision = String(headers[OUTCOME_HEADER.revision]);
    const before = this.#last.get(instrument);
    const other = before !== undefined && before.revision !== revision;
    this.#seen += 1;
    if (other || this.#seen % SAMPLE === 0) {
      const sentAt = this.#sentAt(String(headers[OUTCOME_HEADER.input]));
      if (sentAt !== undefined) this.latencies.push(at - sentAt);
      // Idle time is no pause: it begins when there was a message to decide on.
      if (other) this.pauses.push(at - Math.max(before.at, sentAt ?? before.at));
    }
    this.#last.set(instrument, { revision, at });
  }

  #sentAt(input: string): number | undefined {
    const [partition = 0, offset = 0] = input.split("/").slice(-2).map(Number);
    return this.#sent.get(partition)?.findLast(({ base }) => base <= offset)?.at;
  }
}
