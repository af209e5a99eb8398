import { Counter } from "prom-client";
import { KafkaBus } from "#runtime/bus/kafka/index.ts";
import { encode, MarketData, SCHEMA_HEADER } from "#runtime/contracts/index.ts";
import { newTraceparent, runService, TRACE_HEADER } from "#runtime/service/index.ts";
import { ENV } from "./config.ts";
import { live, replayed, type Source, simulated } from "./sources.ts";

/** Records sent and not yet acknowledged; the source waits beyond. */
const MAX_IN_FLIGHT = 20_000;

await runService({
  name: "market-data",
  env: ENV,
  async start({ config, log, registry, health, fatal }) {
    const source = chooseSource();
    const bus = new KafkaBus({ brokers: config.KAFKA_BROKERS, clientId: "market-data" }, registry);
    const admin = await bus.admin();
    await admin.ensureTopics([
      { name: config.TOPIC, partitions: config.PARTITIONS, replicas: config.REPLICAS },
    ]);
    const producer = await bus.producer({ compression: config.COMPRESSION });
    health.check("kafka", () => bus.ping());
    const made = new Counter({
      name: "baton_market_data_messages_total",
      help: "Messages taken from the source",
      registers: [registry],
    });
    const stop = new AbortController();
    const work = publish().catch(fatal);
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
        case "replay":
          if (config.REPLAY_FILE === undefined) throw new Error("SOURCE=replay needs REPLAY_FILE");
          return replayed(config.REPLAY_FILE, config.REPLAY_SPEED);
        case "live":
          return live(config.LIVE_EXCHANGE, config.LIVE_SYMBOLS);
      }
    }

    async function publish(): Promise<void> {
      let inFlight = 0;
      let count = 0;
      let wake = () => {};
      for await (const message of source(stop.signal)) {
        count += 1;
        made.inc();
        const traced = config.TRACE_EVERY > 0 && count % config.TRACE_EVERY === 0;
        inFlight += 1;
        producer
          .send({
            topic: config.TOPIC,
            key: message.instrument,
            value: encode(MarketData, message),
            headers: {
              [SCHEMA_HEADER]: MarketData.id,
              ...(traced ? { [TRACE_HEADER]: newTraceparent(true) } : {}),
            },
          })
          .catch(fatal)
          .finally(() => {
            inFlight -= 1;
            wake();
          });
        if (inFlight < MAX_IN_FLIGHT) continue;
        await new Promise<void>((resolve) => {
          wake = resolve;
        });
      }
      await producer.flush();
      log.info({ count }, "the source has ended");
    }
  },
});
