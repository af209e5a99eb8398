import { Counter } from "prom-client";
import * as z from "zod";
import { KafkaBus } from "#runtime/bus/kafka/index.ts";
import type { Batch } from "#runtime/bus/port.ts";
import { checkProgress } from "#runtime/bus/progress.ts";
import { admissionEnv, admissionOf } from "#runtime/config/admission.ts";
import { kinds } from "#runtime/config/index.ts";
import { admit } from "#runtime/contracts/index.ts";
import { FeatureError, FeatureStore } from "#runtime/features/index.ts";
import { TICKS_VIEW, TickFeatures } from "#runtime/market/ticks.ts";
import { Dependency, tripsCounter } from "#runtime/service/dependency.ts";
import { runService } from "#runtime/service/index.ts";

const COMMIT_MS = 1_000;
const WARN_MS = 60_000;
/** Instruments in memory; what is beyond is dropped, oldest first. */
const MAX_INSTRUMENTS = 100_000;

/**
 * Keeps the features of every instrument up to date in the feature store. Rolling state lives in the process: a
 * restart begins it anew from the committed offset, so features warm up again over their half-lives.
 */
await runService({
  name: "features",
  env: {
    KAFKA_BROKERS: kinds.list("Kafka's addresses, host:port separated by commas"),
    REDIS_URL: z.url("not a URL").describe("Redis's address, redis://host:port"),
    TOPICS: kinds.list("topics of market data").default(["md.crypto.main"]),
    GROUP: z.string().describe("consumer group").default("features"),
    ...admissionEnv,
  },
  async start({ config, log, registry, health, fatal }) {
    const { maxFutureMs, ...bounds } = admissionOf(config);
    const store = new FeatureStore({ url: config.REDIS_URL, registry, timeoutMs: 500, maxFutureMs });
    const view = store.view(TICKS_VIEW);
    const bus = new KafkaBus({ brokers: config.KAFKA_BROKERS, clientId: "features" }, registry);
    const rejected = new Counter({
      name: "baton_features_rejected_messages_total",
      help: "Market-data records that were skipped, by reason",
      labelNames: ["code"] as const,
      registers: [registry],
    });
    const states = new Map<string, TickFeatures>();
    const positions = new Map<string, { topic: string; partition: number; offset: bigint }>();
    let warnedAt = 0;
    const stopping = new AbortController();
    const redis = new Dependency({
      name: "redis",
      isAway: (error) => error instanceof FeatureError && error.code !== "BAD_VECTOR",
      trips: tripsCounter(registry),
      log,
      signal: stopping.signal,
    });

    await store.connect();
    const consumer = await bus.consumer({
      group: config.GROUP,
      topics: config.TOPICS,
      from: "latest",
      onBatch,
      onRevoked: ({ topic, partition }) => positions.delete(`${topic}/${partition}`),
      onFatal: fatal,
    });
    const timer = setInterval(() => void commit(), COMMIT_MS);
    health.check("kafka", async () => {
      checkProgress(consumer, Date.now());
      return { partitions: consumer.assignment().length };
    });
    health.check("redis", () => store.ping());

    return {
      stop: async () => {
        stopping.abort();
        clearInterval(timer);
        await commit();
        await bus.close();
        await store.close();
      },
    };

    async function onBatch(batch: Batch): Promise<void> {
      const now = Date.now();
      const changed = new Map<string, { features: TickFeatures; eventTime: number }>();
      for (const record of batch.records) {
        const verdict = admit(record, { maxFutureMs, ...bounds }, now);
        if (!verdict.admitted) {
          // The signal model puts the record with its reason among the dead letters.
          rejected.inc({ code: verdict.code });
          continue;
        }
        const { instrument, eventTime } = verdict.message;
        const features = stateOf(instrument);
        features.update(verdict.message);
        // A late message is in the vector beside the newer ones before it.
        const latest = Math.max(eventTime, changed.get(instrument)?.eventTime ?? 0);
        changed.set(instrument, { features, eventTime: latest });
      }
      const writes = [...changed].map(([entity, { features, eventTime }]) => ({
        entity,
        eventTime,
        values: features.vector(),
      }));
      // Held while Redis is away: what is not written now would be missing for good.
      const results = await redis.ask(() => view.write(writes));
      if (results.includes("future")) warnOfClock(now);
      const last = batch.records.at(-1);
      if (last === undefined) return;
      const { topic, partition } = batch;
      positions.set(`${topic}/${partition}`, { topic, partition, offset: last.offset + 1n });
    }

    /** What was admitted by this clock lies in the future of Redis's. */
    function warnOfClock(now: number): void {
      if (now - warnedAt < WARN_MS) return;
      warnedAt = now;
      log.warn("features are not written: the clock of Redis is behind this one, or this one is ahead");
    }

    function stateOf(instrument: string): TickFeatures {
      let state = states.get(instrument);
      if (state === undefined) {
        state = new TickFeatures();
        if (states.size >= MAX_INSTRUMENTS) states.delete(states.keys().next().value ?? "");
        states.set(instrument, state);
      }
      return state;
    }

    async function commit(): Promise<void> {
      const list = [...positions.values()];
      positions.clear();
      // Offsets are a place to start from, not a promise: a failed commit is made up for by the next.
      if (list.length > 0)
        await consumer.commit(list).catch((error: unknown) => log.debug({ err: error }, "commit"));
    }
  },
});
