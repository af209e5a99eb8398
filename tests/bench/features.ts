import { deflateRawSync, zstdCompressSync } from "node:zlib";
import { Redis } from "ioredis";
import { Registry } from "prom-client";
import { FeatureStore } from "#runtime/features/index.ts";
import { encodeVector, type FeatureView, schemaHash } from "#runtime/features/vector.ts";
import { INSTRUMENTS } from "#runtime/market/instruments.ts";
import { seededRandom } from "#runtime/market/random.ts";
import { MarketSimulator } from "#runtime/market/simulator.ts";
import { TickFeatures } from "#runtime/market/ticks.ts";
import { startRedis } from "#tests/support/processes.ts";
import { alternate, machine, percentile, show, spread, table } from "./table.ts";

// Reads of 1, 10 and 100 entities of 50 features through the store, against bare ioredis reading the same bytes.

const FEATURES = 50;
const ENTITIES = 1_000;
const READS = 2_000;
const RUNS = 5;
const NOW = Date.now();

const view: FeatureView = {
  name: "bench",
  version: 1,
  features: Array.from({ length: FEATURES }, (_, i) => `f${i}`),
  freshMs: 3_600_000,
  ttlMs: 7_200_000,
};
const server = await startRedis();
const store = new FeatureStore({ url: server.url, registry: new Registry(), timeoutMs: 1_000 });
await store.connect();
const bench = store.view(view);
const bare = new Redis(server.url);
const random = seededRandom(1);
const values = () => Array.from({ length: FEATURES }, () => random.normal());
const hash = schemaHash(view);
await bench.write(
  Array.from({ length: ENTITIES }, (_, i) => ({ entity: `e${i}`, eventTime: NOW, values: values() })),
);
const fields = Array.from({ length: FEATURES }, (_, i) => `f${i}`);
const pipeline = bare.pipeline();
for (let i = 0; i < ENTITIES; i++) {
  const vector = encodeVector(view, hash, NOW, values());
  pipeline.set(`raw:${i}`, vector);
  // The usual way: a hash with a field a feature, four bytes each.
  const entries = fields.flatMap((field, f) => [field, vector.subarray(24 + 4 * f, 28 + 4 * f)]);
  pipeline.hset(`hash:${i}`, ...entries);
}
await pipeline.exec();

async function measure(read: (ids: readonly number[]) => Promise<unknown>, entities: number) {
  const times = new Float64Array(READS);
  for (let i = 0; i < READS; i++) {
    const ids = Array.from({ length: entities }, (_, j) => (i * 31 + j * 7) % ENTITIES);
    const started = performance.now();
    await read(ids);
    times[i] = performance.now() - started;
  }
  times.sort();
  return { p50: percentile(times, 0.5), p99: percentile(times, 0.99) };
}

const contestants = {
  "feature store": (ids: readonly number[]) =>
    bench.read(
      ids.map((id) => `e${id}`),
      NOW,
    ),
  "bare MGET of the same bytes": (ids: readonly number[]) => bare.mgetBuffer(ids.map((id) => `raw:${id}`)),
  "bare HMGET of 50 fields": (ids: readonly number[]) =>
    Promise.all(ids.map((id) => bare.hmgetBuffer(`hash:${id}`, ...fields))),
};

console.log(machine());
const rows: string[][] = [];
for (const entities of [1, 10, 100]) {
  const runs = Object.fromEntries(
    Object.entries(contestants).map(([name, read]) => [name, () => measure(read, entities)]),
  );
  // Once before, so that everything is compiled.
  for (const run of Object.values(runs)) await run();
  const results = await alternate(runs, RUNS);
  const base = spread((results.get("bare MGET of the same bytes") ?? []).map((result) => result.p50)).median;
  for (const [name, list] of results) {
    const p50 = spread(list.map((result) => result.p50));
    rows.push([
      String(entities),
      name,
      show(p50, 3),
      show(spread(list.map((result) => result.p99)), 3),
      (p50.median / base).toFixed(2),
    ]);
  }
}
table(
  `Reads of ${FEATURES} features, ${READS} reads a run, ${RUNS} runs: median [least–most]`,
  ["entities", "reader", "p50 ms", "p99 ms", "p50 against MGET"],
  rows,
);

// Whether compressing vectors would pay: real features, one vector and a batch of 100.
const market = new MarketSimulator(1, INSTRUMENTS);
const states = new Map<string, TickFeatures>();
for (let i = 0; i < 50_000; i++) {
  const message = market.next(i);
  const state = states.get(message.instrument) ?? new TickFeatures();
  states.set(message.instrument, state);
  state.update(message);
}
const vectors = [...states.values()].map((state) => {
  const twelve = state.vector();
  return encodeVector(
    view,
    hash,
    NOW,
    Array.from({ length: FEATURES }, (_, i) => twelve[i % 12] ?? 0),
  );
});
const codecs = {
  none: (b: Buffer) => b,
  deflate: (b: Buffer) => deflateRawSync(b),
  zstd: (b: Buffer) => zstdCompressSync(b),
};
const size = (list: readonly Buffer[], codec: (b: Buffer) => Buffer) =>
  list.reduce((sum, b) => sum + codec(b).length, 0) / list.length;
const distinct = [...states.values()].map((state) =>
  encodeVector({ ...view, features: view.features.slice(0, 12) }, hash, NOW, state.vector()),
);
table(
  "Compression of a vector: mean bytes and microseconds to compress one",
  ["codec", "12 features, bytes", "50 features of which 12 differ, bytes", "µs"],
  Object.entries(codecs).map(([name, codec]) => {
    const started = performance.now();
    for (let i = 0; i < 2_000; i++) codec(vectors[i % vectors.length] as Buffer);
    const micros = (performance.now() - started) / 2;
    return [name, size(distinct, codec).toFixed(0), size(vectors, codec).toFixed(0), micros.toFixed(1)];
  }),
);
bare.disconnect();
await store.close();
await server.close();
