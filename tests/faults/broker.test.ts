import { setTimeout as sleep } from "node:timers/promises";
import kafkajs from "kafkajs";
import { afterEach, describe, expect, it } from "vitest";
import { KafkaBus } from "#runtime/bus/kafka/index.ts";
import { consoleConsumer, startBrokers, type TestBrokers } from "#tests/support/processes.ts";
import { waitFor } from "#tests/support/wait.ts";

// Brokers die while records are sent. What counts is what Kafka's own console consumer finds afterwards: every
// record that was acknowledged, and none twice.

const TOPIC = "survivors";
const PARTITIONS = 6;
let brokers: TestBrokers;
afterEach(() => brokers.close());

/** Sends numbered records at a rate until stopped; returns the numbers that were acknowledged. */
function produce(send: (value: string, key: string) => Promise<unknown>, perSecond: number) {
  const acknowledged = new Set<string>();
  const errors: unknown[] = [];
  const open = new Set<Promise<void>>();
  let next = 0;
  let running = true;
  const loop = (async () => {
    const started = performance.now();
    while (running) {
      const due = ((performance.now() - started) / 1_000) * perSecond;
      // Bounded, as a real source is by back-pressure.
      while (next < due && open.size < 50_000) {
        const value = String(next++);
        const sent = send(value, `k${Number(value) % 97}`).then(
          () => {
            acknowledged.add(value);
          },
          (error: unknown) => {
            errors.push(error);
          },
        );
        open.add(sent);
        void sent.finally(() => open.delete(sent));
      }
      await sleep(5);
    }
  })();
  return {
    acknowledged,
    errors,
    count: () => next,
    stop: async () => {
      running = false;
      await loop;
      await Promise.all(open);
    },
  };
}

interface Verdict {
  readonly lost: number;
  readonly doubled: number;
}

async function verdict(topic: string, acknowledged: ReadonlySet<string>): Promise<Verdict> {
  const values = await consoleConsumer(brokers.libs, brokers.addresses.join(), topic);
  const seen = new Map<string, number>();
  for (const value of values) seen.set(value, (seen.get(value) ?? 0) + 1);
  return {
    lost: [...acknowledged].filter((value) => !seen.has(value)).length,
    doubled: [...seen.values()].filter((count) => count > 1).length,
  };
}

async function createTopic(replicas: number): Promise<KafkaBus> {
  const bus = new KafkaBus({ brokers: brokers.addresses, clientId: "test" });
  await (await bus.admin()).ensureTopics([{ name: TOPIC, partitions: PARTITIONS, replicas }]);
  return bus;
}

describe("one broker", () => {
  it("killed and started again under 5,000 records/s: nothing lost, nothing doubled, producer and consumer go on", async () => {
    brokers = await startBrokers(1);
    const bus = await createTopic(1);
    const producer = await bus.producer();
    const received = new Set<string>();
    await bus.consumer({
      group: "watcher",
      topics: [TOPIC],
      from: "earliest",
      onFatal: (error) => expect.unreachable(error.message),
      onBatch: async (batch) => {
        for (const record of batch.records) received.add(String(record.value));
      },
    });
    const source = produce(
      (value, key) => producer.send({ topic: TOPIC, key, value: Buffer.from(value) }),
      5_000,
    );
    await sleep(3_000);
    await brokers.brokers[0]?.end("SIGKILL");
    await sleep(2_000);
    await brokers.start(0);
    const before = source.acknowledged.size;
    await waitFor("new acknowledgements", () => source.acknowledged.size > before + 5_000, 30_000);
    await source.stop();
    expect(source.errors).toEqual([]);
    expect(source.acknowledged.size).toBe(source.count());
    expect(await verdict(TOPIC, source.acknowledged)).toEqual({ lost: 0, doubled: 0 });
    await waitFor("the consumer", () => received.size === source.acknowledged.size, 30_000);
    await bus.close();
  });
});

// Two minutes: with FAULTS=short or FAULTS=full, and in CI.
const THREE = process.env["FAULTS"] !== undefined || process.env["CI"] === "true";

describe.runIf(THREE)("three brokers, killed in turn", () => {
  const RAW_TOPIC = "raw";
  const KILLS = 3;

  /**
   * The client library as one would use it: requests over every partition, several at once. That is the bus without
   * its rule of one partition a request.
   */
  async function produceRaw(first: number) {
    const kafka = new kafkajs.Kafka({
      brokers: [...brokers.addresses],
      logLevel: kafkajs.logLevel.NOTHING,
      retry: { initialRetryTime: 100, maxRetryTime: 1_000, retries: 1_000 },
    });
    const producer = kafka.producer({ idempotent: true });
    await producer.connect();
    const acknowledged = new Set<string>();
    let next = first;
    let running = true;
    const loops = Array.from({ length: 4 }, async () => {
      while (running) {
        const values = Array.from({ length: 60 }, () => String(next++));
        const messages = values.map((value, i) => ({ value, partition: i % PARTITIONS }));
        const sent = await producer.send({ topic: RAW_TOPIC, acks: -1, messages }).then(
          () => true,
          () => false,
        );
        if (sent) for (const value of values) acknowledged.add(value);
        await sleep(20);
      }
    });
    const stop = async () => {
      running = false;
      await Promise.all(loops);
      await producer.disconnect();
    };
    return { acknowledged, stop, next: () => next };
  }

  async function killInTurn(progress: () => number): Promise<void> {
    for (let kill = 0; kill < KILLS; kill++) {
      await brokers.brokers[kill]?.end("SIGKILL");
      await sleep(3_000);
      await brokers.start(kill);
      const before = progress();
      await waitFor(`progress after kill ${kill + 1}`, () => progress() > before + 2_000, 60_000);
      // The broker has to be back in sync before the next one goes.
      await sleep(4_000);
    }
  }

  it("lose and double nothing through the bus; without the rule of one partition a request they do lose", async () => {
    brokers = await startBrokers(3);
    const bus = await createTopic(3);
    await (await bus.admin()).ensureTopics([{ name: RAW_TOPIC, partitions: PARTITIONS, replicas: 3 }]);
    const producer = await bus.producer();
    const source = produce(
      (value, key) => producer.send({ topic: TOPIC, key, value: Buffer.from(value) }),
      3_000,
    );
    const raw = new Set<string>();
    let theirs: Verdict = { lost: 0, doubled: 0 };
    let next = 0;
    // What is lost depends on where a leader goes; one round has always been enough, three leave nothing to luck.
    for (let round = 0; round < 3 && theirs.lost === 0; round++) {
      const run = await produceRaw(next);
      await sleep(2_000);
      await killInTurn(() => source.acknowledged.size);
      await run.stop();
      next = run.next();
      for (const value of run.acknowledged) raw.add(value);
      theirs = await verdict(RAW_TOPIC, raw);
    }
    await source.stop();
    expect(source.errors).toEqual([]);
    expect(source.acknowledged.size).toBe(source.count());
    const ours = await verdict(TOPIC, source.acknowledged);
    console.log(`bus: ${source.acknowledged.size} acknowledged, ${ours.lost} lost, ${ours.doubled} doubled`);
    console.log(`without the rule: ${raw.size} acknowledged, ${theirs.lost} lost, ${theirs.doubled} doubled`);
    expect(ours).toEqual({ lost: 0, doubled: 0 });
    expect(theirs.lost).toBeGreaterThan(0);
    await bus.close();
  });
});
