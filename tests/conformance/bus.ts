import { randomUUID } from "node:crypto";
import { setTimeout as sleep } from "node:timers/promises";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { BusError } from "#runtime/bus/errors.ts";
import {
  type Admin,
  type Bus,
  type ConsumerOptions,
  DEFAULTS,
  type InRecord,
  type OutRecord,
  type TopicPartition,
} from "#runtime/bus/port.ts";
import { waitFor } from "#tests/support/wait.ts";

/**
 * What every adapter of the bus port must do. `open` returns a new connection to the same broker, as another
 * process would have it.
 */
export function busConformance(name: string, open: () => Bus): void {
  describe(`bus conformance: ${name}`, () => {
    let bus: Bus;
    let admin: Admin;
    let topic: string;
    const others: Bus[] = [];

    beforeEach(async () => {
      bus = open();
      admin = await bus.admin();
      topic = `t-${randomUUID()}`;
      await admin.ensureTopics([{ name: topic, partitions: 3 }]);
    });

    afterEach(async () => {
      await Promise.all([bus, ...others.splice(0)].map((entry) => entry.close()));
    });

    const another = () => {
      const other = open();
      others.push(other);
      return other;
    };

    const record = (value: string, extra: Partial<OutRecord> = {}): OutRecord => ({
      topic,
      value: Buffer.from(value),
      ...extra,
    });

    /** Reads with a handler that collects; the consumer is closed with its bus. */
    async function collect(options: Partial<ConsumerOptions> = {}, on: Bus = bus) {
      const records: InRecord[] = [];
      const fatal: Error[] = [];
      const consumer = await on.consumer({
        topics: [topic],
        from: "earliest",
        onBatch: async (batch) => {
          records.push(...batch.records);
        },
        onFatal: (error) => fatal.push(error),
        ...options,
      });
      const values = () => records.map((entry) => entry.value?.toString("utf8") ?? null);
      return { consumer, records, fatal, values };
    }

    it("gives back key, value, headers, timestamp and offsets as they were sent", async () => {
      const producer = await bus.producer();
      const headers = { traceparent: "00-1-2-01", empty: "", utf8: "µ✓" };
      const first = await producer.send(
        record("a", { key: "k", headers, timestamp: 1_700_000_000_123, partition: 1 }),
      );
      const second = await producer.send({ topic, value: null, key: "k", partition: 1 });
      expect([first.partition, first.offset, second.offset]).toEqual([1, 0n, 1n]);
      const { records } = await collect();
      await waitFor("2 records", () => records.length === 2);
      expect(records[0]).toMatchObject({
        topic,
        partition: 1,
        offset: 0n,
        key: "k",
        headers,
        timestamp: 1_700_000_000_123,
      });
      expect(records[0]?.value?.toString()).toBe("a");
      expect(records[1]).toMatchObject({ offset: 1n, value: null });
    });

    it("keeps the order of sends within a partition, also when they are not awaited", async () => {
      const producer = await bus.producer({ lingerMs: 1, batchBytes: 2_000 });
      const sends = Array.from({ length: 500 }, (_, i) =>
        producer.send(record(String(i), { key: `k${i % 7}` })),
      );
      const places = await Promise.all(sends);
      const { records } = await collect();
      await waitFor("500 records", () => records.length === 500);
      for (let partition = 0; partition < 3; partition++) {
        const read = records
          .filter((entry) => entry.partition === partition)
          .map((entry) => Number(entry.value));
        expect(read).toEqual(read.toSorted((a, b) => a - b));
      }
      const seen = new Map(records.map((entry) => [Number(entry.value), entry]));
      for (const [i, place] of places.entries()) {
        expect(seen.get(i)).toMatchObject({ partition: place.partition, offset: place.offset });
      }
    });

    it("puts equal keys on the partition that Kafka's own clients choose", async () => {
      const producer = await bus.producer();
      // From org.apache.kafka.common.utils.Utils.toPositive(murmur2(key)) % 3.
      const expected = { BTCUSDT: 2, ETHUSDT: 2, SOLUSDT: 0, "": 0 };
      for (const [key, partition] of Object.entries(expected)) {
        const place = await producer.send(record("x", { key }));
        expect([key, place.partition]).toEqual([key, partition]);
      }
    });

    it("refuses a value over the limit and goes on", async () => {
      const producer = await bus.producer();
      const big = producer.send(record("x".repeat(DEFAULTS.maxRecordBytes + 1)));
      await expect(big).rejects.toMatchObject({ name: "BusError", code: "TOO_LARGE" });
      await expect(producer.send(record("x".repeat(DEFAULTS.maxRecordBytes)))).resolves.toMatchObject({
        topic,
      });
    });

    it("names an unknown topic", async () => {
      const producer = await bus.producer();
      await expect(producer.send({ topic: "no-such-topic", value: null, key: "a" })).rejects.toMatchObject({
        code: "UNKNOWN_TOPIC",
      });
    });

    it("refuses to send after close", async () => {
      const producer = await bus.producer();
      await producer.close();
      await expect(producer.send(record("x"))).rejects.toMatchObject({ code: "CLOSED" });
    });

    it("continues a group at its committed offset", async () => {
      const group = `g-${randomUUID()}`;
      const producer = await bus.producer();
      for (const value of ["a", "b", "c"]) await producer.send(record(value, { partition: 0 }));
      const first = await collect({ group });
      await waitFor("3 records", () => first.records.length === 3);
      await first.consumer.commit([{ topic, partition: 0, offset: 2n }]);
      await first.consumer.close();
      expect(await admin.committed(group, topic)).toEqual(new Map([[0, 2n]]));
      const second = await collect({ group });
      await waitFor("1 record", () => second.records.length === 1);
      expect(second.values()).toEqual(["c"]);
    });

    it("reads from the latest offset when asked and nothing is committed", async () => {
      const producer = await bus.producer();
      await producer.send(record("old", { partition: 0 }));
      const { values, consumer } = await collect({ from: "latest" });
      await waitFor("assignment", () => consumer.assignment().length === 3);
      await waitFor("the new record", async () => {
        await producer.send(record("new", { partition: 0 }));
        return values().length > 0;
      });
      expect(values()).not.toContain("old");
    });

    it("seeks, pauses and resumes a partition", async () => {
      const producer = await bus.producer();
      for (const value of ["a", "b", "c"]) await producer.send(record(value, { partition: 0 }));
      const { consumer, records, values } = await collect();
      await waitFor("3 records", () => records.length === 3);
      consumer.seek({ topic, partition: 0, offset: 1n });
      await waitFor("re-reading", () => records.length === 5);
      expect(values()).toEqual(["a", "b", "c", "b", "c"]);
      consumer.pause([{ topic, partition: 0 }]);
      await sleep(150);
      await producer.send(record("d", { partition: 0 }));
      await producer.send(record("other", { partition: 1 }));
      await waitFor("the other partition", () => values().includes("other"));
      expect(values()).not.toContain("d");
      consumer.resume([{ topic, partition: 0 }]);
      await waitFor("the paused partition", () => values().includes("d"));
    });

    it("never runs two handlers of a partition at once, and runs partitions side by side", async () => {
      const producer = await bus.producer();
      const running = new Map<number, number>();
      let overlap = 0;
      let together = 0;
      const { records } = await collect({
        onBatch: async (batch) => {
          running.set(batch.partition, (running.get(batch.partition) ?? 0) + 1);
          if ((running.get(batch.partition) ?? 0) > 1) overlap += 1;
          together = Math.max(together, [...running.values()].filter((count) => count > 0).length);
          await sleep(60);
          running.set(batch.partition, (running.get(batch.partition) ?? 1) - 1);
          records.push(...batch.records);
        },
      });
      for (let i = 0; i < 30; i++) {
        await producer.send(record(String(i), { partition: i % 3 }));
        await sleep(5);
      }
      await waitFor("30 records", () => records.length === 30);
      expect(overlap).toBe(0);
      expect(together).toBeGreaterThan(1);
    });

    it("waits for onAssigned and starts where it says", async () => {
      const producer = await bus.producer();
      for (const value of ["a", "b", "c"]) await producer.send(record(value, { partition: 2 }));
      const asked: TopicPartition[] = [];
      let done = false;
      const { values } = await collect({
        group: `g-${randomUUID()}`,
        onAssigned: async (partition) => {
          asked.push(partition);
          await sleep(100);
          done = true;
          return partition.partition === 2 ? 1n : undefined;
        },
        onBatch: async (batch) => {
          expect(done).toBe(true);
          seen.push(...batch.records.map((entry) => String(entry.value)));
        },
      });
      const seen: string[] = [];
      await waitFor("2 records", () => seen.length >= 2);
      await sleep(200);
      expect(seen).toEqual(["b", "c"]);
      expect(asked.map((entry) => entry.partition).toSorted()).toEqual([0, 1, 2]);
      expect(values()).toEqual([]);
    });

    it("ends with HANDLER_FAILED when a handler rejects, and the record is read again by the next", async () => {
      const group = `g-${randomUUID()}`;
      const producer = await bus.producer();
      await producer.send(record("a", { partition: 0 }));
      const { fatal } = await collect({
        group,
        onBatch: async () => {
          throw new Error("no");
        },
      });
      await waitFor("the end", () => fatal.length === 1);
      expect(fatal[0]).toMatchObject({ code: "HANDLER_FAILED" });
      const next = await collect({ group });
      await waitFor("the record", () => next.values().includes("a"));
    });

    it("shares partitions among the members of a group and hands them over when one leaves", async () => {
      const group = `g-${randomUUID()}`;
      const revoked: number[] = [];
      const first = await collect({ group, onRevoked: ({ partition }) => revoked.push(partition) });
      const second = await collect({ group }, another());
      await waitFor("a share for both", () => {
        const counts = [first.consumer.assignment().length, second.consumer.assignment().length];
        return counts[0] !== 0 && counts[1] !== 0 && (counts[0] ?? 0) + (counts[1] ?? 0) === 3;
      });
      expect(revoked.length).toBeGreaterThan(0);
      await first.consumer.close();
      await waitFor("all at the second", () => second.consumer.assignment().length === 3);
      const producer = await bus.producer();
      for (let partition = 0; partition < 3; partition++)
        await producer.send(record(`p${partition}`, { partition }));
      await waitFor("3 records", () => second.records.length === 3);
    });

    it("commits records and offsets of a transaction together, over several partitions and topics", async () => {
      const group = `g-${randomUUID()}`;
      const other = `${topic}-out`;
      await admin.ensureTopics([{ name: other, partitions: 2 }]);
      const producer = await bus.transactionalProducer(`tx-${randomUUID()}`);
      for (let i = 0; i < 3; i++) {
        await producer.commit({
          records: [
            record(`a${i}`, { partition: 0 }),
            record(`b${i}`, { partition: 1 }),
            { ...record(`c${i}`), topic: other, partition: 1 },
          ],
          offsets: { group, positions: [{ topic, partition: 2, offset: BigInt(i + 1) }] },
        });
      }
      const { values } = await collect({ topics: [topic, other] });
      await waitFor("9 records", () => values().length === 9);
      expect(values().filter((value) => value?.startsWith("a"))).toEqual(["a0", "a1", "a2"]);
      expect(await admin.committed(group, topic)).toEqual(new Map([[2, 3n]]));
    });

    it("commits a transaction that is larger than any one request may be, in order", async () => {
      const producer = await bus.transactionalProducer(`tx-${randomUUID()}`);
      const filler = "x".repeat(2_000);
      const records = Array.from({ length: 1_500 }, (_, i) => record(`${i} ${filler}`, { partition: 0 }));
      await producer.commit({ records });
      const { records: read } = await collect();
      await waitFor("1,500 records", () => read.length === 1_500);
      expect(read.map((entry) => Number.parseInt(String(entry.value), 10))).toEqual(records.map((_, i) => i));
    });

    it("fences the older of two producers with one transactional id", async () => {
      const id = `tx-${randomUUID()}`;
      const zombie = await bus.transactionalProducer(id);
      await zombie.commit({ records: [record("before", { partition: 0 })] });
      const heir = await another().transactionalProducer(id);
      const late = zombie.commit({ records: [record("zombie", { partition: 0 })] });
      await expect(late).rejects.toBeInstanceOf(BusError);
      await expect(zombie.commit({ records: [record("again", { partition: 0 })] })).rejects.toMatchObject({
        code: "FENCED",
      });
      await heir.commit({ records: [record("heir", { partition: 0 })] });
      const { values } = await collect();
      await waitFor("the heir's record", () => values().includes("heir"));
      expect(values()).toEqual(["before", "heir"]);
    });

    it("tells what earlier producers of an id have committed, and what was kept with a position", async () => {
      const id = `tx-${randomUUID()}`;
      const group = `g-${randomUUID()}`;
      const partitions = [0, 1].map((partition) => ({ topic, partition }));
      const first = await bus.transactionalProducer(id);
      await first.commit({ records: [record("old", { partition: 0, timestamp: Date.now() - 60_000 })] });
      const since = Date.now();
      await first.commit({
        records: [
          record("a", { partition: 0 }),
          record("b", { partition: 1 }),
          record("c", { partition: 2 }),
        ],
        offsets: { group, positions: [{ topic, partition: 1, offset: 7n }], metadata: "from 3" },
      });
      const heir = await another().transactionalProducer(id, { leftovers: { partitions } });
      await heir.commit({ records: [record("later", { partition: 0 })] });
      const later = Date.now() + 60_000;
      const found: string[] = [];
      await heir.settled(
        [topic],
        { sinceMs: since, untilMs: later },
        ({ value }) => void found.push(String(value)),
      );
      expect(found.toSorted()).toEqual(["a", "b"]);
      const all: string[] = [];
      await heir.settled(
        [topic],
        { sinceMs: since - 120_000, untilMs: later },
        ({ value }) => void all.push(String(value)),
      );
      expect(all.toSorted()).toEqual(["a", "b", "old"]);
      const nothing = { sinceMs: since - 50_000, untilMs: since - 40_000 };
      await heir.settled([topic], nothing, () => expect.unreachable());
      await heir.settled([], { sinceMs: 0, untilMs: later }, () => expect.unreachable());
      expect(await admin.positions(group, topic)).toEqual(new Map([[1, { offset: 7n, metadata: "from 3" }]]));
    });

    it("writes nothing of a transaction that cannot be sent, and stays usable", async () => {
      const producer = await bus.transactionalProducer(`tx-${randomUUID()}`);
      const tooLarge = record("x".repeat(DEFAULTS.maxRecordBytes + 1), { partition: 0 });
      const failing = producer.commit({ records: [record("never", { partition: 0 }), tooLarge] });
      await expect(failing).rejects.toMatchObject({ code: "TOO_LARGE" });
      await producer.commit({ records: [record("after", { partition: 0 })] });
      const { values } = await collect();
      await waitFor("1 record", () => values().length === 1);
      expect(values()).toEqual(["after"]);
    });

    it("leaves nothing out when onAssigned takes its time and more was fetched ahead than there is room for", async () => {
      const producer = await bus.producer();
      const value = Buffer.alloc(1_000);
      const count = 12_000;
      await Promise.all(Array.from({ length: count }, () => producer.send({ topic, partition: 0, value })));
      let expected = 3_000n;
      let gap: string | undefined;
      await collect({
        group: `g-${randomUUID()}`,
        maxBytesPerPartition: 64 * 1024,
        onAssigned: async ({ partition }) => {
          await sleep(400);
          return partition === 0 ? expected : undefined;
        },
        onBatch: async ({ records }) => {
          for (const { offset } of records) {
            if (offset !== expected) gap ??= `${offset} where ${expected} was next`;
            expected = offset + 1n;
          }
        },
      });
      await waitFor("all records", () => expected === BigInt(count));
      expect(gap).toBeUndefined();
    });

    it("tells how far a consumer has read, behind what transactions leave in the log", async () => {
      const producer = await bus.transactionalProducer(`tx-${randomUUID()}`);
      await producer.commit({ records: [record("a", { partition: 0 })] });
      const place = { topic, partition: 0 };
      let release = () => {};
      const held = new Promise<void>((resolve) => {
        release = resolve;
      });
      const { consumer } = await collect({ onBatch: () => held });
      await sleep(300);
      expect((await admin.offsets(topic)).get(0)?.latest).toBeGreaterThan(0n);
      expect(consumer.position(place) ?? 0n).toBe(0n);
      release();
      const { latest } = (await admin.offsets(topic)).get(0) ?? { latest: -1n };
      await waitFor("the end", () => consumer.position(place) === latest);
      expect(consumer.position({ topic, partition: 99 })).toBeUndefined();
    });

    it("rejects a record for a partition that does not exist, and stays usable", async () => {
      const producer = await bus.producer();
      const wrong = producer.send(record("a", { partition: 3 }));
      await expect(wrong).rejects.toMatchObject({ code: "UNKNOWN_TOPIC" });
      expect(await producer.send(record("b", { partition: 2 }))).toMatchObject({ offset: 0n });
      const transactional = await bus.transactionalProducer(`tx-${randomUUID()}`);
      const none = transactional.commit({ records: [record("a", { partition: 3 })] });
      await expect(none).rejects.toMatchObject({ code: "UNKNOWN_TOPIC" });
    });

    it("finds offsets by time", async () => {
      const producer = await bus.producer();
      for (const timestamp of [1_000, 2_000, 3_000]) {
        await producer.send(record(String(timestamp), { partition: 0, timestamp }));
      }
      const at = async (ms: number) => (await admin.offsetsAt(topic, ms)).get(0);
      expect([await at(0), await at(2_000), await at(2_001), await at(9_000)]).toEqual([0n, 1n, 2n, 3n]);
    });

    it("creates topics once, lists them and tells their offsets", async () => {
      await admin.ensureTopics([{ name: topic, partitions: 9 }]);
      expect(await admin.partitions(topic)).toBe(3);
      expect(await admin.topics()).toContain(topic);
      const producer = await bus.producer();
      await producer.send(record("a", { partition: 1 }));
      expect((await admin.offsets(topic)).get(1)).toEqual({ earliest: 0n, latest: 1n });
      expect((await admin.offsets(topic)).get(0)).toEqual({ earliest: 0n, latest: 0n });
      expect(await admin.ends(topic)).toEqual(
        new Map([
          [0, 0n],
          [1, 1n],
          [2, 0n],
        ]),
      );
      await expect(admin.ends("no-such-topic")).rejects.toMatchObject({ code: "UNKNOWN_TOPIC" });
      await expect(admin.partitions("no-such-topic")).rejects.toMatchObject({ code: "UNKNOWN_TOPIC" });
    });
  });
}
