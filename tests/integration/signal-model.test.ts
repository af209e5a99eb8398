import { randomUUID } from "node:crypto";
import { Registry } from "prom-client";
import { afterAll, beforeAll, describe, expect, inject, it } from "vitest";
import { parseDeadLetter, replayDeadLetters } from "#runtime/bus/dead-letters.ts";
import { KafkaBus } from "#runtime/bus/kafka/index.ts";
import type { InRecord } from "#runtime/bus/port.ts";
import { readToEnd } from "#runtime/bus/read.ts";
import { MarketData, SCHEMA_HEADER, type Signal, topics } from "#runtime/contracts/index.ts";
import { FeatureStore } from "#runtime/features/index.ts";
import { TICKS_VIEW } from "#runtime/market/ticks.ts";
import { newTraceparent, parseTraceparent, TRACE_HEADER } from "#runtime/service/index.ts";
import { claim } from "#tests/support/handover.ts";
import { kafkajs } from "#tests/support/plain-kafkajs.ts";
import {
  MODEL_DIGEST,
  readSignal,
  type SignalModelProcess,
  signalModel,
  trade,
} from "#tests/support/signal-model.ts";
import { waitFor } from "#tests/support/wait.ts";

const { ports } = inject("cluster");
const brokers = [`127.0.0.1:${ports.kafka}`];
const bus = new KafkaBus({ brokers, clientId: "test" });
const topic = `md.crypto.t${randomUUID().slice(0, 8)}`;
const store = new FeatureStore({
  url: `redis://127.0.0.1:${ports.redis}`,
  registry: new Registry(),
  timeoutMs: 5_000,
});
let model: SignalModelProcess;
const signals: Signal[] = [];
const signalRecords: InRecord[] = [];
const letters: InRecord[] = [];

beforeAll(async () => {
  const admin = await bus.admin();
  // A topic that takes more than we send, as another team's might.
  await admin.ensureTopics([{ name: topic, partitions: 2, config: { "max.message.bytes": "2097152" } }]);
  await store.connect();
  model = await signalModel({
    KAFKA_BROKERS: brokers.join(),
    REDIS_URL: `redis://127.0.0.1:${ports.redis}`,
    TOPICS: topic,
    INSTRUMENTS: "BTCUSDT,ETHUSDT",
  });
  await claim(bus, model.deployment, "r1", topic);
  model.process.start();
  await waitFor("readiness", async () => (await fetch(`${model.url}/readyz`)).ok, 30_000);
  await bus.consumer({
    topics: [topics.signals(model.deployment)],
    from: "earliest",
    onFatal: () => {},
    onBatch: async (batch) => {
      signalRecords.push(...batch.records);
      signals.push(...batch.records.map(readSignal));
    },
  });
  await bus.consumer({
    topics: [topics.deadLetters(model.deployment)],
    from: "earliest",
    onFatal: () => {},
    onBatch: async (batch) => {
      letters.push(...batch.records);
    },
  });
});
afterAll(async () => {
  await model.process.end();
  await bus.close();
  await store.close();
});

async function send(
  value: Buffer | null,
  headers: Record<string, string> = {},
  partition = 0,
  key = "BTCUSDT",
) {
  const producer = await bus.producer({ lingerMs: 0 });
  const place = await producer.send({
    topic,
    partition,
    key,
    value,
    headers: { [SCHEMA_HEADER]: MarketData.id, ...headers },
  });
  await producer.close();
  return place;
}

const json = (message: object) => Buffer.from(JSON.stringify(message));
const signalAt = (partition: number, offset: bigint) =>
  signals.find((signal) => signal.input.partition === partition && signal.input.offset === String(offset));
const letterAt = (partition: number, offset: bigint) =>
  letters.map(parseDeadLetter).find((letter) => letter?.partition === partition && letter.offset === offset);

describe("signal-model", () => {
  it("decides on a message with the features that are stored, and says by what", async () => {
    const eventTime = Date.now();
    const values = TICKS_VIEW.features.map((_, i) => i / 10);
    await store.view(TICKS_VIEW).write([{ entity: "ETHUSDT", eventTime: eventTime - 5, values }]);
    const place = await send(json(trade(1, { instrument: "ETHUSDT", eventTime })), {}, 0, "ETHUSDT");
    const signal = await waitFor("the signal", () => signalAt(0, place.offset));
    expect(signal).toMatchObject({
      deployment: model.deployment,
      revision: "r1",
      model: { name: "momentum", version: "1.0.0", digest: MODEL_DIGEST },
      instrument: "ETHUSDT",
      input: { topic, partition: 0, offset: String(place.offset) },
      eventTime,
      featuresAgeMs: 5,
      regime: "calm",
    });
    expect(signal.confidence).toBeGreaterThanOrEqual(0.5);
    expect(signal.sigma).toBeLessThan(0.1);
  });

  it("has no view where there are no features", async () => {
    const place = await send(json(trade(2)));
    const signal = await waitFor("the signal", () => signalAt(0, place.offset));
    expect(signal).toMatchObject({ mu: 0, confidence: 0, regime: "normal" });
  });

  it("passes the trace on", async () => {
    const traceparent = newTraceparent(true);
    const place = await send(json(trade(3)), { [TRACE_HEADER]: traceparent });
    await waitFor("the signal", () => signalAt(0, place.offset));
    const record = signalRecords.find(
      (entry) => entry.headers["baton-input"] === `${topic}/0/${place.offset}`,
    );
    expect(parseTraceparent(record?.headers[TRACE_HEADER])?.traceId).toBe(
      parseTraceparent(traceparent)?.traceId,
    );
  });

  const nested = `{"type":"trade","x":${"[".repeat(1000)}${"]".repeat(1000)}}`;
  it.each<[string, Buffer | null, Record<string, string>, string]>([
    ["not JSON", Buffer.from("hello"), {}, "NOT_JSON"],
    ["of a wrong schema version", json(trade(4)), { [SCHEMA_HEADER]: "market-data/99" }, "WRONG_SCHEMA"],
    ["NaN", Buffer.from(JSON.stringify(trade(5)).replace("0.1", "NaN")), {}, "NOT_JSON"],
    ["a null value", null, {}, "NULL_VALUE"],
    ["from the future", json(trade(6, { eventTime: Date.now() + 3_600_000 })), {}, "FUTURE_TIMESTAMP"],
    ["of 1970, in seconds", json(trade(6, { eventTime: 1_790_000_000 })), {}, "PAST_TIMESTAMP"],
    ["of an unknown instrument", json(trade(7, { instrument: "NOPEUSDT" })), {}, "UNKNOWN_INSTRUMENT"],
    ["under another key than its instrument", json(trade(8, { instrument: "ETHUSDT" })), {}, "WRONG_KEY"],
    ["deeply nested", Buffer.from(nested), {}, "TOO_DEEP"],
    ["a negative price", json(trade(9, { price: -1 })), {}, "INVALID"],
    ["bytes that are no text", Buffer.from([0xff, 0xfe, 0x00, 0x80]), {}, "NOT_JSON"],
  ])(
    "puts a message that is %s among the dead letters with its reason, and goes on within 1 s",
    async (_, value, headers, code) => {
      const place = await send(value, headers, 1);
      const started = Date.now();
      const next = await send(json(trade(10)), {}, 1);
      await waitFor("the next signal", () => signalAt(1, next.offset));
      expect(Date.now() - started).toBeLessThan(1_000);
      const letter = await waitFor("the dead letter", () => letterAt(1, place.offset));
      expect(letter).toMatchObject({ topic, partition: 1, offset: place.offset, code, attempts: 1 });
      expect(letter.error).not.toBe("");
      expect(letter.record.value).toEqual(value);
      expect(signalAt(1, place.offset)).toBeUndefined();
    },
  );

  it("keeps the beginning of a message of 1 MiB + 1, and says how long it was", async () => {
    const raw = new kafkajs.Kafka({ brokers, logLevel: kafkajs.logLevel.NOTHING }).producer();
    await raw.connect();
    const value = Buffer.alloc(1024 * 1024 + 1, "x");
    const [sent] = await raw.send({ topic, messages: [{ partition: 1, key: "BTCUSDT", value }] });
    await raw.disconnect();
    const letter = await waitFor("the dead letter", () => letterAt(1, BigInt(sent?.baseOffset ?? -1)));
    expect(letter).toMatchObject({ code: "TOO_LARGE", truncatedFrom: value.length });
    expect(letter.record.value?.length).toBe(256 * 1024);
  });

  it("gets dead letters again by replay, with the attempts counted and cut ones left", async () => {
    const before = letters.length;
    const deadTopic = topics.deadLetters(model.deployment);
    const dry = await replayDeadLetters(bus, deadTopic, { code: "UNKNOWN_INSTRUMENT", dryRun: true });
    expect(dry).toMatchObject({ replayed: 1 });
    const result = await replayDeadLetters(bus, deadTopic, { code: "UNKNOWN_INSTRUMENT" });
    expect(result.replayed).toBe(1);
    await waitFor("the letter of the second attempt", () => letters.length > before);
    const again = letters.slice(before).map(parseDeadLetter);
    expect(again[0]).toMatchObject({ code: "UNKNOWN_INSTRUMENT", attempts: 2 });
    const cut = await replayDeadLetters(bus, deadTopic, { code: "TOO_LARGE" });
    expect(cut.replayed).toBe(0);
  });

  it("commits its input offset with its output: everything has one outcome, and the offset is behind the last", async () => {
    const admin = await bus.admin();
    const ends = await admin.offsets(topic);
    const group = `${model.deployment}.r1`;
    await waitFor("the offsets", async () => {
      const committed = await admin.committed(group, topic);
      return [...ends].every(([partition, { latest }]) => committed.get(partition) === latest);
    });
    const outcomes = new Map<string, number>();
    const count = (place: string) => {
      outcomes.set(place, (outcomes.get(place) ?? 0) + 1);
    };
    await readToEnd(bus, topics.signals(model.deployment), (record) =>
      count(record.headers["baton-input"] ?? ""),
    );
    await readToEnd(bus, topics.deadLetters(model.deployment), (record) => {
      const letter = parseDeadLetter(record);
      count(`${letter?.topic}/${letter?.partition}/${letter?.offset}`);
    });
    let expected = 0;
    for (const [partition, { latest }] of ends) {
      for (let offset = 0n; offset < latest; offset++) {
        expected += 1;
        expect([partition, offset, outcomes.get(`${topic}/${partition}/${offset}`)]).toEqual([
          partition,
          offset,
          1,
        ]);
      }
    }
    expect(outcomes.size).toBe(expected);
  });

  it("serves liveness, readiness with named checks, and metrics", async () => {
    expect((await fetch(`${model.url}/livez`)).status).toBe(200);
    const ready = (await (await fetch(`${model.url}/readyz`)).json()) as {
      ready: boolean;
      checks: { name: string; ok: boolean }[];
    };
    expect(ready.ready).toBe(true);
    expect(ready.checks.map((check) => check.name).toSorted()).toEqual([
      "kafka",
      "model",
      "redis",
      "started",
    ]);
    const metrics = await (await fetch(`${model.url}/metrics`)).text();
    expect(metrics).toMatch(/baton_dead_letters_total{code="NOT_JSON"} [1-9]/);
    expect(metrics).toMatch(/baton_signal_end_to_end_seconds_count [1-9]/);
    expect((await fetch(`${model.url}/else`)).status).toBe(404);
  });

  it("stops cleanly on SIGTERM with everything committed", async () => {
    const place = await send(json(trade(11)));
    await waitFor("the signal", () => signalAt(0, place.offset));
    const { code } = await model.process.end("SIGTERM");
    expect(code).toBe(0);
    expect(model.process.output).toContain('"msg":"stopped"');
  });
});
