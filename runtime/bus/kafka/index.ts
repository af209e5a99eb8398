import { randomUUID } from "node:crypto";
import { setTimeout as sleep } from "node:timers/promises";
import type { Kafka } from "kafkajs";
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
import { busError, createKafka, type KafkaConfig, RETRY_BRIEFLY } from "./client.ts";
import { KafkaConsumer } from "./consumer.ts";
import { KafkaProducer, type PartitionCount } from "./producer.ts";
import { KafkaTransactionalProducer } from "./transactional.ts";

/** A topic's number of partitions may be raised; it is looked up again after this. */
const METADATA_MS = 30_000;
/** A consumer waits for its topics to be made. */
const TOPIC_WAIT_MS = 30_000;
const PING_MS = 2_000;

/** The bus over a Kafka cluster. */
export class KafkaBus implements Bus {
  readonly #kafka: Kafka;
  /** Its connections are given up after some seconds; those of producers and consumers never. */
  readonly #adminKafka: Kafka;
  readonly #metrics: BusMetrics;
  readonly #counts = new Map<string, { readonly at: number; readonly count: number }>();
  readonly #lookUps = new Map<string, Promise<number>>();
  readonly #open = new Set<{ close(): Promise<void> }>();
  #admin: Promise<KafkaAdmin> | undefined;

  constructor(config: KafkaConfig, registry: Registry = new Registry()) {
    this.#kafka = createKafka(config);
    this.#adminKafka = createKafka(config, RETRY_BRIEFLY);
    this.#metrics = new BusMetrics(registry);
  }

  async producer(options: ProducerOptions = {}): Promise<Producer> {
    const count: PartitionCount = (topic, above) => this.#count(topic, above);
    return this.#track(await KafkaProducer.open(this.#kafka, count, this.#metrics, options));
  }

  async transactionalProducer(
    id: string,
    options: TransactionalOptions = {},
  ): Promise<TransactionalProducer> {
    const count: PartitionCount = (topic, above) => this.#count(topic, above);
    return this.#track(
      await KafkaTransactionalProducer.open(this.#kafka, id, count, this.#metrics, options, () =>
        this.admin(),
      ),
    );
  }

  async consumer(options: ConsumerOptions): Promise<Consumer> {
    const group = options.group ?? `baton-reader-${randomUUID()}`;
    // kafkajs would end on a topic that somebody is about to make.
    for (const topic of options.topics) await this.#untilTopic(topic);
    const consumer = await KafkaConsumer.open(this.#kafka, group, options, this.#metrics);
    if (options.group !== undefined) return this.#track(consumer);
    const close = consumer.close.bind(consumer);
    consumer.close = async () => {
      await close();
      await (await this.admin()).deleteGroup(group);
    };
    return this.#track(consumer);
  }

  admin(): Promise<KafkaAdmin> {
    this.#admin ??= KafkaAdmin.connect(() => this.#adminKafka.admin({ retry: RETRY_BRIEFLY })).catch(
      (error: unknown) => {
        this.#admin = undefined;
        throw busError(error, "ADMIN_FAILED");
      },
    );
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

  #track<T extends { close(): Promise<void> }>(part: T): T {
    this.#open.add(part);
    return part;
  }

  /** From memory when it is there: an old number is looked up again in the background. */
  #count(topic: string, above = -1): number | Promise<number> {
    const known = this.#counts.get(topic);
    if (known === undefined || known.count <= above) return this.#lookUp(topic);
    if (Date.now() - known.at > METADATA_MS) this.#lookUp(topic).catch(() => {});
    return known.count;
  }

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
