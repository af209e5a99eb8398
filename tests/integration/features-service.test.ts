import { randomUUID } from "node:crypto";
import { join } from "node:path";
import { Registry } from "prom-client";
import { afterAll, beforeAll, describe, expect, inject, it } from "vitest";
import { freePort } from "#clusters/local/ports.ts";
import { KafkaBus } from "#runtime/bus/kafka/index.ts";
import type { Producer } from "#runtime/bus/port.ts";
import { MarketData, SCHEMA_HEADER } from "#runtime/contracts/index.ts";
import { FeatureStore } from "#runtime/features/index.ts";
import { TICKS_VIEW, TickFeatures } from "#runtime/market/ticks.ts";
import { Subject } from "#tests/support/processes.ts";
import { trade } from "#tests/support/signal-model.ts";
import { waitFor } from "#tests/support/wait.ts";

const { ports } = inject("cluster");
const redisUrl = `redis://127.0.0.1:${ports.redis}`;
const bus = new KafkaBus({ brokers: [`127.0.0.1:${ports.kafka}`], clientId: "test" });
const id = randomUUID().slice(0, 8);
const topic = `md.crypto.f${id}`;
const group = `features-${id}`;
// Names of this run only: other tests write features of the usual ones.
const [btc, eth] = [`BTC${id.toUpperCase()}`, `ETH${id.toUpperCase()}`];
const store = new FeatureStore({ url: redisUrl, registry: new Registry(), timeoutMs: 5_000 });
const view = store.view(TICKS_VIEW);
let service: Subject;
let url: string;
let producer: Producer;

beforeAll(async () => {
  await (await bus.admin()).ensureTopics([{ name: topic, partitions: 2 }]);
  await store.connect();
  producer = await bus.producer({ lingerMs: 0 });
  const port = await freePort();
  url = `http://127.0.0.1:${port}`;
  service = new Subject(process.execPath, [join(import.meta.dirname, "../../apps/features/main.ts")], {
    KAFKA_BROKERS: `127.0.0.1:${ports.kafka}`,
    REDIS_URL: redisUrl,
    TOPICS: topic,
    GROUP: group,
    HTTP_HOST: "127.0.0.1",
    HTTP_PORT: String(port),
  });
  service.start();
  await waitFor("readiness", async () => (await fetch(`${url}/readyz`)).ok, 30_000);
});
afterAll(async () => {
  await service.end();
  await bus.close();
  await store.close();
});

const send = (value: Buffer, key: string) =>
  producer.send({ topic, key, value, headers: { [SCHEMA_HEADER]: MarketData.id } });

/** No two events at the same time: by it a vector is known to be that of the last one. */
let eventTime = 0;

/** Sends trades of an instrument, and returns the features that they add up to. */
async function stream(features: TickFeatures, instrument: string, from: number, count: number) {
  for (let i = from; i < from + count; i++) {
    eventTime = Math.max(Date.now(), eventTime + 1);
    const message = trade(i, { instrument, eventTime, price: 100 + Math.sin(i) });
    features.update(MarketData.schema.parse(message));
    await send(Buffer.from(JSON.stringify(message)), instrument);
  }
  return { eventTime, values: Float32Array.from(features.vector()) };
}

const stored = (instrument: string, eventTime: number) =>
  waitFor(`features of ${instrument}`, async () => {
    const [read] = await view.read([instrument], Date.now());
    return read !== undefined && "values" in read && read.eventTime === eventTime ? read.values : undefined;
  });

describe("features", () => {
  const features = new TickFeatures();

  it("keeps each instrument's vector up to date with all of its messages", async () => {
    const first = await stream(features, btc, 0, 50);
    const other = await stream(new TickFeatures(), eth, 0, 10);
    expect(await stored(btc, first.eventTime)).toEqual(first.values);
    expect(await stored(eth, other.eventTime)).toEqual(other.values);
  });

  it("skips what is not market data, counts it by its reason, and goes on", async () => {
    await send(Buffer.from("hello"), btc);
    const message = (extra: object) => Buffer.from(JSON.stringify(trade(0, { instrument: btc, ...extra })));
    // What the signal model refuses of the same topic, and what would be the latest for ever.
    await send(message({ eventTime: Date.now() * 1_000 }), btc);
    await send(message({ eventTime: Date.now() + 60_000 }), btc);
    await send(message({ eventTime: Math.floor(Date.now() / 1_000) }), btc);
    await send(message({ price: 1e300 }), btc);
    await send(message({}), eth);
    const next = await stream(features, btc, 50, 1);
    expect(await stored(btc, next.eventTime)).toEqual(next.values);
    const metrics = await (await fetch(`${url}/metrics`)).text();
    for (const [code, count] of [
      ["NOT_JSON", 1],
      ["FUTURE_TIMESTAMP", 2],
      ["PAST_TIMESTAMP", 1],
      ["OUT_OF_RANGE", 1],
      ["WRONG_KEY", 1],
    ]) {
      expect(metrics).toContain(`baton_features_rejected_messages_total{code="${code}"} ${count}`);
    }
  });

  it("commits where it got to, and stops cleanly on SIGTERM", async () => {
    const { code } = await service.end("SIGTERM");
    expect(code).toBe(0);
    const admin = await bus.admin();
    const [ends, committed] = [await admin.offsets(topic), await admin.committed(group, topic)];
    const total = (offsets: Iterable<bigint>) => [...offsets].reduce((sum, offset) => sum + offset, 0n);
    expect(total(committed.values())).toBe(total([...ends.values()].map(({ latest }) => latest)));
    expect(total(committed.values())).toBe(67n);
  });
});
