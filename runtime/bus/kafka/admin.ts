import { setTimeout as sleep } from "node:timers/promises";
import type { Admin as KafkaJsAdmin } from "kafkajs";
import { BusError } from "../errors.ts";
import { type Admin, type Committed, DEFAULTS, type TopicSpec } from "../port.ts";
import { busError } from "./client.ts";
import { withCluster } from "./cluster.ts";
import type { Link } from "./link.ts";

const RETRY_MS = 10_000;

/** Administrative requests; each fails after about ten seconds without a broker. */
export class KafkaAdmin implements Admin {
  readonly #link: Link;
  #client: KafkaJsAdmin;
  #replacing: Promise<void> | undefined;

  static async connect(link: Link): Promise<KafkaAdmin> {
    const admin = new KafkaAdmin(link, link.kafka.admin());
    await admin.#try(() => admin.#client.connect());
    return admin;
  }

  private constructor(link: Link, client: KafkaJsAdmin) {
    this.#link = link;
    this.#client = client;
  }

  async ensureTopics(topics: readonly TopicSpec[]): Promise<void> {
    await this.#try(async () => {
      const existing = new Set(await this.#client.listTopics());
      const missing = topics.filter((topic) => !existing.has(topic.name));
      if (missing.length === 0) return;
      await this.#client
        .createTopics({
          waitForLeaders: false,
          topics: missing.map((topic) => ({
            topic: topic.name,
            numPartitions: topic.partitions,
            replicationFactor: topic.replicas ?? 1,
            configEntries: Object.entries({
              "retention.ms": String(topic.retentionMs ?? DEFAULTS.retentionMs),
              ...topic.config,
            }).map(([name, value]) => ({ name, value })),
          })),
        })
        .catch((error: unknown) => {
          // Somebody else was quicker.
          if (!isAlreadyThere(error)) throw error;
        });
      await this.#untilLed(missing.map((topic) => topic.name));
    });
  }

  /** Not kafkajs's own wait: it ends on a broker that has not heard of the topic yet. */
  async #untilLed(topics: readonly string[]): Promise<void> {
    const deadline = Date.now() + RETRY_MS;
    for (;;) {
      const led = await this.#client.fetchTopicMetadata({ topics: [...topics] }).then(
        (found) =>
          found.topics.every((topic) => topic.partitions.every((partition) => partition.leader >= 0)),
        (error: unknown) => {
          if (Date.now() > deadline) throw error;
          return false;
        },
      );
      if (led) return;
      await sleep(50);
    }
  }

  topics(): Promise<readonly string[]> {
    return this.#try(() => this.#client.listTopics());
  }

  async partitions(topic: string): Promise<number> {
    const { topics } = await this.#try(() => this.#client.fetchTopicMetadata({ topics: [topic] }));
    const found = topics.find((entry) => entry.name === topic);
    if (found === undefined) throw new BusError("UNKNOWN_TOPIC", topic);
    return found.partitions.length;
  }

  async offsets(topic: string): Promise<ReadonlyMap<number, { earliest: bigint; latest: bigint }>> {
    const entries = await this.#ofEvery(topic, (client) => client.fetchTopicOffsets(topic));
    return new Map(
      entries.map((entry) => [entry.partition, { earliest: BigInt(entry.low), latest: BigInt(entry.high) }]),
    );
  }

  async ends(topic: string): Promise<ReadonlyMap<number, bigint>> {
    const found = await this.#ofEvery(topic, (_client, count) =>
      withCluster(this.#link.kafka, [topic], async (cluster) => {
        const partitions = Array.from({ length: count }, (_, partition) => ({ partition }));
        const [entry] = await cluster.fetchTopicsOffset([{ topic, fromBeginning: false, partitions }]);
        return [...(entry?.partitions ?? [])];
      }),
    );
    return new Map(found.map(({ partition, offset }) => [partition, BigInt(offset)]));
  }

  async offsetsAt(topic: string, timestampMs: number): Promise<ReadonlyMap<number, bigint>> {
    const entries = await this.#ofEvery(topic, (client) =>
      client.fetchTopicOffsetsByTimestamp(topic, timestampMs),
    );
    return new Map(entries.map((entry) => [entry.partition, BigInt(entry.offset)]));
  }

  async committed(group: string, topic: string): Promise<ReadonlyMap<number, bigint>> {
    const found = await this.positions(group, topic);
    return new Map([...found].map(([partition, { offset }]) => [partition, offset]));
  }

  async positions(group: string, topic: string): Promise<ReadonlyMap<number, Committed>> {
    const entries = await this.#ofEvery(topic, async (client) => {
      const found = await client.fetchOffsets({ groupId: group, topics: [topic] });
      return found.flatMap(({ partitions }) => partitions);
    });
    const committed = new Map<number, Committed>();
    for (const { partition, offset, metadata } of entries) {
      if (BigInt(offset) >= 0n)
        committed.set(partition, { offset: BigInt(offset), metadata: metadata ?? "" });
    }
    return committed;
  }

  async deleteTopics(topics: readonly string[]): Promise<void> {
    await this.#try(() => this.#client.deleteTopics({ topics: [...topics] }));
  }

  async deleteGroup(group: string): Promise<void> {
    await this.#client.deleteGroups([group]).catch(() => {
      // The broker forgets an empty group by itself.
    });
  }

  async close(): Promise<void> {
    await this.#link.end(this.#client.disconnect());
  }

  /**
   * kafkajs answers for the partitions that it knew up to five minutes ago, others are left out without a word; where it
   * knew none, as of a topic that has just been made, it trips. Where one is missing a new client asks.
   */
  async #ofEvery<T>(
    topic: string,
    request: (client: KafkaJsAdmin, count: number) => Promise<T[]>,
  ): Promise<T[]> {
    const count = await this.partitions(topic);
    const deadline = Date.now() + RETRY_MS;
    for (;;) {
      const client = this.#client;
      const entries = await this.#try(() => request(client, count)).catch((error: unknown) => {
        if (error instanceof BusError && error.cause instanceof TypeError) return [];
        throw error;
      });
      if (entries.length >= count) return entries;
      if (Date.now() > deadline) {
        throw new BusError("ADMIN_FAILED", `${topic}: ${entries.length} of ${count} partitions answered`);
      }
      await this.#replace(client);
      await sleep(250);
    }
  }

  /** Replaces a client, once for all who ask for that. */
  async #replace(old: KafkaJsAdmin): Promise<void> {
    if (this.#client !== old) return;
    this.#replacing ??= this.#try(async () => {
      const client = this.#link.kafka.admin();
      await client.connect();
      this.#client = client;
      // Others may be in the middle of a request.
      setTimeout(() => void old.disconnect().catch(() => {}), RETRY_MS).unref();
    }).finally(() => {
      this.#replacing = undefined;
    });
    await this.#replacing;
  }

  /**
   * kafkajs leaves some of its own retriable errors to the caller, such as a group's coordinator that moves, or a connection that
   * is lost while it begins.
   */
  async #try<T>(request: () => Promise<T>): Promise<T> {
    const deadline = Date.now() + RETRY_MS;
    for (;;) {
      try {
        return await request();
      } catch (error) {
        const wrapped = busError(error, "ADMIN_FAILED");
        const again =
          (wrapped.code === "ADMIN_FAILED" || wrapped.code === "BROKER_UNAVAILABLE") &&
          error instanceof Error &&
          "retriable" in error &&
          error.retriable;
        if (!again || Date.now() > deadline) throw wrapped;
        await sleep(100);
      }
    }
  }
}

function isAlreadyThere(error: unknown): boolean {
  const parts: unknown[] = error instanceof AggregateError ? error.errors : [error];
  const nested =
    error instanceof Error && "errors" in error && Array.isArray(error.errors) ? error.errors : parts;
  return nested.every(
    (part: unknown) => part instanceof Error && "type" in part && part.type === "TOPIC_ALREADY_EXISTS",
  );
}
