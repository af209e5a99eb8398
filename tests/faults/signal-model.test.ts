import { setTimeout as sleep } from "node:timers/promises";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { KafkaBus } from "#runtime/bus/kafka/index.ts";
import { MarketData, SCHEMA_HEADER, topics } from "#runtime/contracts/index.ts";
import { seededRandom } from "#runtime/market/random.ts";
import { claim } from "#tests/support/handover.ts";
import {
  consoleConsumer,
  startBrokers,
  startRedis,
  type TestBrokers,
  type TestServer,
} from "#tests/support/processes.ts";
import { signalModel, trade } from "#tests/support/signal-model.ts";
import { waitFor } from "#tests/support/wait.ts";

const TOPIC = "md.crypto.faults";
const PARTITIONS = 2;
const SEED = Number(process.env["SEED"] ?? Date.now() % 1_000_000);
let brokers: TestBrokers;
let redis: TestServer;
let bus: KafkaBus;

beforeAll(async () => {
  [brokers, redis] = await Promise.all([startBrokers(1), startRedis()]);
  bus = new KafkaBus({ brokers: brokers.addresses, clientId: "test" });
  await (await bus.admin()).ensureTopics([{ name: TOPIC, partitions: PARTITIONS }]);
});
afterAll(async () => {
  await bus.close();
  await Promise.all([brokers.close(), redis.close()]);
});

async function send(count: number, from: number): Promise<void> {
  const producer = await bus.producer();
  await Promise.all(
    Array.from({ length: count }, (_, i) =>
      producer.send({
        topic: TOPIC,
        partition: i % PARTITIONS,
        key: "BTCUSDT",
        value: Buffer.from(JSON.stringify(trade(from + i))),
        headers: { [SCHEMA_HEADER]: MarketData.id },
      }),
    ),
  );
  await producer.close();
}

const common = () => ({ KAFKA_BROKERS: brokers.addresses.join(), REDIS_URL: redis.url, TOPICS: TOPIC });

describe("signal-model", () => {
  it("killed again and again in the middle of transactions: every message has exactly one signal, in order", async () => {
    console.log(`seed ${SEED} (SEED=${SEED} repeats it)`);
    const random = seededRandom(SEED);
    const model = await signalModel({ ...common(), DEPLOYMENT: "killed", SESSION_TIMEOUT_MS: "6000" });
    await claim(bus, "killed", "r1", TOPIC);
    const admin = await bus.admin();
    const kills = 3;
    const chunk = 5_000;
    const total = chunk * (kills + 1);
    const committed = async () => {
      const offsets = await admin.committed("killed.r1", TOPIC);
      return [...offsets.values()].reduce((sum, offset) => sum + Number(offset), 0);
    };
    model.process.start();
    for (let kill = 0; kill < kills; kill++) {
      const before = await committed();
      await send(chunk, kill * chunk);
      // Once it has taken up work, kill it somewhere in it.
      await waitFor("progress", async () => (await committed()) > before, 60_000);
      await sleep(random.uniform() * 150);
      await model.process.end("SIGKILL");
      model.process.start();
    }
    await send(chunk, kills * chunk);
    const everything = async () => {
      // A worker that was fenced, or whose transaction's end it does not know, ends; a kubelet starts it again.
      if (!model.process.running) model.process.start();
      return (await committed()) === total;
    };
    await waitFor("all messages", everything, 120_000).catch((error: unknown) => {
      console.log(model.process.output.slice(-4_000));
      throw error;
    });
    await model.process.end("SIGTERM");

    const values = await consoleConsumer(brokers, topics.signals("killed"), total);
    const offsets = values.map((value) => JSON.parse(value).input as { partition: number; offset: string });
    const perPartition = Array.from({ length: PARTITIONS }, (_, p) =>
      offsets.filter((input) => input.partition === p).map((input) => Number(input.offset)),
    );
    // One instrument, so one output partition: its order is the order of each input partition.
    for (const list of perPartition) {
      expect(list).toEqual(Array.from({ length: total / PARTITIONS }, (_, offset) => offset));
    }
  });

  it("holds while Redis is frozen or dead, says so in readiness, and goes on without a gap", async () => {
    const model = await signalModel({ ...common(), DEPLOYMENT: "held" });
    await claim(bus, "held", "r1", TOPIC);
    model.process.start();
    const ready = async () => (await fetch(`${model.url}/readyz`)).status;
    await waitFor("readiness", async () => (await ready()) === 200, 30_000);
    const admin = await bus.admin();
    const end = async () =>
      [...(await admin.offsets(TOPIC)).values()].reduce((sum, { latest }) => sum + Number(latest), 0);
    const caughtUp = async () => {
      const offsets = await admin.committed("held.r1", TOPIC);
      return [...offsets.values()].reduce((sum, offset) => sum + Number(offset), 0) === (await end());
    };
    await waitFor("the backlog", caughtUp, 60_000);

    // Once for each outage, which the template of analyses counts.
    const tripped = async (times: number) => {
      const metrics = await (await fetch(`${model.url}/metrics`)).text();
      return metrics.includes(`baton_circuit_breaker_trips_total{dependency="features"} ${times}\n`);
    };
    redis.process.signal("SIGSTOP");
    await waitFor("not ready", async () => (await ready()) === 503, 10_000);
    await send(1_000, 0);
    await sleep(500);
    expect(await caughtUp()).toBe(false);
    await waitFor("the breaker to open", () => tripped(1), 10_000);
    redis.process.signal("SIGCONT");
    await waitFor("ready", async () => (await ready()) === 200, 10_000);
    await waitFor("the messages that waited", caughtUp, 30_000);

    await redis.process.end("SIGKILL");
    await waitFor("not ready", async () => (await ready()) === 503, 10_000);
    await send(1_000, 0);
    // Five failures in a row take longer than a Redis does to start.
    await waitFor("the breaker to open again", () => tripped(2), 10_000);
    await redis.start();
    await waitFor("ready", async () => (await ready()) === 200, 10_000);
    await waitFor("the messages that waited", caughtUp, 30_000);
    expect(model.process.running).toBe(true);
    expect(await tripped(2)).toBe(true);
    await model.process.end("SIGTERM");
    const values = await consoleConsumer(brokers, topics.signals("held"), await end());
    expect(values).toHaveLength(await end());
  });
});
