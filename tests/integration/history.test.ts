import { randomUUID } from "node:crypto";
import { setTimeout as sleep } from "node:timers/promises";
import { Registry } from "prom-client";
import { afterAll, expect, inject, it } from "vitest";
import { KafkaBus } from "#runtime/bus/kafka/index.ts";
import { topics } from "#runtime/contracts/topics.ts";
import { verifyHistory } from "#runtime/handover/history/read.ts";
import { claim, echoWorker } from "#tests/support/handover.ts";
import { kafkajs } from "#tests/support/plain-kafkajs.ts";
import { waitFor } from "#tests/support/wait.ts";

const RECORDS = 20;
const brokers = [`127.0.0.1:${inject("cluster").ports.kafka}`];
const bus = new KafkaBus({ brokers, clientId: "test" }, new Registry());
afterAll(() => bus.close());

it("waits for what an open transaction of another keeps from being read, and finds nothing missing", async () => {
  const deployment = `d-${randomUUID()}`;
  const input = `in-${randomUUID()}`;
  const admin = await bus.admin();
  await admin.ensureTopics([{ name: input, partitions: 1 }]);
  await claim(bus, deployment, "a", input, 1);
  const signals = topics.signals(deployment);
  // As of a worker that was killed: the broker ends it by itself after 15 s only.
  const client = new kafkajs.Kafka({ brokers, logLevel: kafkajs.logLevel.NOTHING });
  const dead = client.producer({ transactionalId: randomUUID(), idempotent: true, maxInFlightRequests: 1 });
  await dead.connect();
  const open = await dead.transaction();
  await open.send({ topic: signals, messages: [{ partition: 0, value: "x" }] });
  const worker = echoWorker({ bus, deployment, revision: "a", topics: [input] });
  await worker.start();
  try {
    const producer = await bus.producer();
    for (let i = 0; i < RECORDS; i++)
      await producer.send({ topic: input, partition: 0, key: "BTCUSDT", value: Buffer.from("x") });
    await waitFor("the positions", async () => {
      return (await admin.committed(`${deployment}.a`, input)).get(0) === BigInt(RECORDS);
    });
    expect((await admin.offsets(signals)).get(0)?.latest).toBe(0n);
    expect((await admin.ends(signals)).get(0)).toBeGreaterThan(BigInt(RECORDS));
    let ended = false;
    const verdict = verifyHistory(bus, deployment).finally(() => {
      ended = true;
    });
    await sleep(3_000);
    expect(ended).toBe(false);
    await open.abort();
    expect(await verdict).toMatchObject({ ok: true, violations: [], counts: { live: RECORDS, pending: 0 } });
  } finally {
    await worker.stop();
    await dead.disconnect();
  }
});
