import { randomUUID } from "node:crypto";
import { setTimeout as sleep } from "node:timers/promises";
import type { Producer as KafkaJsProducer, Transaction } from "kafkajs";
import { Registry } from "prom-client";
import { afterAll, beforeAll, describe, expect, inject, it } from "vitest";
import { exec } from "#clusters/local/toolchain/exec.ts";
import { BusError } from "#runtime/bus/errors.ts";
import { KafkaBus } from "#runtime/bus/kafka/index.ts";
import { readToEnd } from "#runtime/bus/read.ts";
import { seededRandom } from "#runtime/market/random.ts";
import { kafkajs } from "#tests/support/plain-kafkajs.ts";
import { waitFor } from "#tests/support/wait.ts";

// What only the Kafka adapter has.

const brokers = [`127.0.0.1:${inject("cluster").ports.kafka}`];
const registry = new Registry();
const bus = new KafkaBus({ brokers, clientId: "test" }, registry);
const raw = new kafkajs.Kafka({ brokers, logLevel: kafkajs.logLevel.NOTHING });
const topic = `t-${randomUUID()}`;
beforeAll(async () => (await bus.admin()).ensureTopics([{ name: topic, partitions: 2 }]));
afterAll(() => bus.close());

/** What the client library by itself hands out as committed, up to a value. */
async function libraryReads(name: string, last: string): Promise<string[]> {
  const script = `
    // Node warns of the library's timers, among the lines that are read here.
    process.removeAllListeners("warning");
    const { Kafka, logLevel } = require("kafkajs");
    const kafka = new Kafka({ brokers: ${JSON.stringify(brokers)}, logLevel: logLevel.NOTHING });
    const consumer = kafka.consumer({ groupId: "${randomUUID()}" });
    (async () => {
      await consumer.connect();
      await consumer.subscribe({ topics: ["${name}"], fromBeginning: true });
      await consumer.run({ eachMessage: async ({ message }) => {
        console.log(String(message.value));
        if (String(message.value) === "${last}") process.exit(0);
      } });
    })();`;
  const result = await exec(process.execPath, ["-e", script]);
  return [...result.tail];
}

describe("the Kafka bus", () => {
  it.each(["none", "gzip", "snappy", "lz4", "zstd"] as const)("writes and reads %s", async (compression) => {
    const name = `${topic}-${compression}`;
    await (await bus.admin()).ensureTopics([{ name, partitions: 1 }]);
    const producer = await bus.producer({ compression });
    const values = Array.from({ length: 300 }, (_, i) => `${i} ${"same text ".repeat(20)}`);
    await Promise.all(
      values.map((value) => producer.send({ topic: name, partition: 0, value: Buffer.from(value) })),
    );
    await producer.close();
    const read: string[] = [];
    await readToEnd(bus, name, (record) => void read.push(String(record.value)));
    expect(read).toEqual(values);
  });

  describe("of transactions that were aborted", () => {
    /** Interleaved transactions of several producers, as a script of [producer, what it does]. */
    async function run(name: string, script: readonly (readonly [number, "send" | "commit" | "abort"])[]) {
      await (await bus.admin()).ensureTopics([{ name, partitions: 1 }]);
      const producers = await Promise.all(
        [...new Set(script.map(([producer]) => producer))].toSorted().map(async (id) => {
          const producer = raw.producer({
            transactionalId: `${name}-${id}`,
            idempotent: true,
            maxInFlightRequests: 1,
          });
          await producer.connect();
          return producer;
        }),
      );
      const open = new Map<number, { transaction: Transaction; values: string[] }>();
      const sent: string[] = [];
      const committed = new Set<string>();
      for (const [id, step] of script) {
        const producer = producers[id] as KafkaJsProducer;
        const entry = open.get(id) ?? { transaction: await producer.transaction(), values: [] };
        open.set(id, entry);
        if (step === "send") {
          const value = String(sent.length);
          await entry.transaction.send({ topic: name, messages: [{ partition: 0, value }] });
          entry.values.push(value);
          sent.push(value);
          continue;
        }
        await entry.transaction[step]();
        // Transactions end, in the log, in the order in which they are ended here.
        await sleep(50);
        if (step === "commit") for (const value of entry.values) committed.add(value);
        open.delete(id);
      }
      await Promise.all(producers.map((producer) => producer.disconnect()));
      // The last transaction's end reaches readers a moment after its producer.
      const end = BigInt(sent.length + script.filter(([, step]) => step !== "send").length);
      const admin = await bus.admin();
      await waitFor("the end", async () => (await admin.offsets(name)).get(0)?.latest === end);
      const read: string[] = [];
      await readToEnd(bus, name, (record) => void read.push(String(record.value)));
      return { read, expected: sent.filter((value) => committed.has(value)) };
    }

    it("hands out nothing, where the library as it is does", async () => {
      const name = `${topic}-aborted`;
      const { read, expected } = await run(name, [
        [0, "send"],
        [1, "send"],
        [0, "send"],
        [2, "send"],
        [1, "abort"],
        [0, "abort"],
        [2, "commit"],
      ]);
      expect(read).toEqual(expected);
      // The library without our filter, in a process that has only that; the day this fails, ours can go.
      const theirs = await libraryReads(name, expected.at(-1) ?? "");
      expect(theirs.length).toBeGreaterThan(expected.length);
    });

    it("hands out nothing, whatever the order", async () => {
      const random = seededRandom(7);
      const below = (n: number) => Math.floor(random.uniform() * n);
      const script: (readonly [number, "send" | "commit" | "abort"])[] = [];
      for (let i = 0; i < 120; i++) {
        const step = (["send", "send", "abort", "commit"] as const)[below(4)] ?? "send";
        script.push([below(5), step]);
      }
      for (let id = 0; id < 5; id++) script.push([id, id % 2 === 0 ? "abort" : "commit"]);
      // Nothing to end where nothing was sent.
      const begun = new Set<number>();
      const valid = script.filter(([id, step]) => {
        if (step === "send") begun.add(id);
        return step === "send" || begun.delete(id);
      });
      const { read, expected } = await run(`${topic}-random`, valid);
      expect(expected.length).toBeGreaterThan(5);
      expect(read).toEqual(expected);
    });
  });

  it("knows at once when a topic has got more partitions", async () => {
    const name = `${topic}-grown`;
    const admin = await bus.admin();
    await admin.ensureTopics([{ name, partitions: 1 }]);
    expect((await admin.offsets(name)).size).toBe(1);
    const before = await bus.producer();
    await before.send({ topic: name, partition: 0, value: Buffer.from("a") });
    const producer = await bus.transactionalProducer(`${name}-tx`);
    await producer.commit({ records: [{ topic: name, partition: 0, value: Buffer.from("b") }] });
    const client = raw.admin();
    await client.connect();
    await client.createPartitions({ topicPartitions: [{ topic: name, count: 3 }] });
    await client.disconnect();
    await waitFor("3 partitions", async () => (await admin.partitions(name)) === 3);
    const offsets = await Promise.all([1, 2, 3].map(() => admin.offsets(name)));
    expect(offsets.map(({ size }) => size)).toEqual([3, 3, 3]);
    // The client library knows the topic as it was; what it does not know it would drop and call sent.
    expect(await before.send({ topic: name, partition: 1, value: Buffer.from("c") })).toMatchObject({
      offset: 0n,
    });
    await producer.commit({ records: [{ topic: name, partition: 2, value: Buffer.from("d") }] });
    const values: string[] = [];
    await waitFor("what was sent", async () => {
      values.length = 0;
      await readToEnd(bus, name, (record) => void values.push(String(record.value)));
      return values.length === 4;
    });
    const positions = [{ topic: name, partition: 2, offset: 7n }];
    await producer.commit({ records: [], offsets: { group: `${name}-g`, positions } });
    expect((await admin.committed(`${name}-g`, name)).get(2)).toBe(7n);
  });

  it("makes topics that keep records for 7 days", async () => {
    const admin = raw.admin();
    await admin.connect();
    const { resources } = await admin.describeConfigs({
      includeSynonyms: false,
      resources: [{ type: kafkajs.ConfigResourceTypes.TOPIC, name: topic, configNames: ["retention.ms"] }],
    });
    await admin.disconnect();
    expect(resources[0]?.configEntries[0]?.configValue).toBe(String(7 * 24 * 3600 * 1000));
  });

  it("counts what it sends and receives, and how far behind it is", async () => {
    const producer = await bus.producer();
    for (let i = 0; i < 10; i++) await producer.send({ topic, partition: 0, value: Buffer.from("x") });
    const group = `g-${randomUUID()}`;
    let seen = 0;
    const consumer = await bus.consumer({
      group,
      topics: [topic],
      from: "earliest",
      onFatal: () => {},
      onBatch: async (batch) => {
        seen += batch.records.length;
      },
    });
    await waitFor("10 records", () => seen === 10);
    const text = await waitFor("the metrics", async () => {
      const metrics = await registry.metrics();
      return metrics.includes(`baton_bus_received_records_total{topic="${topic}",group="${group}"} 10`)
        ? metrics
        : undefined;
    });
    expect(text).toContain(`baton_bus_sent_records_total{topic="${topic}"} 10`);
    expect(text).toContain(`baton_bus_lag_records{topic="${topic}",partition="0",group="${group}"} 0`);
    expect(text).toContain("baton_bus_buffered_bytes 0");
    expect(text).toMatch(new RegExp(`baton_bus_send_seconds_count{topic="${topic}"} 10`));
    expect(Date.now() - consumer.lastProgress()).toBeLessThan(5_000);
  });

  it("says BROKER_UNAVAILABLE where nobody listens, within seconds", async () => {
    const nowhere = new KafkaBus({ brokers: ["127.0.0.1:1"], clientId: "test" });
    const started = Date.now();
    const error = await nowhere.ping().catch((reason: unknown) => reason);
    expect(error).toBeInstanceOf(BusError);
    expect(error).toMatchObject({ code: "BROKER_UNAVAILABLE" });
    expect(Date.now() - started).toBeLessThan(15_000);
    await nowhere.close();
  });
});
