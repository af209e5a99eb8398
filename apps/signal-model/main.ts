import * as z from "zod";
import { KafkaBus } from "#runtime/bus/kafka/index.ts";
import { checkProgress } from "#runtime/bus/progress.ts";
import { admissionEnv, admissionOf } from "#runtime/config/admission.ts";
import { kinds } from "#runtime/config/index.ts";
import { FeatureStore } from "#runtime/features/index.ts";
import { redisHaltCache } from "#runtime/handover/halt.ts";
import { ensureDeploymentTopics } from "#runtime/handover/ledger.ts";
import { DecisionWorker } from "#runtime/handover/worker.ts";
import { TICKS_VIEW } from "#runtime/market/ticks.ts";
import { loadModel } from "#runtime/model/index.ts";
import { runService } from "#runtime/service/index.ts";
import { SignalDecider } from "./decider.ts";

const name = z
  .string()
  .regex(/^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$/, "not lower-case letters, digits and '-'");

await runService({
  name: "signal-model",
  env: {
    KAFKA_BROKERS: kinds.list("Kafka's addresses, host:port separated by commas"),
    REDIS_URL: z.url("not a URL").describe("Redis's address, redis://host:port"),
    DEPLOYMENT: name.describe("the deployment's name"),
    REVISION: name.describe("the revision's name"),
    MODEL_URI: z.string().describe("the address of the model's manifest"),
    MODEL_DIGEST: kinds.digest("the digest of the model's manifest"),
    CONFIG_HASH: z
      .string()
      .max(128)
      .describe("the hash of the configuration, which the ledger is told of")
      .optional(),
    MODEL_SERVER: z
      .url("not a URL")
      .describe("an Open Inference Protocol server to run the model")
      .optional(),
    TOPICS: kinds.list("topics of market data").default(["md.crypto.main"]),
    START: z.enum(["earliest", "latest"]).describe("where a new group starts").default("latest"),
    INSTRUMENTS: kinds.list("instruments to decide on; all when absent").optional(),
    ...admissionEnv,
    PARTITIONS: kinds.integer("partitions of the output topic when it is made", 1, 1000).default(4),
    REPLICAS: kinds.integer("replicas of the output topics when they are made", 1, 7).default(1),
    SESSION_TIMEOUT_MS: kinds
      .integer("milliseconds after which a dead worker's partitions go to another", 6_000, 300_000)
      .default(10_000),
    FEATURE_CACHE_MS: kinds
      .integer("how long features are kept in the process; 0 for not at all", 0, 60_000)
      .default(0),
  },
  async start({ config, log, registry, health, tracer, fatal }) {
    const model = await loadModel({
      uri: config.MODEL_URI,
      digest: config.MODEL_DIGEST,
      registry,
      ...(config.MODEL_SERVER === undefined ? {} : { server: config.MODEL_SERVER }),
    });
    const { manifest } = model;
    log.info({ model: manifest.name, version: manifest.version, digest: model.digest }, "model verified");
    if (manifest.featureView.features.join() !== TICKS_VIEW.features.join()) {
      throw new Error(
        `the model was fitted on another feature view than ${TICKS_VIEW.name} ${TICKS_VIEW.version}`,
      );
    }
    const store = new FeatureStore({
      url: config.REDIS_URL,
      registry,
      maxFutureMs: config.EVENT_MAX_FUTURE_MS,
      ...(config.FEATURE_CACHE_MS > 0
        ? { cache: { maxEntries: 10_000, maxAgeMs: config.FEATURE_CACHE_MS } }
        : {}),
    });
    const bus = new KafkaBus({ brokers: config.KAFKA_BROKERS, clientId: "signal-model" }, registry);
    const { DEPLOYMENT: deployment, REVISION: revision } = config;
    const { PARTITIONS: partitions, REPLICAS: replicas } = config;
    await ensureDeploymentTopics(bus, deployment, { partitions, replicas });
    const decider = new SignalDecider({
      features: store.view(TICKS_VIEW),
      model,
      identity: {
        deployment,
        revision,
        model: { name: manifest.name, version: manifest.version, digest: model.digest },
        horizonMs: manifest.horizonMs,
      },
      admission: {
        instruments: config.INSTRUMENTS === undefined ? undefined : new Set(config.INSTRUMENTS),
        ...admissionOf(config),
      },
      registry,
      log,
      tracer,
    });
    const worker = new DecisionWorker({
      bus,
      deployment,
      revision,
      modelDigest: model.digest,
      configuration: config.CONFIG_HASH,
      topics: config.TOPICS,
      from: config.START,
      sessionTimeoutMs: config.SESSION_TIMEOUT_MS,
      haltCache: redisHaltCache(config.REDIS_URL, deployment),
      decide: (batch) => decider.decide(batch),
      onCommitted: (_, decided) => decider.committed(decided),
      registry,
      log,
      fatal,
    });
    await worker.start();
    health.check("model", async () => {
      await model.verify();
      return { name: manifest.name, version: manifest.version, digest: model.digest };
    });
    health.check("redis", () => store.ping());
    health.check("kafka", async () => {
      checkProgress(worker, Date.now());
      return { partitions: worker.assignment().length };
    });
    return {
      stop: async () => {
        decider.stop();
        await worker.stop();
        await bus.close();
        await store.close();
        await model.close();
      },
    };
  },
});
