import { spawn } from "node:child_process";
import { randomUUID } from "node:crypto";
import { open, readdir, readFile } from "node:fs/promises";
import { join } from "node:path";
import { afterAll, describe, expect, inject, it } from "vitest";
import { kafkaClass } from "#clusters/local/kafka.ts";
import { ensureToolchain, toolPath } from "#clusters/local/toolchain/index.ts";
import { KafkaBus } from "#runtime/bus/kafka/index.ts";
import { readToEnd } from "#runtime/bus/read.ts";
import { Subject } from "#tests/support/processes.ts";
import { waitFor } from "#tests/support/wait.ts";

// What others write: Kafka's own client with each of its codecs, and a disk that has gone bad.

const { ports, folder } = inject("cluster");
const address = `127.0.0.1:${ports.kafka}`;
const bus = new KafkaBus({ brokers: [address], clientId: "test" });
afterAll(() => bus.close());

async function newTopic(): Promise<string> {
  const topic = `codecs-${randomUUID()}`;
  await (await bus.admin()).ensureTopics([{ name: topic, partitions: 1 }]);
  return topic;
}

/** Writes lines with Kafka's console producer, many to a batch. */
async function consoleProducer(topic: string, codec: string, lines: readonly string[]): Promise<void> {
  const libs = toolPath(await ensureToolchain({ progress: () => {} }), "kafka");
  const args = kafkaClass(libs, "org.apache.kafka.tools.ConsoleProducer", [
    ...["--bootstrap-server", address, "--topic", topic, "--compression-codec", codec],
    ...["--batch-size", "500000", "--timeout", "5000"],
  ]);
  const child = spawn("java", args, { stdio: ["pipe", "ignore", "pipe"] });
  let said = "";
  child.stderr.on("data", (chunk) => {
    said += String(chunk);
  });
  child.stdin.end(`${lines.join("\n")}\n`);
  const code = await new Promise((resolve) => child.once("close", resolve));
  if (code !== 0) throw new Error(`the console producer ended with ${code}: ${said}`);
}

/** The bytes of a partition's first segment on the broker's disk, and what changes one of them. */
async function segmentOf(topic: string): Promise<{ bytes: Buffer; flip: (at: number) => Promise<void> }> {
  const name = `${topic}-0`;
  const found = (await readdir(folder, { recursive: true })).find((path) => path.endsWith(name));
  const path = join(folder, found ?? "", "00000000000000000000.log");
  const bytes = await readFile(path);
  const flip = async (at: number) => {
    const file = await open(path, "r+");
    await file.write(Buffer.of((bytes[at] ?? 0) ^ 1), 0, 1, at);
    await file.close();
  };
  return { bytes, flip };
}

describe("what others have written", () => {
  it("is read whatever codec Kafka's own producer uses", async () => {
    const topic = await newTopic();
    const codecs = ["gzip", "snappy", "lz4", "zstd"];
    // Every third line is hard to compress.
    const lines = (codec: string) =>
      Array.from(
        { length: 900 },
        (_, i) => `${codec} ${i} ${(i % 3 === 0 ? randomUUID() : "same ").repeat(12)}`,
      );
    const sent = codecs.map((codec) => lines(codec));
    // One after another: four of Kafka's tools at once leave no processor to the tests beside.
    for (const [i, codec] of codecs.entries()) await consoleProducer(topic, codec, sent[i] ?? []);
    const read: string[] = [];
    await readToEnd(bus, topic, (record) => void read.push(String(record.value)));
    for (const [i, codec] of codecs.entries()) {
      expect([codec, read.filter((line) => line.startsWith(`${codec} `))]).toEqual([codec, sent[i]]);
    }
    // By the attributes of the batches: that the producer did as it was told.
    const { bytes } = await segmentOf(topic);
    const largest = new Map<number, number>();
    for (let at = 0; at + 61 < bytes.length; at += 12 + bytes.readInt32BE(at + 8)) {
      const codec = bytes.readInt16BE(at + 21) & 7;
      largest.set(codec, Math.max(largest.get(codec) ?? 0, bytes.readInt32BE(at + 57)));
    }
    expect([...largest.keys()].toSorted()).toEqual([1, 2, 3, 4]);
    // Blocks of LZ4 are 64 KiB, which are 340 lines: it has several.
    expect(largest.get(3)).toBeGreaterThan(400);
  }, 180_000);

  it("ends a consumer with the place where a disk has gone bad, and skips nothing", async () => {
    const topic = await newTopic();
    const producer = await bus.producer({ lingerMs: 0 });
    for (const value of ["a", "b", "gone bad", "d"]) {
      await producer.send({ topic, partition: 0, value: Buffer.from(value) });
    }
    const { bytes, flip } = await segmentOf(topic);
    await flip(bytes.indexOf("gone bad"));
    const read: string[] = [];
    const fatal: Error[] = [];
    const group = `g-${randomUUID()}`;
    await bus.consumer({
      ...{ group, topics: [topic], from: "earliest", onFatal: (error) => fatal.push(error) },
      onBatch: async ({ records }) => void read.push(...records.map(({ value }) => String(value))),
    });
    await waitFor("the end", () => fatal.length > 0);
    expect(read).toEqual(["a", "b"]);
    expect(fatal[0]).toMatchObject({
      code: "UNREADABLE_BATCH",
      message: expect.stringContaining(`${topic}/0 at offset 2, codec none: the checksum is wrong`),
    });
    await expect(readToEnd(bus, topic, () => {})).rejects.toMatchObject({ code: "UNREADABLE_BATCH" });
    const committed = await (await bus.admin()).committed(group, topic);
    expect(committed.size).toBe(0);

    // A service says so and ends; it has not gone past the batch.
    const idle = await bus.consumer({
      ...{ group: `${group}-s`, topics: [topic], from: "latest", onFatal: () => expect.unreachable() },
      onBatch: async () => {},
    });
    await waitFor("the partition", () => idle.assignment().length === 1);
    await idle.commit([{ topic, partition: 0, offset: 0n }]);
    await idle.close();
    const service = new Subject(
      process.execPath,
      [join(import.meta.dirname, "../../apps/features/main.ts")],
      {
        ...{ KAFKA_BROKERS: address, REDIS_URL: `redis://127.0.0.1:${ports.redis}`, TOPICS: topic },
        ...{ GROUP: `${group}-s`, HTTP_HOST: "127.0.0.1", HTTP_PORT: "0" },
      },
    );
    service.start();
    expect(await service.ended()).toBe(1);
    expect(service.output).toContain(`${topic}/0 at offset 2, codec none: the checksum is wrong`);
    expect(service.output).not.toMatch(/warning/i);
  });
});
