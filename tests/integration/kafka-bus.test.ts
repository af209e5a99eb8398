import { randomUUID } from "node:crypto";
import kafkajs from "kafkajs";
import { Registry } from "prom-client";
import { afterAll, beforeAll, describe, expect, inject, it } from "vitest";
import { BusError } from "#runtime/bus/errors.ts";
import { KafkaBus } from "#runtime/bus/kafka/index.ts";
import { readToEnd } from "#runtime/bus/read.ts";
import { waitFor } from "#tests/support/wait.ts";

// What only the Kafka adapter has.

const brokers = [`127.0.0.1:${inject("cluster").ports.kafka}`];
const registry = new Registry();
const bus = new KafkaBus({ brokers, clientId: "test" }, registry);
const raw = new kafkajs.Kafka({ brokers, logLevel: kafkajs.logLevel.NOTHING });
const topic = `t-${randomUUID()}`;
beforeAll(async () => (await bus.admin()).ensureTopics([{ name: topic, partitions: 2 }]));
afterAll(() => bus.close());

describe("the Kafka bus", () => {
  it.each(["none", "gzip", "snappy", "zstd"] as const)("writes and reads %s", async (compression) => {
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
