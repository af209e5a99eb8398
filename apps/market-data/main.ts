import { KafkaBus } from "#runtime/bus/kafka/index.ts";
import { runService } from "#runtime/service/index.ts";
import { ENV } from "./config.ts";
import { MarketDataMetrics } from "./metrics.ts";
import { Feeds, rejections } from "./observe.ts";
import { publish } from "./publish.ts";
import { live, replayed, type Source, simulated } from "./sources.ts";

await runService({
  name: "market-data",
  env: ENV,
  async start({ config, log, registry, health, fatal }) {
    const metrics = new MarketDataMetrics(registry);
    const onRejected = rejections(metrics, log);
    const source = chooseSource();
    const bus = new KafkaBus({ brokers: config.KAFKA_BROKERS, clientId: "market-data" }, registry);
    const admin = await bus.admin();
    await admin.ensureTopics([
      { name: config.TOPIC, partitions: config.PARTITIONS, replicas: config.REPLICAS },
    ]);
    const producer = await bus.producer({ compression: config.COMPRESSION });
    health.check("kafka", () => bus.ping());
    const stop = new AbortController();
    const work = publish(
      {
        ...{ source, producer, onRejected },
        topic: config.TOPIC,
        traceEvery: config.TRACE_EVERY,
        onMessage: () => metrics.messages.inc(),
      },
      stop.signal,
    )
      .then((count) => log.info({ count }, "Market data source exhausted"))
      .catch(fatal);
    return {
      stop: async () => {
        stop.abort();
        await work;
        await bus.close();
      },
    };

    function chooseSource(): Source {
      switch (config.SOURCE) {
        case "simulate":
          return simulated(config.SEED, config.RATE);
        case "replay": {
          if (config.REPLAY_FILE === undefined) throw new Error("SOURCE=replay needs REPLAY_FILE");
          const timeUnit = config.REPLAY_TIME_UNIT === "auto" ? undefined : config.REPLAY_TIME_UNIT;
          return replayed(config.REPLAY_FILE, config.REPLAY_SPEED, {
            ...{ timeUnit, onRejected },
            onTimeUnit: (column, unit) => log.info({ column, unit }, "Time unit derived from the first row"),
            onGap: (row, waitMs) => log.info({ row, waitMs }, "Replay waits for the next row"),
          });
        }
        case "live": {
          const feeds = new Feeds(metrics, log);
          health.check("feeds", () => feeds.check());
          return live(config.LIVE_EXCHANGE, config.LIVE_SYMBOLS, { onRejected, onFeed: feeds.onFeed });
        }
      }
    }
  },
});
