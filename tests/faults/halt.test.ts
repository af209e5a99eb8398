import { setTimeout as sleep } from "node:timers/promises";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { KafkaBus } from "#runtime/bus/kafka/index.ts";
import { topics } from "#runtime/contracts/topics.ts";
import { verifyHistory } from "#runtime/handover/history/read.ts";
import { parseOutcome } from "#runtime/handover/outcome.ts";
import { baton as runBaton } from "#tests/support/baton.ts";
import { claim } from "#tests/support/handover.ts";
import { handoverProcess } from "#tests/support/nemesis.ts";
import {
  type Subject,
  startBrokers,
  startRedis,
  type TestBrokers,
  type TestServer,
} from "#tests/support/processes.ts";
import { waitFor } from "#tests/support/wait.ts";

const TOPIC = "md.crypto.main";
const DEPLOYMENT = "d";
const HONOURED_MS = 2_000;
let brokers: TestBrokers;
let redis: TestServer;
let bus: KafkaBus;
let worker: Subject;
let stream: { stop(): Promise<void> };
const live: { readonly at: number }[] = [];

beforeAll(async () => {
  [brokers, redis] = await Promise.all([startBrokers(1), startRedis()]);
  bus = new KafkaBus({ brokers: brokers.addresses, clientId: "test" });
  await (await bus.admin()).ensureTopics([{ name: TOPIC, partitions: 2 }]);
  await claim(bus, DEPLOYMENT, "a", TOPIC);
  worker = handoverProcess("worker", {
    KAFKA_BROKERS: brokers.addresses.join(),
    REDIS_URL: redis.url,
    DEPLOYMENT,
    TOPIC,
    REVISION: "a",
  });
  worker.start();
  await bus.consumer({
    topics: [topics.signals(DEPLOYMENT)],
    from: "earliest",
    onFatal: (error) => expect.unreachable(error.message),
    onBatch: async ({ records }) => {
      for (const record of records)
        if (parseOutcome(record.headers)?.action === "live") live.push({ at: Date.now() });
    },
  });
  const producer = await bus.producer();
  let running = true;
  const loop = (async () => {
    for (let i = 0; running; i++) {
      void producer.send({ topic: TOPIC, key: `INS${i % 8}`, value: Buffer.from("x") });
      await sleep(5);
    }
  })();
  stream = {
    stop: async () => {
      running = false;
      await loop;
      await producer.flush();
    },
  };
  await waitFor("decisions", () => live.length > 50, 30_000);
});
afterAll(async () => {
  await stream.stop();
  await worker.end();
  await bus.close();
  await Promise.all([brokers.close(), redis.close()]);
});

const baton = (...args: readonly string[]) =>
  runBaton({ KAFKA_BROKERS: brokers.addresses.join(), REDIS_URL: redis.url }, ...args);

/** Nothing live from two seconds after a moment on, while the stream goes on. */
async function silentAfter(moment: number): Promise<void> {
  await sleep(Math.max(0, moment + HONOURED_MS - Date.now()));
  const before = live.length;
  await sleep(1_500);
  expect(live.length).toBe(before);
}

const deciding = async () => {
  const before = live.length;
  await waitFor("decisions", () => live.length > before + 20, 15_000);
};

describe("the kill switch", () => {
  it("is honoured within 2 s while only Kafka answers, and after a restart of the worker", async () => {
    redis.process.signal("SIGSTOP");
    const { code, output, at } = await baton("halt", DEPLOYMENT, "--reason", "only Kafka");
    expect(output).toContain("written to Kafka; Redis does not answer");
    expect(code).toBe(0);
    await silentAfter(at);
    await worker.end("SIGKILL");
    worker.start();
    await waitFor("the worker", () => worker.output.includes("halted: live decisions are withheld"), 30_000);
    await silentAfter(Date.now() - HONOURED_MS);
    redis.process.signal("SIGCONT");
  });

  it("is released with a reason only", async () => {
    const refused = await baton("release", DEPLOYMENT);
    expect(refused).toMatchObject({ code: 1 });
    expect(refused.output).toContain("with a reason only");
    expect((await baton("release", DEPLOYMENT, "--reason", "looked at it")).code).toBe(0);
    await deciding();
  });

  it("is honoured within 2 s when it reaches Redis only, and outlives a Redis that forgets", async () => {
    const { code, output, at } = await baton(
      "halt",
      DEPLOYMENT,
      "--reason",
      "only Redis",
      "--brokers",
      "127.0.0.1:1",
    );
    expect(output).toContain("written to Redis; Kafka does not answer");
    expect(code).toBe(0);
    await silentAfter(at);
    await redis.process.end("SIGKILL");
    await redis.start();
    await worker.end("SIGKILL");
    const before = live.length;
    worker.start();
    await sleep(8_000);
    expect(live.length).toBe(before);
    expect((await baton("release", DEPLOYMENT, "--reason", "over")).code).toBe(0);
    await deciding();
  });

  it("leaves a history in which every record has an outcome, some of them withheld", async () => {
    await stream.stop();
    const admin = await bus.admin();
    await waitFor("everything", async () => {
      const ends = await admin.offsets(TOPIC);
      const committed = await admin.committed(`${DEPLOYMENT}.a`, TOPIC);
      return [...ends].every(([partition, { latest }]) => committed.get(partition) === latest);
    });
    const verdict = await verifyHistory(bus, DEPLOYMENT);
    expect(verdict.violations).toEqual([]);
    expect(verdict.counts.withheld).toBeGreaterThan(100);
    expect(verdict.counts.live + verdict.counts.withheld).toBe(verdict.counts.inputs);
  });
});
