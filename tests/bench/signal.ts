import { setTimeout as sleep } from "node:timers/promises";
import { Registry } from "prom-client";
import { KafkaBus } from "#runtime/bus/kafka/index.ts";
import { encode, MarketData, SCHEMA_HEADER, topics } from "#runtime/contracts/index.ts";
import { FeatureStore } from "#runtime/features/index.ts";
import { INSTRUMENTS } from "#runtime/market/instruments.ts";
import { MarketSimulator } from "#runtime/market/simulator.ts";
import { TICKS_VIEW, TickFeatures } from "#runtime/market/ticks.ts";
import { claim } from "#tests/support/handover.ts";
import { startBrokers, startRedis } from "#tests/support/processes.ts";
import { signalModel } from "#tests/support/signal-model.ts";
import { waitFor } from "#tests/support/wait.ts";
import { machine, show, spread, table } from "./table.ts";

// signal-model end to end in one process: reads features, runs the ONNX model, commits signals with its offsets.
// A backlog is there before it starts, so that it is the limit.

const COUNT = 100_000;
const RUNS = 3;
const [brokers, redis] = await Promise.all([startBrokers(1), startRedis()]);
const bus = new KafkaBus({ brokers: brokers.addresses, clientId: "bench" });
const admin = await bus.admin();
const store = new FeatureStore({ url: redis.url, registry: new Registry(), timeoutMs: 1_000 });
await store.connect();
const view = store.view(TICKS_VIEW);
const TOPIC = "md.crypto.bench";
await admin.ensureTopics([{ name: TOPIC, partitions: 4 }]);
const market = new MarketSimulator(1, INSTRUMENTS);
const producer = await bus.producer();
const states = new Map<string, TickFeatures>();
await Promise.all(
  Array.from({ length: COUNT }, () => {
    const message = market.next(Date.now());
    const state = states.get(message.instrument) ?? new TickFeatures();
    states.set(message.instrument, state);
    state.update(message);
    const headers = { [SCHEMA_HEADER]: MarketData.id };
    return producer.send({
      topic: TOPIC,
      key: message.instrument,
      value: encode(MarketData, message),
      headers,
    });
  }),
);
await producer.close();
const refresh = () =>
  view.write(
    [...states].map(([entity, state]) => ({ entity, eventTime: Date.now(), values: state.vector() })),
  );
const keep = setInterval(() => void refresh(), 500);
await refresh();

console.log(machine());
const speeds: number[] = [];
const confident: number[] = [];
for (let run = 0; run < RUNS; run++) {
  const deployment = `bench-${run}`;
  const model = await signalModel({
    KAFKA_BROKERS: brokers.addresses.join(),
    REDIS_URL: redis.url,
    TOPICS: TOPIC,
    DEPLOYMENT: deployment,
  });
  const done = async () => {
    const offsets = await admin.committed(`${deployment}.r1`, TOPIC);
    return [...offsets.values()].reduce((sum, offset) => sum + Number(offset), 0);
  };
  await claim(bus, deployment, "r1", TOPIC);
  model.process.start();
  await waitFor("the first signals", async () => (await done()) > 0, 60_000).catch((error: unknown) => {
    console.error(model.process.output);
    throw error;
  });
  const from = await done();
  const started = performance.now();
  while ((await done()) < COUNT) await sleep(20);
  speeds.push((COUNT - from) / ((performance.now() - started) / 1_000));
  const metrics = await (await fetch(`${model.url}/metrics`)).text();
  confident.push(
    Number(/baton_features_reads_total{view="ticks",status="fresh"} (\d+)/.exec(metrics)?.[1] ?? 0),
  );
  await model.process.end("SIGTERM");
  const written = [...(await admin.offsets(topics.signals(deployment))).values()];
  if (written.length === 0) throw new Error("no signals were written");
}
clearInterval(keep);
table(
  `signal-model, one process, ${COUNT} messages, 4 partitions, ${RUNS} runs`,
  ["what", "median [least–most]"],
  [
    ["messages/s from input to committed signal", show(spread(speeds))],
    ["feature vectors read fresh", show(spread(confident))],
  ],
);
await bus.close();
await store.close();
await Promise.all([brokers.close(), redis.close()]);
