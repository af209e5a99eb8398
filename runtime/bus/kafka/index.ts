import { randomUUID } from "node:crypto";
import { setTimeout as sleep } from "node:timers/promises";
import { Registry } from "prom-client";
import { BusError } from "../errors.ts";
import { BusMetrics } from "../metrics.ts";
import type {
  Bus,
  Consumer,
  ConsumerOptions,
  Producer,
  ProducerOptions,
  TransactionalOptions,
  TransactionalProducer,
} from "../port.ts";
import { DEFAULTS } from "../port.ts";
import { KafkaAdmin } from "./admin.ts";
import { KafkaConsumer } from "./consumer.ts";
import { type KafkaConfig, Link, RETRY_BRIEFLY } from "./link.ts";
import { KafkaProducer, type PartitionCount } from "./producer.ts";
import { KafkaTransactionalProducer } from "./transactional.ts";

/** A topic's number of partitions may be raised; it is looked up again after this. */
const METADATA_MS = 30_000;
/** A consumer waits for its topics to be made. */
const TOPIC_WAIT_MS = 30_000;
const PING_MS = 2_000;
/** A broker that has not answered for so long is not asked for what can do without. */
const QUIET_MS = 5_000;

/** The bus over a Kafka cluster. */
export class KafkaBus implements Bus {
  readonly #config: KafkaConfig;
  readonly #metrics: BusMetrics;
  readonly #counts = new Map<string, { readonly at: number; readonly count: number }>();
  readonly #lookUps = new Map<string, Promise<number>>();
  readonly #open = new Set<{ close(): Promise<void> }>();
  /** Of what is being opened. */
  readonly #opening = new Set<AbortController>();
  #admin: Promise<KafkaAdmin> | undefined;

  constructor(config: KafkaConfig, registry: Registry = new Registry()) {
    this.#config = config;
    this.#metrics = new BusMetrics(registry);
  }

  async producer(options: ProducerOptions = {}): Promise<Producer> {
    const link = new Link(this.#config);
    return this.#track((signal) =>
      link.opening(() => KafkaProducer.open(link, this.#count, this.#metrics, options), signal),
    );
  }

  async transactionalProducer(
    id: string,
    options: TransactionalOptions = {},
  ): Promise<TransactionalProducer> {
    const link = new Link(this.#config);
    const open = () =>
      KafkaTransactionalProducer.open(link, id, this.#count, this.#metrics, options, () => this.admin());
    return this.#track((ending) => {
      const { signal } = options;
      return link.opening(open, signal === undefined ? ending : AbortSignal.any([ending, signal]));
    });
  }

  async consumer(options: ConsumerOptions): Promise<Consumer> {
    const group = options.group ?? `baton-reader-${randomUUID()}`;
    // kafkajs would end on a topic that somebody is about to make.
    for (const topic of options.topics) await this.#untilTopic(topic);
    const connect = () => new Link(this.#config);
    return this.#track(async (signal) => {
      const consumer = await KafkaConsumer.open(connect, group, options, this.#metrics, signal);
      if (options.group !== undefined) return consumer;
      const close = consumer.close.bind(consumer);
      consumer.close = async () => {
        await close();
        // The broker forgets an empty group by itself, if nobody is there to be asked.
        if (Date.now() - consumer.lastHeard() > QUIET_MS) return;
        await (await this.admin()).deleteGroup(group);
      };
      return consumer;
    });
  }

  admin(): Promise<KafkaAdmin> {
    this.#admin ??= KafkaAdmin.connect(new Link(this.#config, RETRY_BRIEFLY)).catch((error: unknown) => {
      this.#admin = undefined;
      throw error;
    });
    return this.#admin;
  }

  async ping(): Promise<void> {
    const answer = this.admin().then((admin) => admin.topics());
    answer.catch(() => {});
    const timer = new AbortController();
    const late = sleep(PING_MS, undefined, { signal: timer.signal }).then(() => {
      throw new BusError("BROKER_UNAVAILABLE", `no answer in ${PING_MS / 1000} s`);
    });
    await Promise.race([answer, late]).finally(() => timer.abort());
  }

  async close(): Promise<void> {
    for (const opening of this.#opening) opening.abort();
    await Promise.allSettled([...this.#open].map((part) => part.close()));
    const admin = await this.#admin?.catch(() => undefined);
    await admin?.close();
  }

  async #untilTopic(topic: string): Promise<void> {
    const deadline = Date.now() + TOPIC_WAIT_MS;
    for (;;) {
      const topics = await (await this.admin()).topics();
      if (topics.includes(topic)) return;
      if (Date.now() > deadline)
        throw new BusError("UNKNOWN_TOPIC", `${topic}, after waiting ${TOPIC_WAIT_MS / 1000} s`);
      await sleep(200);
    }
  }

  /** Keeps a part for the end, from when it is being opened until it is closed. */
  async #track<T extends { close(): Promise<void> }>(open: (signal: AbortSignal) => Promise<T>): Promise<T> {
    const opening = new AbortController();
    this.#opening.add(opening);
    try {
      const part = await open(opening.signal);
      this.#open.add(part);
      const close = part.close.bind(part);
      part.close = () => close().finally(() => this.#open.delete(part));
      return part;
    } finally {
      this.#opening.delete(opening);
    }
  }

  /** From memory when it is there: an old number is looked up again in the background. */
  readonly #count: PartitionCount = (topic, above = -1) => {
    const known = this.#counts.get(topic);
    if (known === undefined || known.count <= above) return this.#lookUp(topic);
    if (Date.now() - known.at > METADATA_MS) this.#lookUp(topic).catch(() => {});
    return known.count;
  };

  /** One request at a time for a topic. */
  #lookUp(topic: string): Promise<number> {
    let lookUp = this.#lookUps.get(topic);
    if (lookUp === undefined) {
      lookUp = this.#askCount(topic);
      this.#lookUps.set(topic, lookUp);
      // Not before everybody who waits has gone on: a later send must not overtake them.
      const forget = () => setImmediate(() => this.#lookUps.delete(topic));
      lookUp.then((count) => {
        setImmediate(() => this.#counts.set(topic, { at: Date.now(), count }));
        forget();
      }, forget);
    }
    return lookUp;
  }

  async #askCount(topic: string): Promise<number> {
    const deadline = Date.now() + DEFAULTS.maxBlockMs;
    for (;;) {
      try {
        const admin = await this.admin();
        return await admin.partitions(topic);
      } catch (error) {
        const unreachable = error instanceof BusError && error.code === "BROKER_UNAVAILABLE";
        if (!unreachable || Date.now() > deadline) throw error;
        await sleep(200);
      }
    }
  }
}
